"""Flows as users of the library write them: `python -m tests.pipelines.training SCENE FILE` prints what came of one."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow, task

from datacube_flows.pipelines.prefect import TransferFailed, TransferResult, apply_and_wait, apply_and_wait_async


@task
def train(data: TransferResult) -> int:
    return data.files


@flow
def sync_flow(file: str) -> dict[str, Any]:
    data = apply_and_wait(Path(file))
    return asdict(data) | {"trained": train(data)}


@flow
def submitted(file: str) -> dict[str, Any]:
    cube = json.loads(Path(file).read_text())
    futures = [apply_and_wait.submit(cube, rerun=value) for value in ("", "")]
    return asdict(futures[0].result()) | {"same": futures[0].result() == futures[1].result()}


@flow
async def async_flow(file: str) -> dict[str, Any]:
    return asdict(await apply_and_wait_async(Path(file), keep=False, rerun="two"))


@flow
async def failing(file: str) -> dict[str, Any]:
    try:
        await apply_and_wait_async(Path(file).read_text(), keep=False)
    except TransferFailed as error:
        return {"reason": error.reason, "message": error.message, "name": error.name}
    return {}


@flow
def unhandled(file: str) -> None:
    apply_and_wait(file)


@flow
def kept(file: str) -> None:
    apply_and_wait(file)


@flow
def not_kept(file: str) -> None:
    apply_and_wait(file, keep=False)


@flow
def late_in_a_thread(file: str) -> dict[str, Any]:
    future = apply_and_wait.with_options(timeout_seconds=3).submit(file, keep=False)
    future.wait()
    return {"state": future.state.name}


@flow
async def cancelled(file: str) -> dict[str, Any]:
    waiting = asyncio.create_task(apply_and_wait_async(file, keep=False))
    await asyncio.sleep(3)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return {"cancelled": waiting.cancelled()}


def main(scene: str, file: str) -> None:
    found = globals()[scene](file)
    print(json.dumps(asyncio.run(found) if asyncio.iscoroutine(found) else found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
