"""Who is in the way of a run: two that overlap on one claim, one of them writing, do not run at once (SPEC section 5).

No lock is written anywhere. One replica decides at a time; a path is held by whoever's status records a run that has
not ended, and by every pod that still lives, whatever became of its DataCube. Those that wait go by their age.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datacube_flows.api.reasons import Reason
from datacube_flows.core.observation import PodPhase
from datacube_flows.core.observe_pod import observe_pod
from datacube_operator.cube import Cube, claim_key, path_use_of, path_use_of_pod

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from datacube_flows.core.path_use import PathUse


def find_rivals(cube: Cube, use: PathUse, documents: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields the other DataCubes whose paths overlap with what one uses; most of a claim's do not."""
    for document in documents:
        theirs = path_use_of(document)
        if theirs is not None and theirs.cube != cube.name and use.conflicts_with(theirs):
            yield document


def find_blocker(
    cube: Cube,
    use: PathUse,
    rivals: Iterable[Cube],
    pods: Iterable[Mapping[str, Any]],
    *,
    taken: Collection[str] = (),
) -> PathUse | None:
    """Returns whom a DataCube that is ready to run has to wait for.

    Args:
        cube: the one that is ready; it holds nothing yet.
        use: what it uses.
        rivals: see `find_rivals`.
        pods: all pods that mount its claim; one of its own is left from a run that was held, and may still write.
        taken: uids that took their path a moment ago, which their status may not show yet.
    """
    for other in rivals:
        if other.is_active or other.uid in taken or (_is_waiting(other) and other.order < cube.order):
            return path_use_of(other.document)
    for pod in pods:
        theirs = path_use_of_pod(pod)
        if theirs is not None and use.conflicts_with(theirs) and is_living(pod):
            return theirs
    return None


def is_living(pod: Mapping[str, Any]) -> bool:
    """Whether the transfer in a pod may still move bytes."""
    return observe_pod(pod).phase not in (PodPhase.SUCCEEDED, PodPhase.FAILED)


def claims_let_go(pod: Mapping[str, Any]) -> list[str]:
    """Returns the key of the claim whose path a pod no longer uses, or will not for long."""
    use = path_use_of_pod(pod)
    is_going = "deletionTimestamp" in pod["metadata"] or not is_living(pod)
    return [claim_key(pod["metadata"]["namespace"], use.claim)] if use and is_going else []


def _is_waiting(cube: Cube) -> bool:
    """Whether it would run if its path were free, or has not been looked at yet."""
    may_begin = not cube.is_suspended and not cube.is_going
    return may_begin and (cube.status.phase is None or cube.waits_for == Reason.PATH_BUSY)
