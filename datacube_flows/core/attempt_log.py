"""What the log of an attempt tells: its counters, and what else it says to a person. Pure.

A log is written by whoever wrote the image, and is not trusted: it is bounded, and what is odd in it is skipped. The
lines are those of `transfers/messages.py`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from datacube_flows.api.status import MAX_MESSAGE, ProgressStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_LINE: Final = 16_384
MAX_COUNT: Final = 2**63 - 1
"""What the API server takes as an int64."""

_RATE_LIMIT: Final = re.compile(r"\brate[- ]limit|\blimits the rate\b", re.IGNORECASE)


@dataclass(frozen=True)
class Told:
    """What the end of a log tells.

    Attributes:
        counters: the newest ones; empty where there are none.
        moved: what changes when something moves.
        rate_limited: the limit that is waited for; "" where bytes moved after it was told; None where none is told.
    """

    counters: dict[str, Any]
    moved: tuple[object, ...]
    rate_limited: str | None


def parse_log(text: str) -> Told:
    """Returns what the lines of an attempt tell (`transfers/messages.py`); whatever else is there is skipped."""
    told = Told({}, (), None)
    for message in _messages(text.splitlines()):
        told = _after_line(told, message)
    return told


def parse_lines(text: str) -> list[str]:
    """Returns what an attempt said to a person, in its order: remarks and the tool's own lines, no counters."""
    said = (message.get("notice") or message.get("log") for message in _messages(text.splitlines()))
    return [words[:MAX_MESSAGE] for words in said if isinstance(words, str)]


def _after_line(told: Told, message: dict[str, Any]) -> Told:
    notice = message.get("notice")
    if isinstance(notice, str) and _RATE_LIMIT.search(notice):
        return replace(told, rate_limited=notice[:MAX_MESSAGE])
    counters = check_counters(message.get("progress"))
    if not counters:
        return told
    is_over = told.rate_limited and told.counters and bytes_done(counters) != bytes_done(told.counters)
    count_of_moved = message["progress"].get("moved")
    moved = (count_of_moved if isinstance(count_of_moved, int) else 0, bytes_done(counters), counters.get("filesDone"))
    return Told(counters, moved, "" if is_over else told.rate_limited)


def check_counters(values: object) -> dict[str, Any]:
    """Returns the fields of `status.progress` that these are; nothing where they are not what an attempt prints."""
    try:
        counters = ProgressStatus.model_validate(values).to_wire()
    except ValidationError:
        return {}
    return counters if all(number <= MAX_COUNT for number in counters.values()) else {}


def _messages(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        if not line.startswith("{") or len(line) > MAX_LINE:
            continue
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(message, dict):
            yield message


def bytes_done(counters: dict[str, Any]) -> object:
    """Returns how many bytes have moved by these counters; None where they do not say."""
    return counters.get("bytesDone")
