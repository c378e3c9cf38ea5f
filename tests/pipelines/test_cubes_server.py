"""DataCubes applied to a real API server, waited for through what goes wrong there, and deleted."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from datacube_operator.rights import user_roles

from datacube_flows.api.status import Phase
from datacube_flows.cluster.client import Client
from datacube_flows.cluster.connection import Place, connect
from datacube_flows.cluster.cubes import AppliedCube, delete_cube
from datacube_flows.cluster.errors import CubeGone, NameTaken, NotFound, Refused, WaitTimeout
from datacube_flows.cluster.patience import Patience
from datacube_flows.cluster.refusals import EDITOR, told_to_a_person
from datacube_flows.cluster.resource import DATACUBES
from datacube_flows.core import labels
from tests.canary import CANARY
from tests.cluster.api import DIES_WITH_TEST, start_api
from tests.cluster.binaries import find_programs
from tests.cluster.packages import SEARCH
from tests.cluster.process import Roster
from tests.controller.api_proxy import Fault, start_api_proxy, write_kubeconfig
from tests.pipelines.documents import condition, failed, make_cube, rerun, running, succeeded
from tests.pipelines.server import Heard, Line, line_to, run_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

WATCH = r"GET .*watch=true"
GET = r"GET .*/datacubes/data$"
EXPIRED = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
AWAY = {"kind": "Status", "code": 503, "reason": "ServiceUnavailable"}


@pytest.fixture
async def line(api: Cluster, namespace: str, tmp_path: Path) -> AsyncIterator[Line]:
    async with line_to(api, namespace, tmp_path) as made:
        yield made


async def metadata(line: Line, name: str = "data") -> dict[str, Any]:
    return (await line.others.get(DATACUBES, line.namespace, name))["metadata"]


async def test_cube_is_made_and_its_end_is_told(line: Line) -> None:
    heard = Heard()
    cube = await line.apply(make_cube())
    waiting = line.waiting(cube, listener=heard.listener)
    await line.watched()
    await line.says("data", running(run_of(cube)))
    await line.says("data", succeeded(run_of(cube)))
    status = await waiting
    assert (status.phase, status.result and status.result.files) == (Phase.SUCCEEDED, 3)
    assert heard.phases == ["Running", "Succeeded"]
    assert {entry["manager"] for entry in (await metadata(line))["managedFields"]} == {"datacube-flows", "datacube"}


async def test_failed_cube_is_an_end_too(line: Line) -> None:
    cube = await line.apply(make_cube())
    await line.says("data", failed(run_of(cube)))
    assert (await line.waiting(cube)).phase is Phase.FAILED


async def test_cube_that_is_there_and_the_same_is_taken_as_it_is(line: Line) -> None:
    first = await line.apply(make_cube())
    await line.says("data", succeeded(run_of(first)))
    again = await line.apply(make_cube(ttlSecondsAfterFinished=3600))
    assert again == first
    assert (await line.waiting(again)).phase is Phase.SUCCEEDED
    assert (await line.others.get(DATACUBES, line.namespace, "data"))["spec"]["ttlSecondsAfterFinished"] == 3600


async def test_cube_that_kubectl_has_applied_is_taken_over(line: Line, api: Cluster) -> None:
    api.apply(make_cube() | {"metadata": {"name": "data", "namespace": line.namespace}})
    api.kubectl("annotate", "datacube/data", f"{labels.RERUN}=by-hand", f"--namespace={line.namespace}")
    cube = await line.apply(rerun(make_cube(), "two"))
    assert run_of(cube, "two").endswith(cube.run_id)
    assert (await metadata(line))["annotations"][labels.RERUN] == "two"


@pytest.mark.parametrize(
    ("there", "wanted", "word"),
    [
        (make_cube(), make_cube(sink={"type": "pvc", "pvc": {"name": "other"}}), "pvc"),
        (make_cube(executor={"options": {"backoffLimit": 2}}), make_cube(), "backoffLimit"),
    ],
)
async def test_other_transfer_of_the_name_is_left_alone(
    line: Line, there: dict[str, Any], wanted: dict[str, Any], word: str
) -> None:
    await line.apply(there)
    before = await metadata(line)
    with pytest.raises(NameTaken, match=rf"is another transfer \(it differs in {word}\).*delete it first"):
        await line.apply(rerun(wanted, "two"))
    assert await metadata(line) == before


async def test_cube_is_applied_once_the_server_answers(line: Line) -> None:
    line.proxy.faults += [Fault("^GET", status=503, body=AWAY), Fault("^PATCH"), Fault("^PATCH", status=429)]
    cube = await line.apply(make_cube())
    assert (await metadata(line))["uid"] == cube.uid


async def test_server_that_stays_away_is_told_with_what_to_look_at(line: Line) -> None:
    line.proxy.part()
    with pytest.raises(Refused, match=f"cannot apply DataCube '{line.namespace}/data': the API server does not answer"):
        await line.apply(make_cube())


async def test_refusals_say_what_to_do(line: Line, api: Cluster, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"there is no namespace 'nowhere': create it"):
        await Line(line.client, line.proxy, line.others, "nowhere", line.kubeconfig).apply(make_cube())
    denied = 'datacubes "data" is forbidden: User "ada" cannot patch resource "datacubes" in API group "x" in the ...'
    status = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": denied}
    line.proxy.faults.append(Fault("^PATCH", status=403, body=status))
    with pytest.raises(Refused, match=r"'ada' may not patch datacubes there: bind it to ClusterRole 'datacube-editor'"):
        await line.apply(make_cube())
    line.proxy.faults.append(Fault("^PATCH", status=401))
    with pytest.raises(Refused, match="log in again"):
        await line.apply(make_cube())


async def test_user_needs_the_editors_role_and_no_more(line: Line, api: Cluster, tmp_path: Path) -> None:
    role, *_ = [role for role in user_roles() if role["metadata"]["name"] == EDITOR]
    api.apply(role)
    account = f"--serviceaccount={line.namespace}:flows"
    api.kubectl("create", "serviceaccount", "flows", f"--namespace={line.namespace}")
    token = api.kubectl("create", "token", "flows", f"--namespace={line.namespace}").strip()
    async with (
        start_api_proxy(api.kubeconfig, rights="client") as proxy,
        connect(Place(write_kubeconfig(tmp_path / "limited", proxy.url, token))) as limited,
    ):
        flows = replace(line, client=Client(limited.api, manager="flows"), proxy=proxy)
        user = f"system:serviceaccount:{line.namespace}:flows"
        with pytest.raises(Refused, match=f"'{user}' may not get datacubes there: bind it to ClusterRole '{EDITOR}'"):
            await flows.apply(make_cube())
        api.kubectl(
            "create", "rolebinding", "flows", f"--clusterrole={EDITOR}", account, f"--namespace={line.namespace}"
        )
        cube = await _allowed(flows)
        waiting = flows.waiting(cube)
        await flows.watched()
        await line.says("data", succeeded(run_of(cube)))
        assert (await waiting).phase is Phase.SUCCEEDED
        await delete_cube(flows.client, cube)
        with pytest.raises(NotFound):
            await metadata(line)


async def _allowed(flows: Line) -> AppliedCube:
    """Applies once the server knows of a binding that was just made."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await flows.apply(make_cube())
            except Refused:
                await asyncio.sleep(0.1)


