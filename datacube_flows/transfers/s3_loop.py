"""Runs the coroutines of an S3 transfer in a thread of their own: a signal then ends the main thread's wait at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

T = TypeVar("T")
GRACE_SECONDS = 20.0
POLL_SECONDS = 0.2
"""A signal that the kernel hands to another thread runs its handler when the main thread next wakes up, not before."""


def run_to_end(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Returns what the coroutine returns; an interrupted caller cancels it and gives it time to clean up."""
    outcome: Future[T] = Future()
    loop = asyncio.new_event_loop()
    task = loop.create_task(main())
    thread = threading.Thread(target=_serve, args=(loop, task, outcome), name="s3", daemon=True)
    try:
        thread.start()
        while not wait([outcome], POLL_SECONDS).done:
            pass
        return outcome.result()
    finally:
        if not outcome.done():
            loop.call_soon_threadsafe(task.cancel)
        if thread.ident is not None:
            thread.join(GRACE_SECONDS)


def _serve(loop: asyncio.AbstractEventLoop, task: asyncio.Task[T], outcome: Future[T]) -> None:
    asyncio.set_event_loop(loop)
    try:
        answer = loop.run_until_complete(task)
    except BaseException as error:  # noqa: BLE001 - it is raised again where the caller waits
        _close(loop)
        outcome.set_exception(error)
    else:
        _close(loop)
        outcome.set_result(answer)


def _close(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


async def work_off(items: Iterable[T], worker: Callable[[T], Awaitable[None]], *, concurrency: int) -> None:
    """Calls the worker with every item, so many at once; the first failure ends all and is raised."""
    queue = iter(items)

    async def take_turns() -> None:
        for item in queue:
            await worker(item)

    await all_or_none([asyncio.create_task(take_turns()) for _ in range(concurrency)])


async def all_or_none(tasks: list[asyncio.Task[None]]) -> None:
    """Waits for all tasks; when one fails, or the caller is cancelled, the others are cancelled and have ended."""
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
