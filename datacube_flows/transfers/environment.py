"""Builds the environment of an attempt's tools and libraries from scratch (SECURITY S10). Reads nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def clean_environment(user_env: Mapping[str, str], *, home: Path, path: str = BASE_PATH) -> dict[str, str]:
    """Returns the whole environment of a child: a fixed base, then the user's variables, proxies in both spellings.

    Args:
        user_env: `executor.env`, resolved. A proxy may be `host:port` without a scheme (SPEC section 1).
        home: an empty private folder; it is HOME and TMPDIR.
        path: where tools are found.
    """
    base = {"PATH": path, "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
    return base | dict(user_env) | proxy_variables(user_env)


def proxy_variables(user_env: Mapping[str, str]) -> dict[str, str]:
    """Returns the proxy variables in upper and lower case, with a scheme where the user left it out."""
    found: dict[str, str] = {}
    for name in PROXY_NAMES:
        value = user_env.get(name) or user_env.get(name.lower())
        if not value:
            continue
        if name != "NO_PROXY" and "://" not in value:
            value = f"http://{value}"
        found[name] = found[name.lower()] = value
    return found
