"""Elections between replicas on one clock, with lines to the server that break: never may two write at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest
from datacube_operator.election import Election
from datacube_operator.errors import LeadershipLost, NotLeader
from datacube_operator.fence import Fence
from datacube_operator.metrics import Metrics
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.controller.fake_clock import FakeClock, settle
from tests.controller.fake_leases import LeaseServer, Line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datacube_operator.client import Client

pytestmark = [pytest.mark.t0, pytest.mark.anyio]


@dataclass
class Replica:
    name: str
    line: Line
    fence: Fence
    election: Election
    task: asyncio.Task[None]

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def start_replica(name: str, server: LeaseServer, clock: FakeClock) -> Replica:
    line, fence = Line(server, clock), Fence(clock)
    election = Election(
        cast("Client", line), fence, namespace="default", name="l", identity=name, clock=clock, metrics=Metrics()
    )
    return Replica(name, line, fence, election, asyncio.create_task(election.run()))


async def end_all(replicas: Iterable[Replica]) -> None:
    for replica in replicas:
        await replica.end()


def holder(server: LeaseServer) -> Any:
    return server.get()["spec"]["holderIdentity"]


async def test_first_replica_leads_and_second_waits(clock: FakeClock) -> None:
    server = LeaseServer()
    one = start_replica("one", server, clock)
    await settle()
    two = start_replica("two", server, clock)
    await clock.pass_(60)
    assert (one.fence.is_open, two.fence.is_open) == (True, False)
    assert server.get()["spec"]["leaseTransitions"] == 0
    await end_all([one, two])


async def test_leader_that_is_cut_off_stops_writing_and_fails_before_the_other_leads(clock: FakeClock) -> None:
    server = LeaseServer()
    one = start_replica("one", server, clock)
    await settle()
    two = start_replica("two", server, clock)
    await clock.pass_(4)
    one.line.cut = True
    await clock.pass_(10)
    assert (one.fence.is_open, two.fence.is_open) == (False, False)
    with pytest.raises(NotLeader):
        one.fence.remaining()
    await clock.pass_(10)
    assert (one.fence.is_open, two.fence.is_open) == (False, True)
    with pytest.raises(LeadershipLost, match="could not be renewed in time"):
        await one.task
    assert server.get()["spec"]["leaseTransitions"] == 1
    await end_all([two])


async def test_leader_goes_on_when_the_answer_to_a_renewal_is_lost(clock: FakeClock) -> None:
    server = LeaseServer()
    one = start_replica("one", server, clock)
    await clock.pass_(3)
    one.line.mute = True
    await clock.pass_(3)
    one.line.mute = False
    await clock.pass_(60)
    assert one.fence.is_open
    await end_all([one])


async def test_replica_whose_first_hold_got_no_answer_still_leads(clock: FakeClock) -> None:
    server = LeaseServer()
    one = start_replica("one", server, clock)
    one.line.mute = True
    await clock.pass_(3)
    assert holder(server) == "one"
    assert not one.fence.is_open
    one.line.mute = False
    await clock.pass_(8)
    assert one.fence.is_open
    await end_all([one])


async def test_leader_fails_at_once_when_another_holds_its_lease(clock: FakeClock) -> None:
    server = LeaseServer()
    one = start_replica("one", server, clock)
    await clock.pass_(3)
    stolen = server.get()
    stolen["spec"]["holderIdentity"] = "thief"
    server.write(stolen)
    await clock.pass_(2)
    assert not one.fence.is_open
    with pytest.raises(LeadershipLost, match="thief holds it"):
        await one.task


async def test_leader_goes_on_when_somebody_only_labels_its_lease(clock: FakeClock) -> None:
    server = LeaseServer()
    one = start_replica("one", server, clock)
    await clock.pass_(3)
    labelled = server.get()
    labelled["metadata"]["labels"] = {"a": "b"}
    server.write(labelled)
    await clock.pass_(5)
    assert one.fence.is_open
    assert server.get()["metadata"]["labels"] == {"a": "b"}
    await end_all([one])


async def test_leader_fails_when_its_lease_is_deleted(clock: FakeClock) -> None:
    server = LeaseServer()
    one = start_replica("one", server, clock)
    await clock.pass_(3)
    server.lease = None
    await clock.pass_(2)
    with pytest.raises(LeadershipLost, match="deleted"):
        await one.task
    assert not one.fence.is_open


async def test_released_lease_is_taken_at_the_next_look(clock: FakeClock) -> None:
    server = LeaseServer()
    one = start_replica("one", server, clock)
    await settle()
    two = start_replica("two", server, clock)
    await clock.pass_(5)
    await one.end()
    await one.election.release()
    assert holder(server) == ""
    assert not one.fence.is_open
    await clock.pass_(2)
    assert two.fence.is_open
    await end_all([two])


async def test_standby_has_nothing_to_release(clock: FakeClock) -> None:
    server = LeaseServer()
    one = start_replica("one", server, clock)
    await settle()
    two = start_replica("two", server, clock)
    await clock.pass_(5)
    await two.end()
    await two.election.release()
    assert holder(server) == "one"
    await end_all([one])


TROUBLES = st.sampled_from(["good", "good", "cut", "mute", "slow"])
SCHEDULES = st.lists(st.tuples(TROUBLES, TROUBLES, TROUBLES), min_size=4, max_size=20)


@given(schedule=SCHEDULES)
@example(schedule=[("good", "good", "good"), *[("mute", "good", "good")] * 8])
@settings(max_examples=40, deadline=None)
def test_no_two_replicas_may_write_at_once_whatever_their_lines_do(schedule: list[tuple[str, ...]]) -> None:
    asyncio.run(run_schedule(schedule))


async def run_schedule(schedule: list[tuple[str, ...]]) -> None:
    """Three replicas, whose lines change every four seconds; one that failed starts again, as its pod would."""
    clock, server, starts = FakeClock(), LeaseServer(), 0
    replicas: list[Replica] = []
    for troubles in [*schedule, *[("good",) * 3] * 7]:
        replicas = [r for r in replicas if not r.task.done()]
        while len(replicas) < len(troubles):
            starts += 1
            replicas.append(start_replica(f"replica-{starts}", server, clock))
        for replica, trouble in zip(replicas, troubles, strict=True):
            replica.line.cut, replica.line.mute = trouble == "cut", trouble == "mute"
            replica.line.slow = 4.0 if trouble == "slow" else 0.0
        for _ in range(8):
            await clock.pass_(0.5)
            assert sum(r.fence.is_open for r in replicas) <= 1
    assert [r.name for r in replicas if r.fence.is_open] == [holder(server)]
    await end_all(replicas)
    await asyncio.gather(*(r.task for r in replicas), return_exceptions=True)
