"""What Prefect has to find in the environment before it is imported. Pure, and without Prefect."""

from __future__ import annotations

from typing import Final

CLIENT: Final = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "PREFECT_CLIENT_MAX_RETRIES": "2",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_HANDLERS_DEBUG_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
"""No telemetry; no result on any disk; no start that waits for a server; nothing on the terminal."""


def remote(url: str, home: str) -> dict[str, str]:
    """Returns the settings of a process that uses a server, and starts none of its own where that is away.

    Args:
        url: the server's API; ends in `/api`.
        home: a folder that may be written to.
    """
    return CLIENT | {"PREFECT_API_URL": url, "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false", "PREFECT_HOME": home}
