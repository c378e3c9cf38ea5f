"""Which server Prefect's settings name, and Prefect's settings read once more."""

from __future__ import annotations

from prefect.context import refresh_global_settings_context
from prefect.settings import get_current_settings


def read_settings() -> tuple[str, dict[str, str]]:
    """Reads the environment and Prefect's files anew.

    Returns:
        The address of the API, empty where none is named; and what a process of Prefect's needs in its environment to
        see the same settings.
    """
    refresh_global_settings_context()
    settings = get_current_settings()
    return settings.api.url or "", settings.to_environment_variables(exclude_unset=True)
