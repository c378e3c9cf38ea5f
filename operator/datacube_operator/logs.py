"""Structured logs: one JSON object a line, of names and reasons only.

An exception is logged by its type and where it came from. Its text is left out unless it is one of our own, whose
texts hold no values: a library's may quote what a user wrote, and that may be a secret.
"""

from __future__ import annotations

import json
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TextIO


class Log:
    """Writes entries to a stream; to standard error unless told otherwise."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def info(self, message: str, **fields: Any) -> None:
        """Writes what happened as it should."""
        self._write("info", message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Writes what went wrong and is dealt with."""
        self._write("warning", message, fields)

    def bug(self, message: str, error: BaseException, **fields: Any) -> None:
        """Writes an exception that nobody expected, with where it came from."""
        self._write("error", message, fields | {"error": type(error).__name__, "trace": frames(error)})

    def _write(self, level: str, message: str, fields: dict[str, Any]) -> None:
        entry = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "message": message}
        stream = self._stream or sys.stderr
        stream.write(json.dumps(entry | fields, default=str) + "\n")
        stream.flush()


def frames(error: BaseException) -> list[str]:
    """Returns where an exception came from, outermost first, with those that caused it; none of its values."""
    places = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return places if cause is None else [*frames(cause), f"then {type(error).__name__}", *places]


log = Log()