async def test_refused_fields_are_named(line: Line) -> None:
    wrong = make_cube() | {"spec": make_cube()["spec"] | {"source": {"type": CANARY}}}
    words = r"cannot try: the cluster refuses .*spec\.source\.type.*: is its CRD"
    with pytest.raises(Refused, match=words) as caught, told_to_a_person("try"):
        await line.client.apply(DATACUBES, line.namespace, wrong)
    assert CANARY not in str(caught.value)


async def test_refusal_repeats_nothing_that_the_server_quotes(line: Line) -> None:
    said = f'DataCube "data" is invalid: spec.source: Invalid value: "{CANARY}"'
    causes = [{"field": "spec.source", "message": said}]
    invalid = {"kind": "Status", "code": 422, "reason": "Invalid", "message": said, "details": {"causes": causes}}
    webhook = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": f"webhook denied {CANARY}"}
    for status in (invalid, webhook):
        line.proxy.faults.append(Fault("^PATCH", status=status["code"], body=status))
        with pytest.raises(Refused, match=r"refuses (spec\.source|it)") as caught:
            await line.apply(make_cube())
        assert CANARY not in str(caught.value)
        assert caught.value.__cause__ is None


async def test_watch_that_breaks_goes_on_where_it_was(line: Line) -> None:
    heard = Heard()
    cube = await line.apply(make_cube())
    waiting = line.waiting(cube, listener=heard.listener)
    await line.watched()
    gets = len(line.proxy.times_of(GET))
    line.proxy.part()
    await heard.until(lambda: len(heard.troubles) > 1)
    await line.says("data", succeeded(run_of(cube)))
    line.proxy.cut = False
    assert (await waiting).phase is Phase.SUCCEEDED
    assert len(line.proxy.times_of(GET)) == gets


