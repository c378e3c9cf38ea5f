"""Looks at something again and again while a block runs. Knows nothing of what it looks at."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def polled(look: Callable[[], None], *, seconds: float) -> Iterator[None]:
    """Calls `look` every so many seconds, in a thread of its own, while the block runs; never after it."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(seconds):
            look()

    thread = threading.Thread(target=run, name=look.__qualname__, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
