"""Which variables `executor.env` may set (SECURITY S10). Names only; values are never looked at. Pure."""

from __future__ import annotations

from typing import Literal

EnvPolicy = Literal["deny", "allowlist"]


def forbidden_env(name: str, policy: EnvPolicy) -> str | None:
    """Returns why a document may not set the variable, None when it may."""
    if name.startswith(("LD_", "GIT_", "PYTHON")) or name == "PATH":
        return "it would change which code runs"
    return None