async def test_watch_that_is_dead_is_noticed(line: Line) -> None:
    cube = await line.apply(make_cube())
    waiting = line.waiting(cube, patience=Patience(first_pause=0.1, idle_seconds=1.0))
    await line.watched()
    line.proxy.silence()
    await line.says("data", succeeded(run_of(cube)))
    async with asyncio.timeout(5):
        assert (await waiting).phase is Phase.SUCCEEDED


@pytest.mark.parametrize("told", ["as an answer", "in the stream"])
async def test_version_that_is_too_old_is_asked_for_anew(line: Line, told: str) -> None:
    cube = await line.apply(make_cube())
    if told == "as an answer":
        line.proxy.faults.append(Fault(WATCH, status=410, body=EXPIRED))
    waiting = line.waiting(cube)
    await line.watched()
    gets = len(line.proxy.times_of(GET))
    if told == "in the stream":
        await line.proxy.say({"type": "ERROR", "object": EXPIRED})
        await line.proxy.until(GET, gets + 1)
    await line.says("data", succeeded(run_of(cube)))
    assert (await waiting).phase is Phase.SUCCEEDED
    assert len(line.proxy.times_of(GET)) >= 3  # before it was applied, at first, and anew


async def test_busy_server_is_left_alone_as_long_as_it_asks(line: Line) -> None:
    cube = await line.apply(make_cube())
    line.proxy.faults.append(Fault(WATCH, status=429, headers={"Retry-After": "2"}))
    waiting = line.waiting(cube)
    await line.watched()
    first, second = line.proxy.times_of(WATCH)
    assert second - first >= 2
    await line.says("data", succeeded(run_of(cube)))
    assert (await waiting).phase is Phase.SUCCEEDED


async def test_server_that_ends_watches_at_once_is_not_asked_without_pause(line: Line) -> None:
    cube = await line.apply(make_cube())
    line.proxy.faults.append(Fault(WATCH, status=200, text="", times=1000))
    waiting = line.waiting(cube)
    await asyncio.sleep(2)
    waiting.cancel()
    assert 2 <= len(line.proxy.times_of(WATCH)) < 15


async def test_server_that_was_killed_is_waited_for(line: Line, api: Cluster, cluster_cache: Path) -> None:
    heard = Heard()
    folder = api.kubeconfig.parent
    roster = Roster(folder / "processes", folder / "logs", {"PATH": SEARCH}, DIES_WITH_TEST)
    cube = await line.apply(make_cube())
    waiting = line.waiting(cube, listener=heard.listener)
    await line.watched()
    server = roster.find("kube-apiserver")
    assert server is not None
    server.kill()
    await heard.until(lambda: len(heard.troubles) > 1)
    start_api(roster, folder, find_programs(cluster_cache, "api"))
    await line.says("data", succeeded(run_of(cube)))
    assert (await waiting).phase is Phase.SUCCEEDED


async def test_refusal_of_a_server_that_has_just_started_is_put_up_with(line: Line) -> None:
    forbidden = {"kind": "Status", "code": 403, "reason": "Forbidden"}
    cube = await line.apply(make_cube())
    waiting = line.waiting(cube)
    await line.watched()
    line.proxy.faults.append(Fault(WATCH, status=403, body=forbidden, times=2))
    line.proxy.faults.append(Fault(GET, status=404, text="404 page not found", times=2))
    line.proxy.part()
    line.proxy.cut = False
    await line.proxy.until(WATCH, 4)
    assert [fault.times for fault in line.proxy.faults] == [0, 0]
    await line.says("data", succeeded(run_of(cube)))
    assert (await waiting).phase is Phase.SUCCEEDED


async def test_refusal_that_stays_is_told(line: Line) -> None:
    forbidden = {"kind": "Status", "code": 403, "reason": "Forbidden"}
    cube = await line.apply(make_cube())
    line.proxy.faults.append(Fault(WATCH, status=403, body=forbidden, times=1000))
    began = time.monotonic()
    with pytest.raises(Refused, match=f"cannot wait for DataCube '{cube}'"):
        await line.waiting(cube)
    assert time.monotonic() - began < 1
    line.proxy.faults.clear()
    waiting = line.waiting(cube)
    await line.watched()
    line.proxy.faults.append(Fault(r"GET .*datacubes", status=403, body=forbidden, times=1000))
    line.proxy.part()
    line.proxy.cut = False
    with pytest.raises(Refused):
        await waiting


