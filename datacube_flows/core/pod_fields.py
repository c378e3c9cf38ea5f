"""Reads fields of objects that nobody has validated: a field that is absent, or of another type, is no error. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

MAX_SENTENCE: Final = 300
MAX_NUMBER: Final = 2**31
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def field_at(value: object, *path: str) -> object:
    """Returns what stands at a path of keys, None where anything on the way is missing."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def text_at(value: object, *path: str) -> str:
    """Returns the text at a path, "" where there is none."""
    found = field_at(value, *path)
    return found if isinstance(found, str) else ""


def int_at(value: object, *path: str) -> int | None:
    """Returns the whole number at a path (one that Kubernetes' int32 holds), None where there is none."""
    found = field_at(value, *path)
    if not isinstance(found, int) or isinstance(found, bool):
        return None
    return found if -MAX_NUMBER <= found < MAX_NUMBER else None


def moment_at(value: object, *path: str) -> datetime | None:
    """Returns the moment at a path; what never happened has the epoch, or null, instead of one, and gives None."""
    try:
        moment = datetime.fromisoformat(text_at(value, *path))
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment if timedelta(days=1) < moment - EPOCH else None


def items_at(value: object, *path: str) -> list[Mapping[str, object]]:
    """Returns the objects of the list at a path."""
    found = field_at(value, *path)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list | tuple) else []


def sentence(value: object, *path: str) -> str:
    """Returns the text at a path as something to quote: one line, no control characters, cut where it is long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text_at(value, *path)).split()).rstrip(".")
    return text if len(text) <= MAX_SENTENCE else f"{text[: MAX_SENTENCE - 3]}..."
