"""Structured logs: one JSON object a line, of names and reasons only.

An exception is logged by its type and where it came from. Its text is left out unless it is one of our own, whose
texts hold no values: a library's may quote what a user wrote, and that may be a secret. So may what libraries log
themselves: of that, only who said it and where is written.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from contextlib import suppress
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
        self.write("info", message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Writes what went wrong and is dealt with."""
        self.write("warning", message, fields)

    def bug(self, message: str, error: BaseException, **fields: Any) -> None:
        """Writes an exception that nobody expected, with where it came from."""
        self.write("error", message, fields | {"error": type(error).__name__, "trace": frames(error)})

    def write(self, level: str, message: str, fields: dict[str, Any]) -> None:
        """Writes an entry."""
        entry = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "message": message}
        stream = self._stream or sys.stderr
        stream.write(json.dumps(entry | fields, default=str) + "\n")
        stream.flush()


RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
"""Prefect's own logs of runs: that one failed is no warning to whoever runs the operator."""


class LibraryHandler(logging.Handler):
    """Writes that a library warned, and where in its code; never what it said."""

    def __init__(self, target: Log) -> None:
        super().__init__(logging.WARNING)
        self._target = target

    def emit(self, record: logging.LogRecord) -> None:
        """Writes an entry for a record."""
        if record.name.startswith(RUN_LOGGERS):
            return
        fields: dict[str, Any] = {"logger": record.name, "place": f"{record.filename}:{record.lineno}"}
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            fields |= {"error": type(error).__name__, "trace": frames(error)}
        with suppress(OSError, ValueError):  # logging's own way with these is to print the record's text
            self._target.write(record.levelname.lower(), "a library warns", fields)


def log_libraries(target: Log) -> LibraryHandler:
    """Has the warnings of all libraries, and Python's own, go to a log; returns what has to be removed in tests."""
    handler = LibraryHandler(target)
    logging.captureWarnings(capture=True)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    return handler


def frames(error: BaseException) -> list[str]:
    """Returns where an exception came from, outermost first, with those that caused it; none of its values."""
    places = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return places if cause is None else [*frames(cause), f"then {type(error).__name__}", *places]


log = Log()