async def test_cube_that_is_deleted_is_not_waited_for(line: Line) -> None:
    cube = await line.apply(make_cube())
    waiting = line.waiting(cube)
    await line.watched()
    await line.remove(cube)
    with pytest.raises(CubeGone, match=f"'{cube}' was deleted before its end: apply it again"):
        await waiting
    with pytest.raises(CubeGone, match="was deleted before its end was seen"):
        await line.waiting(cube)


async def test_cube_that_another_has_the_name_of_is_not_waited_for(line: Line) -> None:
    cube = await line.apply(make_cube())
    waiting = line.waiting(cube)
    await line.watched()
    line.proxy.part()
    await line.remove(cube)
    await line.others.apply(DATACUBES, line.namespace, make_cube())
    await line.says("data", succeeded(run_of(cube)))
    line.proxy.cut = False
    with pytest.raises(CubeGone):
        await waiting
    with pytest.raises(CubeGone, match="there is another of its name"):
        await line.waiting(cube)


async def test_cube_whose_deletion_waits_for_somebody_is_gone(line: Line) -> None:
    document = make_cube()
    document["metadata"]["finalizers"] = ["example.test/hold"]
    await line.others.apply(DATACUBES, line.namespace, document)
    cube = await line.apply(make_cube())
    await line.remove(cube)
    with pytest.raises(CubeGone, match="was deleted before its end"):
        await line.waiting(cube)


async def test_cube_that_is_deleted_right_after_its_end_has_ended(line: Line) -> None:
    cube = await line.apply(make_cube(ttlSecondsAfterFinished=0))
    waiting = line.waiting(cube)
    await line.watched()
    line.proxy.part()
    await line.says("data", succeeded(run_of(cube)))
    await line.remove(cube)
    line.proxy.cut = False
    assert (await waiting).phase is Phase.SUCCEEDED


async def test_end_of_the_run_before_is_not_taken_for_that_of_a_new_one(line: Line) -> None:
    heard = Heard()
    first = await line.apply(make_cube())
    await line.says("data", succeeded(run_of(first), files=1))
    again = await line.apply(rerun(make_cube(), "two"))
    waiting = line.waiting(again, listener=heard.listener)
    await line.watched()
    await line.says("data", succeeded(run_of(first), files=1) | {"observedGeneration": 1})
    await heard.until(lambda: len(heard.phases) == 2)
    assert not waiting.done()
    await line.says("data", running(run_of(again, "two")))
    await line.says("data", succeeded(run_of(again, "two"), files=2))
    status = await waiting
    assert (status.result and status.result.files) == 2


async def test_document_that_the_operator_refuses_has_ended_also_when_it_is_to_run_again(line: Line) -> None:
    await line.apply(make_cube())
    await line.says("data", failed("", "InvalidSpec", "spec.source: not allowed here"))
    again = await line.apply(rerun(make_cube(), "two"))
    assert (await line.waiting(again)).phase is Phase.FAILED


async def test_cube_that_does_not_end_in_time_goes_on(line: Line) -> None:
    cube = await line.apply(make_cube())
    with pytest.raises(WaitTimeout, match=r"was not looked at by any operator after 0\.3 s"):
        await line.waiting(cube, timeout=0.3)
    stuck = [condition("Initialized", "False", "WaitingForVolume", "there is no claim 'claim': create it")]
    await line.says("data", {"phase": "Pending", "conditions": stuck})
    with pytest.raises(WaitTimeout, match=r"was Pending \(WaitingForVolume: there is no claim 'claim': create it\)"):
        await line.waiting(cube, timeout=0.3)
    assert (await metadata(line))["uid"] == cube.uid


async def test_cube_is_deleted_and_no_other_of_its_name(line: Line) -> None:
    cube = await line.apply(make_cube())
    line.proxy.faults.append(Fault("^DELETE"))
    await delete_cube(line.client, cube)
    with pytest.raises(NotFound):
        await metadata(line)
    await delete_cube(line.client, cube)
    other = await line.apply(make_cube())
    await delete_cube(line.client, cube)
    assert (await metadata(line))["uid"] == other.uid


async def test_waiting_that_is_cancelled_leaves_no_watch_open(line: Line) -> None:
    cube = await line.apply(make_cube())
    waiting = line.waiting(cube)
    await line.watched()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(5):
        while line.proxy._streams:
            await asyncio.sleep(0.02)
