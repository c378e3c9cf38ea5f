"""Brings one DataCube to where it should be: from what the caches show now, whatever happened before.

Validate, choose the run, look at claim and path, take the path (the run's first status), prepare, submit, observe,
fold, write status. Each step finds out from the API what was done already, so it may be broken off anywhere.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.api.status import Phase
from datacube_flows.core.fold import initial_status
from datacube_flows.core.observation import Observation
from datacube_flows.core.plan import make_plan
from datacube_flows.core.rules import validate
from datacube_flows.errors import InvalidDataCube
from datacube_operator.case import Case
from datacube_operator.chronicle import Chronicle, Outlets
from datacube_operator.claims import claim_problem, is_lost, lost_message
from datacube_operator.controller import Result
from datacube_operator.cube import BY_CLAIM, BY_UID, Cube, claim_key, uid_key
from datacube_operator.engine import Found, NameTaken
from datacube_operator.errors import Conflict, Forbidden, Invalid, NotFound
from datacube_operator.meanwhile import meanwhile
from datacube_operator.paths import find_blocker, find_rivals
from datacube_operator.refusals import explain_refusal, is_of_ending_namespace
from datacube_operator.resource import DATACUBES
from datacube_operator.runs import Choice, Course, choose_run, newest_foreign
from datacube_operator.status_book import CubeGone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from datacube_flows.core.plan import Policy
    from datacube_operator.case import Caches
    from datacube_operator.client import Client
    from datacube_operator.clock import Clock
    from datacube_operator.engine import Engine
    from datacube_operator.path_queue import PathQueue
    from datacube_operator.status_book import StatusBook

    Object = dict[str, Any]

LOOK_AGAIN_SECONDS: Final = 30.0
"""While a run lasts: what is decided by time alone is noticed so soon."""

WAIT_SECONDS: Final = 60.0
"""While something is missing whose coming a watch should tell."""

ENGINE_SECONDS: Final = 5.0
"""While an engine is not installed, which the caches tell: nobody is asked."""

PATH_SECONDS: Final = 15.0
GOING_SECONDS: Final = 1.0
"""While a workflow of before is on its way out."""

SETTLE_SECONDS: Final = 4.0
"""A run that begins is no news before that, and a pod that waits: scheduler, volume and kubelet take a moment."""

HELD: Final = "spec.suspend holds the transfer: set it to false to go on"


class Reconciler:
    """Reconciles DataCubes.

    Args:
        client: deletes DataCubes whose time is over; its fence holds.
        caches: what is known of the cluster.
        book: reads and writes status.
        engines: name -> engine; the first one runs documents that name none.
        policy: what documents may ask for.
        outlets: see there.
        paths: who waits for a path.
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
        paths: PathQueue,
        clock: Clock,
    ) -> None:
        self._client, self._caches, self._book = client, caches, book
        self._engines, self._policy, self._paths, self._clock = engines, policy, paths, clock
        self._chronicle = Chronicle(book, outlets, clock)
        self._known: dict[str, Cube] = {}
        self._untold: set[str] = set()  # uids of those whose run is there, and no status tells of it yet
        self._in_namespace: Counter[str] = Counter()

    async def reconcile(self, key: str) -> Result:
        """Does what is due for one DataCube, and says when to come again at the latest."""
        document = self._caches.cubes.store.get(key)
        known = self._known.get(key)
        if known is not None and (document is None or document["metadata"]["uid"] != known.uid):
            self._forget(known)
        if document is None:
            return Result()
        cube = self._book.read(document)
        self._remember(cube)
        if cube.is_going:
            return self._leave(cube)
        try:
            return await self._advance(cube)
        except InvalidDataCube as error:
            return await self._refuse(self._book.read(document), error)
        except CubeGone:
            return Result(GOING_SECONDS)  # the watch will have said so by then

    async def _advance(self, cube: Cube) -> Result:
        schemes = self._policy.allowed_schemes
        checked = validate(cube.document, env_policy=self._policy.env_policy, allowed_schemes=schemes)
        plan = make_plan(checked, self._policy)
        begun = cube.status.workflow.engine if cube.is_active and cube.status.workflow else None
        name: str = plan.engine or begun or next(iter(self._engines))
        if name in self._engines:
            case = Case(cube, plan, self._engines[name])
            return await self._take_course(case, self._choose(case))
        if cube.is_final:
            return await self._rest(cube)
        text = f"this operator does not run engine '{name}': leave executor.engine out, or have it switched on"
        return await self._wait(cube, (Reason.ENGINE_UNAVAILABLE, text), {}, WAIT_SECONDS)

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
            foreign=newest_foreign(self._caches.pods.store.find(BY_UID, uid_key(case.cube.namespace, case.cube.uid))),
            has_wanted=case.find(wanted).workflow is not None,
        )

    async def _rest(self, cube: Cube, case: Case | None = None) -> Result:
        """A run has ended: sees that its engine lets go of it, and removes the DataCube when its time has come."""
        self._chronicle.let_logs_be(cube.key)
        cube = await self._chronicle.confirm(cube)
        again: list[float] = []
        if case is not None and cube.run:
            case = case.as_run(cube.run)
            after = await case.engine.clear_up(case.plan, case.find(cube.run), self._clock.utc())
            again += [] if after is None else [after]
        if cube.status.completion_time is not None and cube.ttl_seconds is not None:
            due = cube.status.completion_time + timedelta(seconds=cube.ttl_seconds)
            again.append((due - self._clock.utc()).total_seconds())
            if again[-1] <= 0:
                return await self._remove(cube)
        return Result(min(again, default=None))

    async def _remove(self, cube: Cube) -> Result:
        """Deletes a DataCube whose time is over, unless it has changed meanwhile: it may be asked to run again."""
        version = self._book.latest(cube)
        try:
            await self._client.delete(DATACUBES, cube.namespace, cube.name, uid=cube.uid, version=version)
        except NotFound:
            return Result()
        except Conflict:
            return Result(GOING_SECONDS)
        return Result()

    async def _hold(self, case: Case, run: str) -> Result:
        """Says that the run is held, then ends what there is of it; its template stays for others to run."""
        cube, found = case.cube, case.find(run)
        if cube.is_active:
            case = case.as_run(run)
            seen = case.engine.observe(case.plan, found, self._clock.utc())
            if self._chronicle.fold(cube, seen).is_final:
                return await self._conclude(case, run, found, seen)
        elif missing := case.engine.unavailable():
            return await self._wait(cube, (Reason.ENGINE_UNAVAILABLE, missing), {}, ENGINE_SECONDS)
        elif refused := await self._refusal_of(case, "", case.engine.prepare(case.plan)):
            return refused
        held = await self._let_go(case, (Reason.SUSPENDED, HELD))
        await case.engine.stop(case.plan, found, (Reason.SUSPENDED, HELD))
        self._wake_others(held)
        return Result()

    async def _start(self, case: Case, run: str) -> Result:
        """Takes the path and begins the run, or says what it waits for."""
        cube, plan = case.cube, case.plan
        if case.find(run).is_going:
            return Result(GOING_SECONDS)
        if missing := case.engine.unavailable():
            return await self._wait(cube, (Reason.ENGINE_UNAVAILABLE, missing), {}, ENGINE_SECONDS)
        claim = self._claim_of(case)
        if is_lost(claim):
            return await self._end(case, lost_message(plan))
        if problem := claim_problem(plan, claim):
            return await self._wait(cube, problem, case.described(), WAIT_SECONDS)
        if busy := self._busy(case):
            return await self._wait(cube, (Reason.PATH_BUSY, busy), case.described(), PATH_SECONDS)
        return await self._go(case, run)

    async def _go(self, case: Case, run: str) -> Result:
        """Takes the path and begins the run; the template holds no path, and is made meanwhile."""
        if case.find(run).workflow is not None:
            return await self._follow(await self._take(case, run), run)
        async with meanwhile(case.engine.prepare(case.plan)) as preparing:
            case = await self._take(case, run)
        return await self._begin(case, run, preparing)

    async def _take(self, case: Case, run: str) -> Case:
        """Writes that the run has its path."""
        cube, begun = case.cube, Observation(workflow=case.described(run))
        self._untold.discard(cube.uid)
        with self._book.take(cube):
            return case.of(await self._chronicle.write(cube, self._chronicle.fresh(cube), begun))

    def _claim_of(self, case: Case) -> Object | None:
        return self._caches.claims.store.get(claim_key(case.cube.namespace, case.plan.claim.name))

    def _busy(self, case: Case) -> str:
        """Whom a run has to wait for, and has it looked at when that one goes; empty where its path is free."""
        cube, use = case.cube, case.plan.path_use
        at = claim_key(cube.namespace, use.claim)
        rivals = find_rivals(cube, use, self._caches.cubes.store.find(BY_CLAIM, at))
        pods = self._caches.pods.store.find(BY_CLAIM, at)
        blocker = find_blocker(cube, use, map(self._book.read, rivals), pods, taken=self._book.taking)
        if blocker is None:
            return ""
        self._paths.wait(at, cube.key)
        return "waits for the end of its pods of before" if blocker.cube == cube.name else f"waits for {blocker}"

    async def _follow(self, case: Case, run: str, *, is_foreign: bool = False) -> Result:
        """Brings the status to where a run stands; begins one that was taken up and is not there."""
        if is_foreign:
            return await self._follow_foreign(case, run)
        case = case.as_run(run)
        found, now = case.find(run), self._clock.utc()
        if found.workflow is None and not (case.cube.run_uid or case.cube.uid in self._untold):
            return await self._submit(case, run)
        seen = case.engine.observe(case.plan, found, now)
        if seen.has_succeeded:
            return await self._conclude(case, run, found, seen)
        if found.workflow is None:
            seen = await self._look_for_lost(case, run, found, seen)
        elif case.engine.is_stale(case.plan, found):
            stale = Reason.QUEUED, "the engine ran an older template: the run is made again"
            await self._let_go(case, stale)
            await case.engine.stop(case.plan, found, stale)
            return Result(GOING_SECONDS)
        elif seen.is_idle and is_lost(self._claim_of(case)):
            lost = lost_message(case.plan)
            await case.engine.stop(case.plan, found, lost)  # its pod would wait for ever
            seen = replace(seen, ended=lost)
        return await self._conclude(case, run, found, seen)

    async def _submit(self, case: Case, run: str) -> Result:
        """Begins the run that the status has taken up."""
        if missing := case.engine.unavailable():
            said = (Reason.ENGINE_UNAVAILABLE, missing)
            return await self._wait(case.cube, said, case.described(run), ENGINE_SECONDS)
        return await self._begin(case, run, case.engine.prepare(case.plan))

    async def _begin(self, case: Case, run: str, preparing: Awaitable[None]) -> Result:
        """Has the run made, once all that it needs is prepared."""
        return await self._refusal_of(case, run, self._make(case, preparing)) or Result(SETTLE_SECONDS)

    async def _make(self, case: Case, preparing: Awaitable[None]) -> None:
        await preparing
        await case.engine.submit(case.plan, case.cube.status, claim_exists=self._claim_of(case) is not None)

    async def _refusal_of(self, case: Case, run: str, making: Awaitable[None]) -> Result | None:
        """Has made what a run needs; where that is refused, says so, and returns when to try again."""
        try:
            await making
        except NameTaken as error:
            return await self._end(case, (Reason.NAME_CONFLICT, str(error)))
        except (Forbidden, Invalid) as error:
            if is_of_ending_namespace(error):
                return Result(WAIT_SECONDS)
            said = explain_refusal(error, case.plan)
            return await self._wait(case.cube, said, case.described(run), LOOK_AGAIN_SECONDS)
        return None

    async def _look_for_lost(self, case: Case, run: str, found: Found, seen: Observation) -> Observation:
        """A run that was there and is in no cache: the API server has it yet, or somebody has deleted it."""
        there = await case.engine.look(case.plan, run, case.cube.status)
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
            there = await case.engine.look(case.plan, run, case.cube.status)
            if there is not None:
                seen = case.engine.observe(case.plan, Found(there, found.pods), now)
            else:
                text = f"workflow '{run}', which ran the DataCube's template, is gone"
                seen = replace(seen, ended=(Reason.RUN_DELETED, text))
        return await self._conclude(case, run, found, seen)

    async def _conclude(self, case: Case, run: str, found: Found, seen: Observation) -> Result:
        """Folds what was seen, writes it, and says when to look again."""
        cube, now = case.cube, self._clock.utc()
        if seen.is_beginning and not cube.trouble and found.age(now) < SETTLE_SECONDS:
            self._untold.add(cube.uid)
            return Result(SETTLE_SECONDS)
        told = self._chronicle.with_progress(cube, seen)
        described = case.described(run, found.uid or cube.run_uid)
        after = await self._chronicle.write(cube, cube.status, replace(told, workflow=described))
        if after.is_final:
            return await self._finish(case, after)
        await case.engine.watch_over(case.plan, found, now)
        return Result(LOOK_AGAIN_SECONDS)

    async def _finish(self, case: Case, cube: Cube) -> Result:
        """A run has ended: what waited for its path may go on."""
        self._chronicle.count_run(cube, case.plan.kind_name)
        self._wake_others(cube)
        return await self._rest(cube, case)

    async def _end(self, case: Case, why: tuple[Reason, str]) -> Result:
        """Ends a run that cannot begin."""
        cube, run = case.cube, case.engine.run_name(case.plan)
        ended = Observation(ended=why, workflow=case.described(run))
        return await self._finish(case, await self._chronicle.write(cube, self._chronicle.fresh(cube), ended))

    async def _refuse(self, cube: Cube, error: InvalidDataCube) -> Result:
        """Ends what a document asks for that breaks rules; one whose run has ended already is left as it is."""
        if cube.is_final:
            return await self._rest(cube)
        ended = Observation(ended=(Reason.INVALID_SPEC, str(error)))
        after = await self._chronicle.write(cube, self._chronicle.fresh(cube), ended)
        self._wake_others(after)
        return await self._rest(after)

    async def _wait(self, cube: Cube, why: tuple[Reason, str], described: dict[str, str], seconds: float) -> Result:
        """Says why nothing runs. A path that was taken stays taken: what is missing was there a moment ago."""
        waiting = Observation(waiting=why, workflow=described)
        await self._chronicle.write(cube, self._chronicle.fresh(cube), waiting)
        return Result(seconds)

    async def _let_go(self, case: Case, why: tuple[Reason, str]) -> Cube:
        """Writes that nothing of the run is there any more: its attempts do not count, its path is free."""
        self._chronicle.let_logs_be(case.cube.key)
        nothing = {"phase": Phase.PENDING, "pod": None, "attempts": None, "progress": None}
        base = self._chronicle.fresh(case.cube).model_copy(update=nothing)
        return await self._chronicle.write(case.cube, base, Observation(waiting=why, workflow=case.described()))

    def _remember(self, cube: Cube) -> None:
        if cube.key not in self._known:
            self._in_namespace[cube.namespace] += 1
        self._known[cube.key] = cube

    def _forget(self, cube: Cube) -> None:
        """A DataCube is gone."""
        del self._known[cube.key]
        self._in_namespace[cube.namespace] -= 1
        if not self._in_namespace[cube.namespace]:
            del self._in_namespace[cube.namespace]
            for engine in self._engines.values():
                engine.forget(cube.namespace)
        self._book.forget(cube.uid)
        self._untold.discard(cube.uid)
        self._leave(cube)

    def _leave(self, cube: Cube) -> Result:
        """A DataCube is going: nothing of it begins any more, and its path is free once its pods are gone."""
        self._chronicle.let_logs_be(cube.key)
        for engine in self._engines.values():
            engine.release(cube.uid)
        self._wake_others(cube)
        return Result()

    def _wake_others(self, cube: Cube) -> None:
        for at in self._caches.cubes.store.values_of(BY_CLAIM, cube.document):
            self._paths.wake(at)
