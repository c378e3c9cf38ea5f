"""A few threads that work off tasks, which may add more; the first error ends them all. Knows nothing of hubs."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Task = Callable[[], None]

JOIN_SECONDS = 1.0


def stopped() -> TransferError:
    """Returns the failure of an attempt that was told to end."""
    return TransferError(Reason.TRANSFER_ERROR, "the attempt was told to end before it was done")


class Crew:
    """Leaving it without an error waits for every task and raises the first one's error; else it ends the threads.

    It also raises when `stop` was set before every task was done. The threads are daemons: one that hangs in a dead
    connection must not hold an attempt that was told to end.
    """

    def __init__(self, size: int, stop: threading.Event) -> None:
        self._stop = stop
        self._tasks: deque[Task] = deque()
        self._change = threading.Condition()
        self._open = 0
        self._is_over = False
        self._error: BaseException | None = None
        self.given_up = threading.Event()
        self._threads = [threading.Thread(target=self._work, name=f"crew-{n}", daemon=True) for n in range(size)]

    def submit(self, task: Task) -> None:
        """Adds a task behind all others; a running task may do so."""
        with self._change:
            self._open += 1
            self._tasks.append(task)
            self._change.notify_all()

    def submit_next(self, tasks: Iterable[Task]) -> None:
        """Adds tasks before all others, in their order: what was begun is finished before more is begun."""
        ordered = list(tasks)
        with self._change:
            self._open += len(ordered)
            self._tasks.extendleft(reversed(ordered))
            self._change.notify_all()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, *_rest: object) -> None:
        try:
            if kind is None:
                self._wait()
        finally:
            self._end()
        if kind is None and self._error is not None:
            raise self._error
        if kind is None and self._open:
            raise stopped()

    def _wait(self) -> None:
        with self._change:
            while self._open and self._error is None and not self._stop.is_set():
                self._change.wait(0.5)

    def _end(self) -> None:
        self.given_up.set()
        with self._change:
            self._is_over = True
            self._change.notify_all()
        until = time.monotonic() + JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _next(self) -> Task | None:
        with self._change:
            while not self._tasks and not self._is_over:
                self._change.wait()
            return None if self._is_over else self._tasks.popleft()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                if not self.given_up.is_set():
                    task()
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                self._failed(error)
            finally:
                with self._change:
                    self._open -= 1
                    self._change.notify_all()

    def _failed(self, error: BaseException) -> None:
        with self._change:
            self._error = self._error or error
        self.given_up.set()
