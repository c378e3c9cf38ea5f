"""What a person at Prefect's pages sees of a scenario's runs, and does to them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.controller.scenarios_bench import Stage
    from tests.servers.prefect import PrefectServer

Run = dict[str, Any]

SECONDS = 40.0


def server_of(stage: Stage) -> PrefectServer:
    """Returns the Prefect server of a scenario."""
    assert stage.world.prefect is not None
    return stage.world.prefect


async def ask(stage: Stage, method: str, path: str, body: Any = None) -> Any:
    """Returns what the server answers."""
    return await asyncio.to_thread(server_of(stage).ask, method, path, body)


async def runs_of(stage: Stage, name: str = "cube") -> list[Run]:
    """Returns the flow runs of a DataCube."""
    wanted = {"flow_runs": {"name": {"any_": [f"{stage.namespace}/{name}"]}}}
    return list(await ask(stage, "POST", "/flow_runs/filter", wanted))


async def run_of(stage: Stage, holds: Callable[[Run], bool], name: str = "cube") -> Run:
    """Returns the one flow run of a DataCube, as soon as it is so."""
    found: list[Run] = []
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                found = await runs_of(stage, name)
                assert len(found) <= 1
                if found and holds(found[0]):
                    return found[0]
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{name} in Prefect after {SECONDS:.0f} s: {found}") from None


async def run_in(stage: Stage, state: str, name: str = "cube") -> Run:
    """Returns the one flow run of a DataCube, as soon as its state is of this type."""
    return await run_of(stage, lambda run: run["state_type"] == state, name)


async def tasks_are(stage: Stage, run: Run, *wanted: tuple[str, str]) -> None:
    """Returns once the tasks of a flow run have these names and states; the server hears of them a moment later."""
    found: list[tuple[str, str]] = []
    try:
        async with asyncio.timeout(SECONDS):
            while found != sorted(wanted):
                tasks = await ask(stage, "POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
                found = sorted((task["name"], task["state_name"]) for task in tasks)
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"tasks after {SECONDS:.0f} s: {found}") from None


async def artifacts_of(stage: Stage, run: Run) -> list[Any]:
    """Returns key and content of the artifacts of a flow run, by their keys."""
    found = await ask(stage, "POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    return sorted((artifact["key"], artifact["data"]) for artifact in found)


async def cancel(stage: Stage, run: Run) -> None:
    """Presses Cancel."""
    await _set_state(stage, run, "CANCELLING", "Cancelling")


async def retry(stage: Stage, run: Run) -> None:
    """Presses Retry."""
    await _set_state(stage, run, "SCHEDULED", "AwaitingRetry")


async def _set_state(stage: Stage, run: Run, kind: str, name: str) -> None:
    await ask(stage, "POST", f"/flow_runs/{run['id']}/set_state", {"state": {"type": kind, "name": name}})
