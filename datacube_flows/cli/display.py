"""What a person sees of a run: a bar on a terminal, a plain line every ten seconds elsewhere. All of it on stderr."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from datacube_flows.api.reasons import Reason
from datacube_flows.api.status import DataCubeStatus, Phase
from datacube_flows.words import describe, outcome, summary

LINE_SECONDS = 10.0
HINTS: dict[str, str] = {
    Reason.WAITING_FOR_SECRET: "give it with --secret NAME.KEY=VALUE or NAME.KEY=@FILE, or in one of the files"
}
"""What to do on this machine, where it differs from what a cluster's user does."""


class Display:
    """Shows one document after the other; the engine calls it, also from a thread of its own."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task: Any = None
        self._name = ""
        self._last_line = 0.0

    def begin(self, name: str, title: str) -> None:
        """Announces a document."""
        self._name, self._last_line = name, time.monotonic()
        self._console.print(f"[bold]{escape(name)}[/]  {escape(title)}", highlight=False)
        if self._console.is_terminal:
            columns = (TextColumn("  {task.fields[state]}"), BarColumn(bar_width=30), TextColumn("{task.fields[text]}"))
            self._bar = Progress(*columns, console=self._console, transient=True, refresh_per_second=5)
            self._task = self._bar.add_task("", total=None, state="starting", text="")
            self._bar.start()

    def attempt(self, number: int, attempts: int) -> None:
        """An attempt starts."""
        if number > 1:
            self.line(f"attempt {number} of {attempts}")
            self._show("starting")

    def pause(self) -> None:
        """The run waits for its next attempt."""
        self._show("waiting")

    def progress(self, values: dict[str, Any]) -> None:
        """New counters of the running attempt."""
        text = describe(values)
        if self._bar is not None:
            total = values.get("bytesTotal") or None
            self._show("moving", total=total, completed=values.get("bytesDone", 0), text=text)
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            self.line(text)

    def line(self, text: str, style: str = "dim") -> None:
        """A remark."""
        self._console.print(f"  {text}", style=style, markup=False, highlight=False, soft_wrap=True)

    def end(self, status: DataCubeStatus) -> None:
        """The document's outcome, in one or two lines."""
        self.stop()
        reason, message = outcome(status)
        if status.phase is Phase.SUCCEEDED:
            self.line(f"Succeeded: {summary(status)}", style="green")
            return
        self.line(f"{status.phase}: {reason}", style="bold red" if status.phase is Phase.FAILED else "yellow")
        self.line(message, style="")
        if hint := HINTS.get(reason):
            self.line(hint)

    def _show(self, state: str, *, total: float | None = None, completed: float = 0, text: str = "") -> None:
        if self._bar is not None:
            self._bar.update(self._task, total=total, completed=completed, state=state, text=text)

    def stop(self) -> None:
        """Takes the bar off the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
