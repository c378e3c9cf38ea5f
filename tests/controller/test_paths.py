"""Who waits for whom, and who is told when a path gets free."""

from __future__ import annotations

from typing import Any

import pytest
from datacube_operator.cube import Cube
from datacube_operator.path_queue import PathQueue
from datacube_operator.paths import claims_let_go, find_blocker, find_rivals, is_living

from datacube_flows.core.path_use import PathUse
from tests.controller.decision_objects import cube_named, made, plan_of, pod_of, status_of, workflow_of
from tests.controller.scenarios_documents import download, upload

pytestmark = pytest.mark.t0

Object = dict[str, Any]

ME = cube_named("me", age=5)
USE = PathUse("me", "data", "set", writes=True)
PATH_BUSY = status_of("Pending", Initialized="PathBusy")


@pytest.mark.parametrize(
    ("document", "is_rival"),
    [
        (download("other"), True),
        (download("other", sub_path="set/part"), True),
        (download("other", sub_path=""), True),
        (upload("other"), True),
        (download("other", sub_path="set-2"), False),
        (download("other", claim="more"), False),
        (download("me"), False),
        ({"metadata": {"name": "other"}, "spec": {}}, False),
    ],
)
def test_rivals_are_those_whose_paths_overlap(document: Object, *, is_rival: bool) -> None:
    assert list(find_rivals(ME, USE, [document])) == ([document] if is_rival else [])


@pytest.mark.parametrize(
    ("other", "blocks"),
    [
        pytest.param(cube_named("other", status_of("Running", "r", states="TFF"), age=1), True, id="younger, runs"),
        pytest.param(cube_named("other", status_of("Pending", "r"), age=1), True, id="younger, began"),
        pytest.param(cube_named("other", status_of("Suspended", "r"), age=1), True, id="held by hand in Argo"),
        pytest.param(cube_named("other", PATH_BUSY, age=9), True, id="older, waits for a path"),
        pytest.param(cube_named("other", PATH_BUSY, age=1), False, id="younger, waits for a path"),
        pytest.param(
            cube_named("other", status_of("Pending", states="TFF", Complete="PathBusy"), age=9),
            True,
            id="older, waits for a path once more",
        ),
        pytest.param(cube_named("other", age=9), True, id="older, not looked at yet"),
        pytest.param(cube_named("other", age=9, suspend=True), False, id="older, held from the start"),
        pytest.param(cube_named("other", PATH_BUSY, age=9, suspend=True), False, id="older, held while it waited"),
        pytest.param(
            cube_named("other", status_of("Pending", Initialized="WaitingForVolume"), age=9), False, id="no claim"
        ),
        pytest.param(cube_named("other", status_of("Succeeded", "r", states="TTF"), age=9), False, id="ended"),
    ],
)
def test_cube_waits_for_whoever_runs_or_came_before(other: Cube, *, blocks: bool) -> None:
    found = find_blocker(ME, USE, [other], [])
    assert (found and found.cube) == ("other" if blocks else None)


def test_cube_that_is_being_deleted_goes_before_nobody() -> None:
    document = made(download("other"), age=9, deletionTimestamp="2026-01-01T00:00:00Z")
    assert find_blocker(ME, USE, [Cube(document, cube_named("x", PATH_BUSY).status)], []) is None
    assert find_blocker(ME, USE, [Cube(document, cube_named("x", status_of("Running", "r")).status)], []) is not None


def test_cube_waits_for_one_that_takes_its_path_now() -> None:
    other = cube_named("other", age=1)
    assert find_blocker(ME, USE, [other], []) is None
    assert find_blocker(ME, USE, [other], [], taken={other.uid}) is not None


def test_of_two_of_the_same_second_one_goes_first() -> None:
    first, second = sorted((cube_named("a"), cube_named("b")), key=lambda cube: cube.order)
    assert find_blocker(first, USE, [second], []) is None
    assert find_blocker(second, USE, [first], []) is not None


def pod(phase: str = "Running", *, document: Object | None = None, **metadata: Any) -> Object:
    plan = plan_of(made(document or download("other")))
    found = pod_of(plan, workflow_of(plan), phase)
    found["metadata"] |= metadata
    return found


GOING = {"deletionTimestamp": "2026-01-01T00:00:30Z"}


@pytest.mark.parametrize(
    ("found", "blocks"),
    [
        pytest.param(pod("Pending"), True, id="pending"),
        pytest.param(pod("Running"), True, id="runs"),
        pytest.param(pod("Running", **GOING), True, id="still runs"),
        pytest.param(pod("Unknown"), True, id="on a lost node"),
        pytest.param(pod("Succeeded"), False, id="succeeded"),
        pytest.param(pod("Failed"), False, id="failed"),
        pytest.param(pod(document=download("other", sub_path="elsewhere")), False, id="another path"),
        pytest.param(pod(document=upload("other")), True, id="reads what would be written"),
        pytest.param(pod(document=download("me")), True, id="own, of before"),
    ],
)
def test_cube_waits_for_living_pods_whoever_owns_them(found: Object, *, blocks: bool) -> None:
    assert (find_blocker(ME, USE, [], [found]) is not None) == blocks


def test_pod_whose_transfer_is_done_is_not_waited_for_although_others_of_its_containers_run() -> None:
    found = pod("Succeeded")
    found["status"]["phase"] = "Running"
    assert not is_living(found)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (pod("Running"), []),
        (pod("Pending"), []),
        (pod("Running", **GOING), ["team/data"]),
        (pod("Succeeded"), ["team/data"]),
        (pod("Failed"), ["team/data"]),
        ({"metadata": {"name": "p", "namespace": "n"}, "spec": {}, "status": {"phase": "Failed"}}, []),
    ],
)
def test_pod_lets_go_of_its_claim_when_it_ends_or_goes(found: Object, told: list[str]) -> None:
    assert claims_let_go(found) == told


def test_queue_tells_those_of_a_claim_once_and_keeps_nothing() -> None:
    told: list[str] = []
    queue = PathQueue(told.append)
    queue.wait("n/data", "n/a")
    queue.wait("n/data", "n/a")
    queue.wait("n/data", "n/b")
    queue.wait("n/more", "n/c")
    queue.wake("n/data")
    queue.wake("n/data")
    assert sorted(told) == ["n/a", "n/b"]
    assert len(queue) == 1
    queue.wake("n/more")
    queue.wake("n/nobody")
    assert len(queue) == 0
