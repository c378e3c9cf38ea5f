"""Which run counts, and what becomes of it: a table, and whatever authors do in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from datacube_operator.cube import Cube
from datacube_operator.runs import Choice, Course, ForeignRun, choose_run, newest_foreign
from hypothesis import given, settings
from hypothesis import strategies as st

from datacube_flows.core.plan import run_id
from tests.controller.decision_objects import cube_of, made, moment, plan_of, pod_of, status_of, workflow_of
from tests.controller.fake_clock import START
from tests.controller.scenarios_documents import download, with_spec

pytestmark = pytest.mark.t0

Object = dict[str, Any]

RUNS = ("pending", "running", "held by hand", "succeeded", "failed")
PHASES = dict(zip(RUNS, ("Pending", "Running", "Suspended", "Succeeded", "Failed"), strict=True))


def run_named(rerun: str) -> str:
    return f"cube-{run_id('uid-of-cube', rerun)}"


FIRST, AGAIN = run_named(""), run_named("x")


def is_own(run: str) -> bool:
    return run.startswith("cube-")


def cube(status: Object | None = None, *, rerun: str = "", **spec: Any) -> Cube:
    return cube_of(made(with_spec(download("cube"), **spec), rerun=rerun), status)


def foreign_run(name: str, seconds: float = 0) -> ForeignRun:
    return ForeignRun(name, (), START + timedelta(seconds=seconds))


def choose(about: Cube, *, foreign: ForeignRun | None = None, has_wanted: bool = False) -> Choice:
    return choose_run(about, run_named(about.rerun), is_own=is_own, foreign=foreign, has_wanted=has_wanted)


RUNNING, OVER = status_of("Running", FIRST, states="TFF"), status_of("Succeeded", FIRST, states="TTF")
FOREIGN = status_of("Running", "training", states="TFF")
FOREIGN_OVER = status_of("Succeeded", "training", states="TTF", completionTime=moment(60))
HELD = status_of("Suspended", Initialized="Suspended")

ROWS = {
    "new": (choose(cube()), Choice(Course.START, FIRST)),
    "new and held": (choose(cube(suspend=True)), Choice(Course.HOLD, FIRST)),
    "waits": (choose(cube(status_of("Pending", Initialized="PathBusy"))), Choice(Course.START, FIRST)),
    "runs": (choose(cube(RUNNING)), Choice(Course.FOLLOW, FIRST)),
    "runs, asked again": (choose(cube(RUNNING, rerun="x")), Choice(Course.FOLLOW, FIRST)),
    "runs, to be held": (choose(cube(RUNNING, suspend=True)), Choice(Course.HOLD, FIRST)),
    "held by hand in Argo": (choose(cube(status_of("Suspended", FIRST))), Choice(Course.FOLLOW, FIRST)),
    "held": (choose(cube(HELD, suspend=True)), Choice(Course.HOLD, FIRST)),
    "resumed": (choose(cube(HELD)), Choice(Course.START, FIRST)),
    "resumed with another annotation": (choose(cube(HELD, rerun="x")), Choice(Course.START, AGAIN)),
    "over": (choose(cube(OVER)), Choice(Course.REST, FIRST)),
    "over, its workflow still there": (choose(cube(OVER), has_wanted=True), Choice(Course.REST, FIRST)),
    "over, held": (choose(cube(OVER, suspend=True)), Choice(Course.REST, FIRST)),
    "over, asked again": (choose(cube(OVER, rerun="x")), Choice(Course.START, AGAIN)),
    "over, asked again, held": (choose(cube(OVER, rerun="x", suspend=True)), Choice(Course.REST, FIRST)),
    "over, annotation removed": (
        choose(cube(status_of("Failed", AGAIN, states="FFT"))),
        Choice(Course.REST, AGAIN),
    ),
    "refused, and valid by now": (choose(cube(status_of("Failed", states="FFT"))), Choice(Course.REST, "")),
    "refused, valid, asked again": (
        choose(cube(status_of("Failed", states="FFT"), rerun="x")),
        Choice(Course.START, AGAIN),
    ),
    "foreign while held": (
        choose(cube(HELD, suspend=True), foreign=foreign_run("training")),
        Choice(Course.FOLLOW, "training", is_foreign=True),
    ),
    "foreign while nobody holds it": (
        choose(cube(HELD), foreign=foreign_run("training")),
        Choice(Course.START, FIRST),
    ),
    "foreign goes on": (
        choose(cube(FOREIGN, suspend=True), foreign=foreign_run("training")),
        Choice(Course.FOLLOW, "training", is_foreign=True),
    ),
    "foreign goes on after resume": (choose(cube(FOREIGN)), Choice(Course.FOLLOW, "training", is_foreign=True)),
    "foreign, held by hand in Argo": (
        choose(cube(status_of("Suspended", "training"), suspend=True), foreign=foreign_run("training")),
        Choice(Course.FOLLOW, "training", is_foreign=True),
    ),
    "foreign, then another": (
        choose(cube(FOREIGN, suspend=True), foreign=foreign_run("evaluation", 90)),
        Choice(Course.FOLLOW, "evaluation", is_foreign=True),
    ),
    "foreign over": (
        choose(cube(FOREIGN_OVER, suspend=True), foreign=foreign_run("training")),
        Choice(Course.REST, "training"),
    ),
    "foreign over, another of before it": (
        choose(cube(FOREIGN_OVER, suspend=True), foreign=foreign_run("early", 59)),
        Choice(Course.REST, "training"),
    ),
    "foreign over, another after it": (
        choose(cube(FOREIGN_OVER, suspend=True), foreign=foreign_run("evaluation", 60)),
        Choice(Course.FOLLOW, "evaluation", is_foreign=True),
    ),
    "foreign over, resumed": (choose(cube(FOREIGN_OVER)), Choice(Course.REST, "training")),
    "foreign over, asked to run": (choose(cube(FOREIGN_OVER, rerun="x")), Choice(Course.START, AGAIN)),
    "foreign over, ran before": (
        choose(cube(FOREIGN_OVER, rerun="x"), has_wanted=True),
        Choice(Course.REST, "training"),
    ),
    "own run, a foreign one beside it": (
        choose(cube(RUNNING, suspend=True), foreign=foreign_run("training")),
        Choice(Course.HOLD, FIRST),
    ),
}


@pytest.mark.parametrize(("found", "wanted"), ROWS.values(), ids=[name.replace(" ", "-") for name in ROWS])
def test_run_is_chosen(found: Choice, wanted: Choice) -> None:
    assert found == wanted


@given(
    phase=st.sampled_from([None, *PHASES.values()]),
    run=st.sampled_from(["", FIRST, AGAIN, "training"]),
    rerun=st.sampled_from(["", "x", "y"]),
    foreign=st.sampled_from([None, foreign_run("training"), foreign_run("evaluation", 90)]),
    is_suspended=st.booleans(),
    has_wanted=st.booleans(),
)
def test_run_is_begun_only_where_none_is_active_or_has_ended_without_a_new_wish(
    phase: str | None, run: str, rerun: str, foreign: ForeignRun | None, *, is_suspended: bool, has_wanted: bool
) -> None:
    about = cube(status_of(phase, run, completionTime=moment(60)), rerun=rerun, suspend=is_suspended)
    choice = choose(about, foreign=foreign, has_wanted=has_wanted)
    if choice.course is Course.START:
        assert not is_suspended
        assert not about.is_active
        assert choice.run == run_named(rerun)
        assert not about.is_final or (rerun and choice.run != run)
    if about.is_active and is_own(run):
        assert choice == Choice(Course.HOLD if is_suspended else Course.FOLLOW, run)
    if choice.course is Course.HOLD:
        assert is_suspended
        assert not choice.is_foreign
        assert is_own(choice.run)
    if choice.course is Course.REST:
        assert about.is_final


@dataclass
class Life:
    """A DataCube whose author does as he likes, and an operator that looks at it after each step."""

    rerun: str = ""
    is_suspended: bool = False
    status: Object = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    asked_with: str | None = None
    foreign: ForeignRun | None = None

    def step(self, name: str) -> None:
        match name.split():
            case ["rerun", *value]:
                self.rerun = "".join(value)
            case ["suspend"]:
                self.is_suspended = True
            case ["resume"]:
                self.is_suspended = False
            case ["end", phase]:
                self.end(phase)
            case ["train"]:
                self.foreign = foreign_run(f"training-{len(self.ended)}", 100 + len(self.ended))
        self.look()

    def end(self, phase: str) -> None:
        run = self.status.get("workflow", {}).get("name", "")
        if run and self.status["phase"] in ("Pending", "Running"):
            self.ended.append(run)
            self.status = status_of(phase, run, states="TTF", completionTime=moment(100 + len(self.ended)))

    def look(self) -> None:
        about = cube(self.status, rerun=self.rerun, suspend=self.is_suspended)
        has_wanted = run_named(self.rerun) in self.begun
        choice = choose(about, foreign=self.foreign, has_wanted=has_wanted)
        if choice.course is Course.START:
            assert not self.is_suspended
            assert not about.is_active
            if about.is_final and is_own(about.run):
                assert self.rerun not in ("", self.asked_with)
            self.asked_with = self.rerun
            self.begun.append(choice.run)
            self.status = status_of("Pending", choice.run)
        elif choice.course is Course.HOLD:
            self.status = status_of("Suspended", Initialized="Suspended")
        elif choice.is_foreign:
            self.status = status_of("Running", choice.run, states="TFF")


STEPS = ["rerun", "rerun x", "rerun y", "suspend", "resume", "end Succeeded", "end Failed", "train", "look"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=12))
def test_no_order_of_wishes_begins_a_second_run_unasked(steps: list[str]) -> None:
    life = Life()
    for name in ["look", *steps]:
        life.step(name)
    before = list(life.begun)
    for _ in range(3):
        life.look()
    assert life.begun == before


def foreign_pod(name: str, number: int, seconds: float) -> Object:
    return pod_of(plan_of(made(download("cube"))), name, number=number, seconds=seconds)


def test_newest_foreign_run_is_that_of_the_newest_attempt() -> None:
    pods = [foreign_pod("a", 1, 0), foreign_pod("b", 1, 10), foreign_pod("a", 2, 20)]
    found = newest_foreign(pods)
    assert found is not None
    assert (found.name, found.pods, found.created) == ("a", (pods[0], pods[2]), START + timedelta(seconds=20))


def test_pods_of_own_runs_and_of_no_workflow_are_no_foreign_run() -> None:
    plan = plan_of(made(download("cube")))
    bare = foreign_pod("a", 1, 0)
    del bare["metadata"]["labels"]["workflows.argoproj.io/workflow"]
    assert newest_foreign([pod_of(plan, workflow_of(plan)), bare]) is None
    assert newest_foreign([]) is None
