"""The watchdog: when Argo is helped, when a workflow is shut down, and when neither."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import timedelta

import pytest

from datacube_flows.core import labels
from datacube_flows.engines.argo_trim import trim_pod, trim_workflow
from datacube_flows.engines.argo_watchdog import TERMINATION, Watch, watchdog
from tests.argo_scenes import Scene, read_scene

pytestmark = pytest.mark.t0

QUIET = "image locked lost-backoff provisioning quota running running-noted secret success-early suspended"


def watch(scene: Scene, seconds: float) -> Watch:
    """What is to be done some time later; the same for what is kept of the objects."""
    now = scene.now + timedelta(seconds=seconds)
    kept = scene.workflow and trim_workflow(scene.workflow)
    found = watchdog(scene.workflow, scene.pods, now)
    assert watchdog(kept, tuple(map(trim_pod, scene.pods)), now) is found
    return found


def hanging(case: str) -> Scene:
    """A run whose pods have ended, one of whose results Argo waits for."""
    scene = read_scene(case)
    workflow = copy.deepcopy(scene.workflow)
    assert workflow is not None
    workflow["status"]["phase"] = "Running"
    for node in workflow["status"]["nodes"].values():
        if node["type"] == "Pod":
            node["taskResultSynced"] = False
    return replace(scene, workflow=workflow)


@pytest.mark.parametrize("case", ["success", "denied"])
def test_workflow_that_waits_for_a_result_is_helped_and_then_ended(case: str) -> None:
    scene = hanging(case)
    assert watch(scene, 60) is Watch.NOTHING
    assert watch(scene, 200) is Watch.REPORT
    assert watch(scene, 800) is Watch.TERMINATE
    assert watch(replace(scene, pods=()), 200) is Watch.REPORT


@pytest.mark.parametrize("case", ["deadline-first", "lost"])
def test_workflow_that_may_have_another_attempt_is_helped_and_not_ended(case: str) -> None:
    assert watch(hanging(case), 86400) is Watch.REPORT


def test_result_of_a_pod_that_runs_is_waited_for() -> None:
    assert watch(hanging("running"), 3600) is Watch.NOTHING


@pytest.mark.parametrize("case", QUIET.split())
def test_workflow_that_waits_for_something_else_is_left_alone(case: str) -> None:
    """Also where Argo's controller does not run: it goes on when it is back."""
    assert watch(read_scene(case), 3600) is Watch.NOTHING


@pytest.mark.parametrize("case", ["success", "denied", "deadline", "terminated", "template", "rejected"])
def test_workflow_that_has_ended_is_left_alone(case: str) -> None:
    assert watch(read_scene(case), 3600) is Watch.NOTHING


def test_refused_pod_is_not_tried_again() -> None:
    assert watch(read_scene("rejected-first"), 0) is Watch.TERMINATE


def test_workflow_that_is_being_shut_down_is_left_alone() -> None:
    scene = hanging("success")
    assert scene.workflow is not None
    scene.workflow["spec"] |= TERMINATION["spec"]
    assert watch(scene, 3600) is Watch.NOTHING


def test_shutdown_by_the_watchdog_bears_its_mark() -> None:
    assert TERMINATION["metadata"]["annotations"][labels.ENDED_BY] == "watchdog"
