"""What a running attempt says on standard output: one JSON object a line, redacted. Also watches for a stall.

Where Argo runs it, progress goes to Argo's file too, for Argo's own pages.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

from datacube_flows.transfers.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from datacube_flows.transfers.base import Attempt


MAX_TEXT = 8192
"""Characters of one remark or log entry; a stack trace fits (SECURITY S26)."""


class MessageWriter:
    """Writes messages; a line is written whole or not at all.

    Args:
        stream: takes the lines.
        redact: masks what must not be shown.
        argo_file: where Argo reads `done/total`; None where nobody does.
    """

    def __init__(self, stream: IO[str], redact: Redactor | None = None, *, argo_file: Path | None = None) -> None:
        self._stream, self._argo_file = stream, argo_file
        self._lock = threading.Lock()
        self.redact = redact or Redactor()

    def progress(self, values: dict[str, Any]) -> None:
        """Counters, as `status.progress` shows them."""
        self._write({"progress": values})
        if self._argo_file is not None and values.get("bytesTotal"):
            with suppress(OSError):  # the transfer goes on, and status knows its progress from the line
                tell_argo(self._argo_file, values["bytesDone"], values["bytesTotal"])

    def notice(self, text: str) -> None:
        """A remark that a person should see once."""
        self._write({"notice": self.redact(text)[:MAX_TEXT]})

    def log(self, text: str) -> None:
        """Detail for whoever looks for a cause."""
        self._write({"log": self.redact(text)[-MAX_TEXT:]})

    def _write(self, message: dict[str, Any]) -> None:
        line = json.dumps(message, ensure_ascii=False, separators=(",", ":")) + "\n"
        with self._lock:
            try:
                self._stream.write(line)
                self._stream.flush()
            except (BrokenPipeError, ValueError):
                return  # nobody listens any more; the report still reaches its file


def tell_argo(file: Path, done: int, total: int) -> None:
    """Writes `done/total` into the file, whole: Argo's executor ends at a line that lacks the slash.

    https://argo-workflows.readthedocs.io/en/latest/progress/
    """
    part = file.with_name(f"{file.name}.part")
    part.write_text(f"{max(0, min(done, total))}/{total}\n")
    part.replace(file)


class Ticker:
    """A thread that writes progress at an interval and calls `on_stall` once when nothing moved for too long."""

    def __init__(
        self, attempt: Attempt, writer: MessageWriter, *, interval: float, on_stall: Callable[[], None]
    ) -> None:
        self._attempt, self._writer, self._interval, self._on_stall = attempt, writer, interval, on_stall
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)
        self._rate = RateMeter()
        self._told = 0

    def start(self) -> None:
        """Begins to tick."""
        self._thread.start()

    def finish(self) -> None:
        """Writes the last counters and ends the thread."""
        self._done.set()
        self._thread.join()
        self._tell()

    def _run(self) -> None:
        moved, since = -1, time.monotonic()
        limit = self._attempt.settings.stall_timeout
        while not self._done.wait(min(self._interval, 1.0) if limit else self._interval):
            self._tell()
            now = self._attempt.progress.snapshot().moved
            if now != moved:
                moved, since = now, time.monotonic()
            elif limit and time.monotonic() - since >= limit:
                self._on_stall()
                return

    def _tell(self) -> None:
        for text in self._attempt.progress.notices[self._told :]:
            self._writer.notice(text)
            self._told += 1
        self._writer.progress(self._rate.progress(self._attempt, time.monotonic()))


class RateMeter:
    """Turns counters into rate and remaining time, over a sliding half minute."""

    WINDOW_SECONDS = 30.0

    def __init__(self) -> None:
        self._points: list[tuple[float, int]] = []

    def progress(self, attempt: Attempt, now: float) -> dict[str, Any]:
        """Returns the fields of `status.progress`, and `moved`; percent and ETA are absent while the total is unknown.

        Only `moved`, which status does not show, tells a stall from work that moves no bytes, such as checking them.
        """
        counters = asdict(attempt.progress.snapshot())
        done, total = counters["bytes_done"], counters["bytes_total"]
        self._points = [(t, b) for t, b in self._points if now - t <= self.WINDOW_SECONDS] + [(now, done)]
        (start, before) = self._points[0]
        rate = max(0, int((done - before) / (now - start))) if now > start else 0
        values: dict[str, Any] = {
            "bytesDone": done,
            "bytesTotal": total,
            "filesDone": counters["files_done"],
            "filesTotal": counters["files_total"],
            "bytesPerSecond": rate,
            "moved": counters["moved"],
        }
        if total:
            values["percent"] = min(100, done * 100 // total)
        if rate and total:
            values["etaSeconds"] = max(0, (total - done) // rate)
        return values
