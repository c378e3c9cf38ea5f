"""The thread that an S3 transfer runs in does not keep a signal from the attempt."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from datacube_flows.transfers.s3_loop import run_to_end

if TYPE_CHECKING:
    from types import FrameType

pytestmark = pytest.mark.t0


class Told(BaseException):
    """What the handler raises."""


def test_signal_that_the_kernel_hands_to_another_thread_ends_the_wait() -> None:
    cleaned = []

    def end(_number: int, _frame: FrameType | None) -> None:
        raise Told

    async def main() -> None:
        await asyncio.sleep(0.3)  # the caller waits by now
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)
        try:
            await asyncio.sleep(30)
        finally:
            cleaned.append(True)

    previous = signal.signal(signal.SIGUSR2, end)
    began = time.monotonic()
    try:
        with pytest.raises(Told):
            run_to_end(main)
    finally:
        signal.signal(signal.SIGUSR2, previous)
    assert time.monotonic() - began < 5
    assert cleaned == [True]
