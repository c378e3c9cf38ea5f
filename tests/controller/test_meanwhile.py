from __future__ import annotations

import asyncio

import pytest
from datacube_operator.meanwhile import meanwhile

pytestmark = [pytest.mark.t0, pytest.mark.anyio]


async def test_work_is_done_beside_the_block_and_its_failure_is_met_where_it_is_awaited() -> None:
    told: list[str] = []

    async def work() -> None:
        told.append("begun")
        await asyncio.sleep(0)
        raise KeyError("its own")

    async with meanwhile(work()) as working:
        await asyncio.sleep(0.01)
        told.append("block")
    assert told == ["begun", "block"]
    with pytest.raises(KeyError, match="its own"):
        await working


async def test_work_is_given_up_when_the_block_fails() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("given up")

    async def fail() -> None:
        async with meanwhile(work()):
            await asyncio.sleep(0)
            raise ValueError("the block")

    with pytest.raises(ValueError, match="the block"):
        await fail()
    assert ended == ["given up"]
