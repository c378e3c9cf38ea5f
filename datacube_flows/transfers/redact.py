"""Removes secret values from text: raw, URL-encoded once and twice, and base64 (SECURITY S06). Knows no source of them."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK = "***"
MIN_SECRET = 4
"""Shorter values are not masked: they stand in ordinary words, and masking them would hide every message."""

_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|\x1b\[[0-9;?]*[A-Za-z]")


class Redactor:
    """Masks the given values, and the user part of any URL."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {f for s in secrets for part in (s, *s.splitlines()) if len(part) >= MIN_SECRET for f in _forms(part)}
        ordered = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """Returns `text` without any secret, and without control characters that could dress up a terminal."""
        clean = _CONTROL.sub("", text)
        if self._pattern is not None:
            clean = self._pattern.sub(MASK, clean)
        return _USERINFO.sub(MASK, clean)


def _forms(secret: str) -> set[str]:
    once = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    once |= {re.sub(r"%[0-9A-F]{2}", lambda m: m.group().lower(), f) for f in once}
    twice = {quote(f, safe="") for f in once}
    return {secret, *once, *twice, *_base64_forms(secret.encode())}


def _base64_forms(raw: bytes) -> set[str]:
    """Base64 of the value at each of the three alignments, without the characters that its neighbours influence."""
    forms = set()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms.add(encode(raw).decode().rstrip("="))
        for shift in (0, 1, 2):
            text = encode(b"\0" * shift + raw).decode().rstrip("=")
            start = (0, 2, 3)[shift]
            end = len(text) - (0 if (len(raw) + shift) % 3 == 0 else 1)
            if end - start >= 2 * MIN_SECRET:
                forms.add(text[start:end])
    return forms
