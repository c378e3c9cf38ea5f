"""Removes secret values from text: raw, URL-encoded, in JSON and in base64 (SECURITY S06). Knows no source of them."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK = "***"
MIN_SECRET = 4
"""Shorter values are not masked: they stand in ordinary words, and masking them would hide every message."""

_USERINFO = re.compile(r"(?<=://)[^/\s'\"]+(?=@)")
_URL_USER = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/\s]+)@")
_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]"  # colours and the like
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    r"|[\u200b-\u200f\u2028-\u202e\u2066-\u2069]"  # what turns or hides the text beside it
)


class Redactor:
    """Masks the given values, and the user part of any URL."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        parts = {p for s in secrets for line in (s, *s.splitlines()) for p in (line, _clean(line))}
        known = sorted((p for p in parts if len(p) >= MIN_SECRET), key=len, reverse=True)
        patterns = [_encoded(s) for s in known] + [re.escape(_clean(f)) for s in known for f in _forms(s)]
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def __call__(self, text: str) -> str:
        """Returns `text` without any secret, and without characters that could dress up a terminal."""
        clean = _clean(text)
        if self._pattern is not None:
            clean = self._pattern.sub(MASK, clean)
        return _USERINFO.sub(MASK, clean)

    def finds(self, text: str) -> bool:
        """Whether a secret stands in the text, in any of its forms."""
        return self._pattern is not None and self._pattern.search(_clean(text)) is not None


def _clean(text: str) -> str:
    """The text without control characters; bytes that are no UTF-8 (in a file's name) become `?`."""
    return _CONTROL.sub("", text.encode("utf-8", "replace").decode())


def url_secrets(value: str) -> list[str]:
    """Returns the credentials that stand in a URL, as written and decoded: the password, or a user without one."""
    match = _URL_USER.match(value)
    if match is None:
        return []
    user, _, password = match[1].partition(":")
    secret = password or user
    return list(dict.fromkeys((secret, unquote(secret))))


def _encoded(secret: str) -> str:
    """Pattern of the secret with any of its characters percent-encoded, any number of times."""
    return "".join(_encoded_character(c) for c in secret)


def _encoded_character(character: str) -> str:
    if character.isascii() and character.isalnum():
        return character
    plus = r"\+|%(?:25)*2[Bb]|" if character == " " else ""
    percent = "".join(f"%(?:25)*(?i:{byte:02x})" for byte in character.encode("utf-8", "replace"))
    return f"(?:{percent}|{plus}{re.escape(character)})"


def _forms(secret: str) -> set[str]:
    quoted = {json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    quoted |= {re.sub("[<>&]", lambda m: f"\\u{ord(m.group()):04x}", q) for q in quoted}  # as Go writes it
    return (quoted - {secret}) | _base64_forms(secret.encode("utf-8", "replace"))


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
