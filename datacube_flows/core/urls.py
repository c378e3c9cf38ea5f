"""Which URLs a transfer may speak to (SECURITY S07). Pure, and small: an attempt checks its resolved options with it.

A message names what is wrong and never the URL: it may hold a token.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

KNOWN_SCHEMES: Final = ("https", "http")
"""What can be allowed at all; which of them are is the operator's setting."""

_CONTROL: Final = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_SCHEME: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)(://|::)")
_SCP_LIKE: Final = re.compile(r"[^/:]+:(?!//)")


def check_url(url: str, allowed_schemes: tuple[str, ...] = ("https",)) -> str | None:
    """Returns what is wrong with a URL, None when it may be spoken to."""
    if _CONTROL.search(url):
        return "the URL holds a blank, a backslash or a control character"
    if url.startswith("-"):
        return "the URL begins with '-'"
    return _check_scheme(url, allowed_schemes) or _check_host(url)


def _check_scheme(url: str, allowed_schemes: tuple[str, ...]) -> str | None:
    allowed = " or ".join(f"{s}://" for s in allowed_schemes)
    match = _SCHEME.match(url)
    if match is None:
        if _SCP_LIKE.match(url):
            return f"this is an SSH address, and there is no option for an SSH key: use {allowed} with option 'token'"
        return f"the URL has no scheme: it has to begin with {allowed}"
    if match["scheme"] == "ssh":
        return f"ssh:// is refused, since there is no option for an SSH key: use {allowed} with option 'token'"
    if match["scheme"] == "http" and match[2] != "::" and "http" not in allowed_schemes:
        return "plain HTTP is not allowed here: use https://, or let it be allowed (datacube run --allow-http)"
    if match[2] == "::" or match["scheme"] not in allowed_schemes:
        return f"the URL's scheme is not allowed: it has to begin with {allowed}"
    return None


def _check_host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return "the URL's host or port cannot be read"
    if not host or host.startswith("-"):
        return "the URL names no host"
    return None


def repository_name(url: str) -> str:
    """Returns the folder name that git gives a clone of the URL: its last part without `.git` (SPEC section 3).

    Empty where the URL names no repository, or one whose name cannot be a folder's.
    """
    path = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/]*", "", url)
    name = re.split(r"[/:]", path.rstrip("/"))[-1].removesuffix(".git")
    return "" if name in ("", ".", "..", ".datacube") else name
