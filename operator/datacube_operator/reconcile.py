"""Brings one DataCube to where it should be: from what the caches show now, whatever happened before.

Validate, choose the run, look at claim and path, take the path (the run's first status), prepare, submit, observe,
fold, write status. Each step finds out from the API what was done already, so it may be broken off anywhere.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.core.fold import FINAL_PHASES, fold, initial_status
from datacube_flows.core.observation import AttemptSeen, Observation, PodPhase
from datacube_flows.core.plan import TransferPlan, make_plan
from datacube_flows.core.rules import validate
from datacube_flows.errors import InvalidDataCube
from datacube_operator.announce import announce
from datacube_operator.claims import claim_problem, is_lost, lost_message
from datacube_operator.controller import Result
from datacube_operator.cube import BY_CLAIM, BY_UID, Cube, claim_key
from datacube_operator.engine import Engine, Found, NameTaken
from datacube_operator.errors import Conflict, Forbidden, Invalid, NotFound
from datacube_operator.paths import find_blocker
from datacube_operator.refusals import explain_refusal
from datacube_operator.resource import DATACUBES
from datacube_operator.runs import Choice, Course, choose_run, newest_foreign
from datacube_operator.status_book import CubeGone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datacube_flows.api.status import DataCubeStatus
    from datacube_flows.core.path_use import PathUse
    from datacube_flows.core.plan import Policy
    from datacube_operator.client import Client
    from datacube_operator.clock import Clock
    from datacube_operator.events import Recorder
    from datacube_operator.informer import Informer
    from datacube_operator.metrics import Metrics
    from datacube_operator.progress import ProgressReader
    from datacube_operator.queue import Queue
    from datacube_operator.status_book import StatusBook

    Object = dict[str, Any]

LOOK_AGAIN_SECONDS: Final = 30.0
"""While a run lasts: what is decided by time alone is noticed so soon."""

WAIT_SECONDS: Final = 60.0
"""While something is missing whose coming a watch should tell."""

PATH_SECONDS: Final = 15.0
GOING_SECONDS: Final = 1.0
"""While a workflow of before is on its way out."""

SETTLE_SECONDS: Final = 4.0
"""A pod that waits is no news before that: scheduler, volume and kubelet take a moment."""

HELD: Final = "spec.suspend holds the transfer: set it to false to go on"
STALLED: Final = "no byte has moved for five minutes: look at the store and the network"


@dataclass(frozen=True)
class Caches:
    """What is known of the cluster."""

    cubes: Informer
    claims: Informer
    pods: Informer


@dataclass(frozen=True)
class Outlets:
    """Where is told what a reconcile finds, beside status.

    Attributes:
        queue: where keys of others go when a path gets free.
        recorder: takes events.
        progress: reads what running attempts print; None where nobody may.
        metrics: counts runs and attempts.
    """

    queue: Queue
    recorder: Recorder
    progress: ProgressReader | None
    metrics: Metrics


@dataclass(frozen=True)
class Case:
    """A DataCube, what its document asks for, and who does it."""

    cube: Cube
    plan: TransferPlan
    engine: Engine

    def of(self, cube: Cube) -> Case:
        """The same with a later status."""
        return replace(self, cube=cube)

    def as_run(self, run: str) -> Case:
        """The same for a run that was begun, whatever the annotation says by now."""
        return replace(self, plan=self.plan.model_copy(update={"run_id": run.rpartition("-")[2]}))

    def find(self, run: str) -> Found:
        """What there is of a run."""
        return self.engine.find(self.plan, run)

    def described(self, run: str = "", uid: str = "") -> dict[str, str]:
        """Fields of `status.workflow`."""
        return self.engine.workflow_status(self.plan, run, uid)


class Reconciler:
    """Reconciles DataCubes.

    Args:
        client: deletes DataCubes whose time is over; its fence holds.
        caches: what is known of the cluster.
        book: reads and writes status.
        engines: name -> engine; the first one runs documents that name none.
        policy: what documents may ask for.
        outlets: see there.
        clock: tells the time that goes into status.
    """

    def __init__(
        self,
        client: Client,
        caches: Caches,
        book: StatusBook,
        *,
        engines: Mapping[str, Engine],
        policy: Policy,
        outlets: Outlets,
        clock: Clock,
    ) -> None:
        self._client, self._caches, self._book = client, caches, book
        self._engines, self._policy, self._outlets, self._clock = engines, policy, outlets, clock
        self._known: dict[str, tuple[str, list[str]]] = {}

    async def reconcile(self, key: str) -> Result:
        """Does what is due for one DataCube, and says when to come again at the latest."""
        document = self._caches.cubes.store.get(key)
        if document is None or document["metadata"].get("deletionTimestamp"):
            return self._forget(key)
        cube = self._book.read(document)
        self._known[key] = cube.uid, self._caches.cubes.store.values_of(BY_CLAIM, document)
        try:
            return await self._advance(cube)
        except InvalidDataCube as error:
            return await self._refuse(cube, error)
        except CubeGone:
            return Result(GOING_SECONDS)  # the watch will have said so by then

    async def _advance(self, cube: Cube) -> Result:
        schemes = self._policy.allowed_schemes
        checked = validate(cube.document, env_policy=self._policy.env_policy, allowed_schemes=schemes)
        plan = make_plan(checked, self._policy)
        name: str = plan.engine or next(iter(self._engines))
        if name not in self._engines:
            text = f"this operator does not run engine '{name}': leave executor.engine out, or have it switched on"
            return await self._wait(cube, (Reason.ENGINE_UNAVAILABLE, text), {}, WAIT_SECONDS)
        case = Case(cube, plan, self._engines[name])
        try:
            return await self._take_course(case, self._choose(case))
        except NameTaken as error:
            return await self._end(case, (Reason.NAME_CONFLICT, str(error)))
        except (Forbidden, Invalid) as error:
            described = case.described(cube.run if cube.is_active else "", cube.run_uid)
            return await self._wait(cube, explain_refusal(error), described, LOOK_AGAIN_SECONDS)

    async def _take_course(self, case: Case, choice: Choice) -> Result:
        match choice.course:
            case Course.REST:
                return await self._rest(case.cube, case)
            case Course.HOLD:
                return await self._hold(case, choice.run)
            case Course.START:
                return await self._start(case, choice.run)
            case Course.FOLLOW:
                return await self._follow(case, choice.run, is_foreign=choice.is_foreign)

    def _choose(self, case: Case) -> Choice:
        wanted = case.engine.run_name(case.plan)
        return choose_run(
            case.cube,
            wanted,
            is_own=lambda run: case.engine.is_own_run(case.plan, run),
            foreign=newest_foreign(self._caches.pods.store.find(BY_UID, case.cube.uid)),
            has_wanted=case.find(wanted).workflow is not None,
        )

    async def _rest(self, cube: Cube, case: Case | None = None) -> Result:
        """A run has ended: sees that its engine lets go of it, and removes the DataCube when its time has come."""
        if self._outlets.progress is not None:
            self._outlets.progress.forget(cube.key)
        again = []
        if case is not None and (found := case.find(cube.run)).is_open:
            await case.engine.watch_over(case.plan, found, self._clock.utc())
            again.append(LOOK_AGAIN_SECONDS)
        if cube.status.completion_time is not None and cube.ttl_seconds is not None:
            due = cube.status.completion_time + timedelta(seconds=cube.ttl_seconds)
            again.append((due - self._clock.utc()).total_seconds())
            if again[-1] <= 0:
                with suppress(NotFound, Conflict):
                    await self._client.delete(DATACUBES, cube.namespace, cube.name, uid=cube.uid)
                return Result()
        return Result(min(again, default=None))

    async def _hold(self, case: Case, run: str) -> Result:
        """Says that the run is held, then ends what there is of it; its template stays for others to run."""
        cube, found = case.cube, case.find(run)
        if cube.is_active:
            case = case.as_run(run)
            seen = case.engine.observe(case.plan, found, self._clock.utc())
            if fold(cube.status, seen, self._clock.utc()).phase in FINAL_PHASES:
                return await self._conclude(case, run, found, seen)
        elif missing := case.engine.unavailable():
            return await self._wait(cube, (Reason.ENGINE_UNAVAILABLE, missing), {}, LOOK_AGAIN_SECONDS)
        else:
            await case.engine.prepare(case.plan)
        held = await self._let_go(case, (Reason.SUSPENDED, HELD))
        await case.engine.stop(case.plan, found)
        self._wake_others(held)
        return Result()

    async def _start(self, case: Case, run: str) -> Result:
        """Takes the path and begins the run, or says what it waits for."""
        cube, plan = case.cube, case.plan
        if case.find(run).is_going:
            return Result(GOING_SECONDS)
        if missing := case.engine.unavailable():
            return await self._wait(cube, (Reason.ENGINE_UNAVAILABLE, missing), {}, LOOK_AGAIN_SECONDS)
        claim = self._caches.claims.store.get(claim_key(cube.namespace, plan.claim.name))
        if is_lost(claim):
            return await self._end(case, lost_message(plan))
        if problem := claim_problem(plan, claim):
            return await self._wait(cube, problem, case.described(), WAIT_SECONDS)
        if blocker := self._find_blocker(case):
            return await self._wait(cube, (Reason.PATH_BUSY, f"waits for {blocker}"), case.described(), PATH_SECONDS)
        with self._book.take(cube):
            taken = await self._write(cube, self._fresh(cube), Observation(workflow=case.described(run)))
        return await self._follow(case.of(taken), run)

    def _find_blocker(self, case: Case) -> PathUse | None:
        at = claim_key(case.cube.namespace, case.plan.claim.name)
        others = [self._book.read(document) for document in self._caches.cubes.store.find(BY_CLAIM, at)]
        pods = self._caches.pods.store.find(BY_CLAIM, at)
        return find_blocker(case.cube, case.plan.path_use, others, pods, taken=self._book.taking)

    async def _follow(self, case: Case, run: str, *, is_foreign: bool = False) -> Result:
        """Brings the status to where a run stands; begins one that was taken up and is not there."""
        if is_foreign:
            return await self._follow_foreign(case, run)
        case = case.as_run(run)
        found, now = case.find(run), self._clock.utc()
        if found.workflow is None and not case.cube.run_uid:
            return await self._submit(case, run)
        seen = case.engine.observe(case.plan, found, now)
        if _has_succeeded(seen):
            return await self._conclude(case, run, found, seen)
        if found.workflow is None:
            seen = await self._look_for_lost(case, run, found, seen)
        elif case.engine.is_stale(case.plan, found):
            await self._let_go(case, (Reason.QUEUED, "the engine ran an older template: the run is made again"))
            await case.engine.stop(case.plan, found)
            return Result(GOING_SECONDS)
        return await self._conclude(case, run, found, seen)

    async def _submit(self, case: Case, run: str) -> Result:
        """Begins the run that the status has taken up."""
        cube, plan = case.cube, case.plan
        if missing := case.engine.unavailable():
            said = (Reason.ENGINE_UNAVAILABLE, missing)
            return await self._wait(cube, said, case.described(run), LOOK_AGAIN_SECONDS)
        claim = self._caches.claims.store.get(claim_key(cube.namespace, plan.claim.name))
        await case.engine.prepare(plan)
        await case.engine.submit(plan, claim_exists=claim is not None)
        return Result(SETTLE_SECONDS)

    async def _look_for_lost(self, case: Case, run: str, found: Found, seen: Observation) -> Observation:
        """A run that was there and is in no cache: the API server has it yet, or somebody has deleted it."""
        there = await case.engine.look(case.plan, run)
        if there is not None and not there["metadata"].get("deletionTimestamp"):
            return case.engine.observe(case.plan, Found(there, found.pods), self._clock.utc())
        text = f"workflow '{run}' was deleted: annotate the DataCube with a new rerun value to run it again"
        return replace(seen, ended=(Reason.RUN_DELETED, text))

    async def _follow_foreign(self, case: Case, run: str) -> Result:
        """Follows somebody else's run; its workflow bears no label of ours, and is asked for when it matters."""
        cube, now = case.cube, self._clock.utc()
        if cube.run != run:
            case = case.of(replace(cube, status=initial_status(now, generation=cube.generation)))
        found = case.find(run)
        seen = case.engine.observe(case.plan, found, now)
        if seen.will_retry or not found.pods:
            there = await case.engine.look(case.plan, run)
            if there is not None:
                seen = case.engine.observe(case.plan, Found(there, found.pods), now)
            else:
                text = f"workflow '{run}', which ran the DataCube's template, is gone"
                seen = replace(seen, ended=(Reason.RUN_DELETED, text))
        return await self._conclude(case, run, found, seen)

    async def _conclude(self, case: Case, run: str, found: Found, seen: Observation) -> Result:
        """Folds what was seen, writes it, and says when to look again."""
        cube, now = case.cube, self._clock.utc()
        is_settling = seen.waiting is not None and found.workflow is not None and _age(found, now) < SETTLE_SECONDS
        if is_settling:
            seen = replace(seen, waiting=None)
        seen = replace(self._with_progress(cube, seen), workflow=case.described(run, found.uid or cube.run_uid))
        after = await self._write(cube, cube.status, seen)
        if after.is_final:
            return await self._finish(case, after)
        await case.engine.watch_over(case.plan, found, now)
        return Result(SETTLE_SECONDS if is_settling else LOOK_AGAIN_SECONDS)

    def _with_progress(self, cube: Cube, seen: Observation) -> Observation:
        """Has the running attempt's log read, and adds what it told of late."""
        reader, last = self._outlets.progress, seen.attempts[-1] if seen.attempts else None
        if reader is None:
            return seen
        if last is None or last.phase is not PodPhase.RUNNING or not last.uid:
            reader.forget(cube.key)
            return seen
        reader.watch(cube.key, cube.namespace, last.pod, last.uid)
        told = reader.latest(last.uid)
        if told is None:
            return seen
        said = (Reason.STALLED, STALLED) if told.is_stalled else seen.said
        said = (Reason.RATE_LIMITED, told.rate_limited) if told.rate_limited else said
        return replace(seen, progress=told.counters or None, said=said)

    async def _finish(self, case: Case, cube: Cube) -> Result:
        """A run has ended: what waited for its path may go on."""
        status = cube.status
        reason = next((c.reason for c in status.conditions or () if c.status == "True" and c.reason), None)
        size = (status.result and status.result.bytes) or 0
        self._outlets.metrics.run_ended(case.plan.kind_name, Reason(reason or Reason.TRANSFER_COMPLETE), size)
        self._wake_others(cube)
        return await self._rest(cube, case)

    async def _end(self, case: Case, why: tuple[Reason, str]) -> Result:
        """Ends a run that cannot begin."""
        cube, run = case.cube, case.engine.run_name(case.plan)
        base = cube.status if cube.is_active else self._fresh(cube)
        after = await self._write(cube, base, Observation(ended=why, workflow=case.described(run)))
        return await self._finish(case, after)

    async def _refuse(self, cube: Cube, error: InvalidDataCube) -> Result:
        """Ends what a document asks for that breaks rules; one whose run has ended already is left as it is."""
        if cube.is_final:
            return await self._rest(cube)
        after = await self._write(cube, self._fresh(cube), Observation(ended=(Reason.INVALID_SPEC, str(error))))
        self._wake_others(after)
        return await self._rest(after)

    async def _wait(self, cube: Cube, why: tuple[Reason, str], described: dict[str, str], seconds: float) -> Result:
        """Says why nothing runs. A path that was taken stays taken: what is missing was there a moment ago."""
        await self._write(cube, self._fresh(cube), Observation(waiting=why, workflow=described))
        return Result(seconds)

    async def _let_go(self, case: Case, why: tuple[Reason, str]) -> Cube:
        """Writes that nothing of the run is there any more: its attempts do not count, its path is free."""
        nothing = {"pod": None, "attempts": None, "progress": None}
        base = self._fresh(case.cube).model_copy(update=nothing)
        return await self._write(case.cube, base, Observation(waiting=why, workflow=case.described()))

    def _fresh(self, cube: Cube) -> DataCubeStatus:
        """What a run begins with: nothing of one that ended, all of one that waits."""
        if cube.is_final or not cube.status.conditions:
            return initial_status(self._clock.utc(), generation=cube.generation)
        return cube.status

    async def _write(self, cube: Cube, base: DataCubeStatus, seen: Observation) -> Cube:
        """Folds an observation into a status and has it written; tells people what is news."""
        base = base if base.conditions else self._fresh(cube)
        after = await self._book.write(cube, fold(base, seen, self._clock.utc()))
        if after is not cube:
            for words in announce(cube.status, after.status, seen):
                self._outlets.recorder.record(cube.document, words)
            self._count_attempts(cube.status, seen)
        return after

    def _count_attempts(self, before: DataCubeStatus, seen: Observation) -> None:
        known = {(a.number, a.pod) for a in before.attempts or () if a.finish_time}
        for attempt in seen.attempts:
            if attempt.finished and (attempt.number, attempt.pod) not in known:
                self._outlets.metrics.attempt_ended(_reason_of(attempt))

    def _forget(self, key: str) -> Result:
        """A DataCube is gone: its path is free once its pods are."""
        uid, claims = self._known.pop(key, ("", []))
        self._book.forget(uid)
        if self._outlets.progress is not None:
            self._outlets.progress.forget(key)
        for at in claims:
            self.wake(at)
        return Result()

    def _wake_others(self, cube: Cube) -> None:
        for at in self._caches.cubes.store.values_of(BY_CLAIM, cube.document):
            self.wake(at)

    def wake(self, at: str) -> None:
        """Has everybody looked at who waits for a path on a claim."""
        for document in self._caches.cubes.store.find(BY_CLAIM, at):
            cube = self._book.read(document)
            if cube.waits_for == Reason.PATH_BUSY:
                self._outlets.queue.add(cube.key)


def _has_succeeded(seen: Observation) -> bool:
    return bool(seen.attempts) and seen.attempts[-1].phase is PodPhase.SUCCEEDED


def _reason_of(attempt: AttemptSeen) -> Reason:
    if attempt.phase is PodPhase.FAILED:
        return attempt.failure[0]
    return attempt.report.reason if attempt.report else Reason.TRANSFER_COMPLETE


def _age(found: Found, now: datetime) -> float:
    """Seconds since the workflow was made."""
    assert found.workflow is not None  # noqa: S101 - who asks has one
    created = datetime.fromisoformat(found.workflow["metadata"]["creationTimestamp"])
    return (now.astimezone(UTC) - created).total_seconds()
