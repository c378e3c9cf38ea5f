"""A few threads that work off tasks, which may add more; the first error ends them all. Knows nothing of hubs."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Self

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Callable

    Task = Callable[[], None]

JOIN_SECONDS = 1.0


def stopped() -> TransferError:
    """Returns the failure of an attempt that was told to end."""
    return TransferError(Reason.TRANSFER_ERROR, "the attempt was told to end before it was done")


class Crew:
    """Leaving it without an error waits for every task and raises the first one's error; else it ends the threads.

    It also raises when `stop` was set before every task was done.

    The threads are daemons: one that hangs in a dead connection must not hold an attempt that was told to end.
    """

    def __init__(self, size: int, stop: threading.Event) -> None:
        self._stop = stop
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._change = threading.Condition()
        self._open = 0
        self._error: BaseException | None = None
        self.given_up = threading.Event()
        self._threads = [threading.Thread(target=self._work, name=f"crew-{n}", daemon=True) for n in range(size)]

    def submit(self, task: Task) -> None:
        """Adds a task; a running task may do so."""
        with self._change:
            self._open += 1
        self._tasks.put(task)

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
        for _thread in self._threads:
            self._tasks.put(None)
        until = time.monotonic() + JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
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
