"""Which run a DataCube's status is about, and what is to become of it. Pure.

One run is one hash of uid and re-run annotation (SPEC section 5). A run that was begun is followed to its end before
another begins. While a DataCube is suspended, its template may be run by a workflow of somebody else's: the status then
follows that one's pods, and it is never stopped from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.core import labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from datacube_operator.cube import Cube

WORKFLOW_LABEL: Final = "workflows.argoproj.io/workflow"
"""Argo's own label on the pods of a workflow."""


class Course(Enum):
    """What is to be done about a run."""

    START = "start"
    FOLLOW = "follow"
    HOLD = "hold"
    REST = "rest"


@dataclass(frozen=True)
class Choice:
    """A run by name, and what is to be done about it.

    Attributes:
        run: its name.
        course: start it, follow it, hold it, or let it rest since it ended.
        is_foreign: whether somebody else's workflow runs it.
    """

    course: Course
    run: str
    is_foreign: bool = False


@dataclass(frozen=True)
class ForeignRun:
    """Somebody else's workflow that runs a DataCube's template."""

    name: str
    pods: tuple[Mapping[str, Any], ...]
    created: datetime


def choose_run(
    cube: Cube, wanted: str, *, is_own: Callable[[str], bool], foreign: ForeignRun | None, has_wanted: bool
) -> Choice:
    """Returns which run counts now.

    Args:
        cube: the DataCube.
        wanted: the run that uid and annotation ask for.
        is_own: whether a run's name is one that the operator gives.
        foreign: the newest run of its template by somebody else.
        has_wanted: whether the wanted run exists; after a foreign one, it is not begun a second time.
    """
    if cube.is_active and is_own(cube.run):
        return Choice(Course.HOLD if cube.is_suspended else Course.FOLLOW, cube.run)
    if foreign is not None and _is_news(cube, foreign):
        return Choice(Course.FOLLOW, foreign.name, is_foreign=True)
    if cube.is_active:
        return Choice(Course.FOLLOW, cube.run, is_foreign=True)
    if cube.is_final:
        is_wanted = not cube.is_suspended and _asks_again(cube, wanted, is_own=is_own, has_wanted=has_wanted)
        return Choice(Course.START, wanted) if is_wanted else Choice(Course.REST, cube.run)
    return Choice(Course.HOLD if cube.is_suspended else Course.START, wanted)


def _is_news(cube: Cube, foreign: ForeignRun) -> bool:
    """Whether a foreign run is another one than the status speaks of, and later than it."""
    if not cube.is_suspended and not cube.is_active:
        return False
    ended = cube.status.completion_time
    return foreign.name != cube.run and (ended is None or foreign.created >= ended)


def _asks_again(cube: Cube, wanted: str, *, is_own: Callable[[str], bool], has_wanted: bool) -> bool:
    """Whether the annotation asks for another run than the one that ended; one that was taken away asks for nothing."""
    return bool(cube.rerun) and (cube.run != wanted if is_own(cube.run) else not has_wanted)


def newest_foreign(pods: Iterable[Mapping[str, Any]]) -> ForeignRun | None:
    """Returns the newest run of somebody else's among the attempts of a DataCube, which bear no run of the operator."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for pod in pods:
        found = pod["metadata"].get("labels") or {}
        if not found.get(labels.RUN) and found.get(WORKFLOW_LABEL):
            groups.setdefault(found[WORKFLOW_LABEL], []).append(pod)
    runs = [ForeignRun(name, tuple(group), max(map(_created, group))) for name, group in groups.items()]
    return max(runs, key=lambda run: run.created, default=None)


def _created(pod: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
