"""An event loop in a thread of its own, on which flow runs execute.

There Prefect leaves the process's signal handlers alone (in a main thread it takes SIGTERM over), and one client of its
server serves all runs.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import Future
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from prefect.context import AsyncClientContext, SyncClientContext

if TYPE_CHECKING:
    from collections.abc import Coroutine

Result = TypeVar("Result")


class FlowThread:
    """Runs coroutines on its own loop; started by the first one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = contextvars.Context()
        self._stop, self._renewal = asyncio.Event(), asyncio.Event()
        self._thread: threading.Thread | None = None
        self._running: set[asyncio.Task[Any]] = set()

    def submit(self, coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Runs a coroutine; cancelling what is returned cancels it. Callable from any thread."""
        loop, outcome = self._started(), Future[Result]()
        loop.call_soon_threadsafe(self._begin, coroutine, outcome)
        return outcome

    async def call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Runs a coroutine, and waits for it on the caller's loop."""
        return await asyncio.wrap_future(self.submit(coroutine))

    def renew(self) -> None:
        """Has whatever begins from now on use a new client; what runs keeps the one that it has."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._renewal.set)

    def stop(self, timeout: float) -> None:
        """Cancels what runs, and ends the thread; it is left behind where that takes longer than `timeout` seconds."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self.renew()
        self._thread.join(timeout)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                ready = Future[asyncio.AbstractEventLoop]()
                self._thread = threading.Thread(
                    target=lambda: asyncio.run(self._live(ready)), name="flows", daemon=True
                )
                self._thread.start()
                self._loop = ready.result()
            return self._loop

    async def _live(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        """The thread's own life: one client for all runs, then an end in which whatever still runs is cancelled.

        And one of the other kind, which asks nothing: each flow would make one, and read all authorities' certificates.
        """
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(AsyncClientContext())
                stack.enter_context(SyncClientContext())
            except BaseException as error:
                ready.set_exception(error)
                raise
            self._context = contextvars.copy_context()
            ready.set_result(asyncio.get_running_loop())
            while await self._renewal.wait() and not self._stop.is_set():
                self._renewal.clear()
                await stack.enter_async_context(AsyncClientContext())
                self._context = contextvars.copy_context()
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def _begin(self, coroutine: Coroutine[Any, Any, Result], outcome: Future[Result]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, context=self._context.copy())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        asyncio.futures._chain_future(task, outcome)  # type: ignore[attr-defined]
