"""What a Prefect server knows of a flow run, as people see it; and a home of Prefect's where a server starts soon."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from tests.cluster.places import places_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Ask = Callable[[str, str, Any], Any]

SECONDS: Final = 15.0
"""Task runs, logs and events are recorded a moment after the run itself has ended."""


@dataclass(frozen=True)
class History:
    """A flow run.

    Attributes:
        tasks: name -> (state, its message).
        states: all states that it was in, in their order.
        artifacts: key -> what it holds.
    """

    run: dict[str, Any]
    states: list[str]
    tasks: dict[str, tuple[str, str]]
    logs: list[str]
    artifacts: dict[str, Any]

    @property
    def state(self) -> tuple[str, str]:
        """How it ended, and what is said of that."""
        return self.run["state"]["name"], self.run["state"]["message"] or ""


def make_home(home: Path) -> None:
    """Makes a home of Prefect's, with an empty database where one was kept: to make one takes a first start long."""
    home.mkdir()
    kept = places_from(os.environ).cache / f"prefect-{version('prefect')}.sqlite"
    if kept.exists():
        shutil.copyfile(kept, home / "prefect.db")


def newest_history(ask: Ask, *, tasks: int, name: str | None = None) -> History:
    """Returns the newest flow run, once as many of its tasks as it should have are recorded with their ends."""
    until = time.monotonic() + SECONDS
    while not _is_recorded(found := _history(ask, name), tasks):
        assert time.monotonic() < until, found
        time.sleep(0.2)
    return found


def _is_recorded(history: History, tasks: int) -> bool:
    ended = history.tasks.values()
    return len(ended) >= tasks and not {"Running", "Pending", "Scheduled"} & {state for state, _ in ended}


def _history(ask: Ask, name: str | None) -> History:
    named = {"flow_runs": {"name": {"any_": [name]}}} if name else {}
    run = ask("POST", "/flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": 1, **named})[0]
    only = {"flow_run_id": {"any_": [run["id"]]}}
    tasks = ask("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    logs = ask("POST", "/logs/filter", {"logs": only, "sort": "TIMESTAMP_ASC"})
    artifacts = ask("POST", "/artifacts/filter", {"artifacts": only})
    return History(
        run,
        [state["name"] for state in ask("GET", f"/flow_run_states/?flow_run_id={run['id']}", None)],
        {task["name"]: (task["state"]["name"], task["state"]["message"] or "") for task in tasks},
        [log["message"] for log in logs],
        {artifact["key"]: artifact["data"] for artifact in artifacts},
    )
