"""Tier T3: what Argo's own controller shows of runs that go well, and of all kinds that do not.

All are followed at once, since Argo moves in steps of ten seconds. What is seen is held against the fixtures in
tests/engines/observed; DATACUBE_RECORD=1 writes them anew.
"""

from __future__ import annotations

import os
import socket
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.engines.argo_accounts import DEFAULTS, render_accounts, render_cluster_roles
from tests.argo_scenes import FOLDER, facts, read_scene
from tests.cluster.argo import ensure_argo
from tests.cluster.argo_bench import ArgoBench
from tests.cluster.argo_recorded import Recorder, Run, ended, failed, moved, running, waits
from tests.cluster.image_build import transfer_image
from tests.cluster.namespace import made_namespace
from tests.cluster.pods.bench import made_bench
from tests.cluster.test_argo import GIVEN, MADE, denied, endpoint_secret, with_secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.argo_scenes import Scene
    from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.t3, pytest.mark.timeout(420)]

RECORD = "DATACUBE_RECORD"


@pytest.fixture(scope="module")
def recorder(own_cluster: Cluster, cluster_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """Where workflows run, in a namespace that admits restricted pods only."""
    ensure_argo(own_cluster, os.environ)
    image = transfer_image(own_cluster, cluster_cache, os.environ)
    with made_bench(own_cluster, image.name, tmp_path_factory.mktemp("servers")) as made:
        own_cluster.apply(*render_cluster_roles(), *render_accounts(made.namespace))
        yield Recorder(made, records=RECORD in os.environ)


@pytest.fixture(scope="module")
def silent(recorder: Recorder) -> Iterator[None]:
    """An endpoint that takes connections and says nothing; a claim with a file."""
    address = recorder.bench.cluster.bridge_address
    bench = ArgoBench(recorder.bench)
    with closing(socket.create_server((address, 0))) as server:
        recorder.bench.make_volume(GIVEN, "echo weights > /data/model.txt")
        recorder.bench.cluster.apply(
            endpoint_secret(bench, "silent", f"http://{address}:{server.getsockname()[1]}"),
            endpoint_secret(bench, "nobody", None),
        )
        yield


@pytest.fixture(scope="module")
def scenes(recorder: Recorder, silent: None) -> dict[str, Scene]:
    """What is seen of all runs of one namespace; case -> scene."""
    return recorder.play(*go_on(recorder), *wait_for_something(recorder), *cannot_run(recorder))


def go_on(recorder: Recorder) -> Iterator[Run]:
    """Runs whose attempts start."""
    bench, run = ArgoBench(recorder.bench), recorder.make_run
    yield run(
        "success",
        recorder.bench.document("s3-download", MADE),
        ("provisioning", has_pod),
        ("success-early", moved),
        ("success", ended),
        claim_exists=False,
    )
    yield run("denied", denied(bench), ("denied-early", failed(1)), ("denied", ended))
    yield run(
        "deadline",
        with_secret(bench, "silent", options={"backoffLimit": 1, "activeDeadlineSeconds": 30}),
        ("deadline-first", failed(1)),
        ("deadline", ended),
    )
    yield run(
        "lost",
        with_secret(bench, "silent", options={"backoffLimit": 2}),
        ("running", running(1)),
        ("running-noted", is_noted),
        Recorder.delete_pod,
        ("lost", failed(1)),
        ("lost-backoff", backs_off),
        ("lost-retried", running(2)),
        Recorder.terminate,
        ("terminated", ended),
    )


def wait_for_something(recorder: Recorder) -> Iterator[Run]:
    """Runs that are held before their start."""
    bench, run = ArgoBench(recorder.bench), recorder.make_run
    image = replace(recorder.bench.installation, image="datacube.test/none:1")
    bench.submit_foreign("locked", with_secret(bench, "silent"))
    yield run("locked", with_secret(bench, "silent"), ("locked", waits(Reason.QUEUED)))
    yield run("suspended", with_secret(bench, "silent"), ("suspended", is_suspended), spec={"suspend": True})
    lacks = waits(Reason.WAITING_FOR_SECRET)
    yield run(
        "secret",
        with_secret(bench, "absent"),
        ("secret", lacks),
        Recorder.delete_pod,
        ("secret-gone", has_no_pod),
        ("secret-again", lacks),
    )
    yield run("image", with_secret(bench, "silent"), ("image", waits(Reason.IMAGE_PULL_ERROR)), installation=image)


def cannot_run(recorder: Recorder) -> Iterator[Run]:
    """Runs that have no attempt, or attempts without pods."""
    bench, run = ArgoBench(recorder.bench), recorder.make_run
    bad = recorder.bench.document("s3-download", "bad")
    bad["spec"]["sink"]["pvc"]["template"]["spec"]["resources"] = {"requests": {"storage": "0"}}
    yield run("claim", bad, ("claim", ended), claim_exists=False)
    yield replace(run("template", with_secret(bench, "silent"), ("template", ended)), template=None)
    as_root = with_secret(bench, "silent", options={"backoffLimit": 1}, securityContext={"runAsUser": 0})
    yield run("rejected", as_root, ("rejected-first", failed(1)), ("rejected", ended))
    retried = with_secret(bench, "silent", options={"backoffLimit": 1})
    nobody = replace(DEFAULTS, runner_account="nobody")
    yield run("account", retried, ("account-first", failed(1)), ("account", ended), settings=nobody)


@pytest.fixture(scope="module")
def quota_scenes(recorder: Recorder, silent: None) -> Iterator[dict[str, Scene]]:
    """What is seen where a namespace has no room for pods, then none for claims."""
    with made_namespace(recorder.bench.cluster) as namespace:
        there = replace(recorder, bench=replace(recorder.bench, namespace=namespace))
        there.bench.cluster.apply(*render_accounts(namespace), quota(namespace, pods="0"))
        held = with_secret(ArgoBench(there.bench), "silent")
        seen = there.play(
            there.make_run(
                "quota", held, ("quota", waits(Reason.QUOTA_EXCEEDED)), raise_quota, ("quota-raised", has_pod)
            )
        )
        making = there.bench.document("s3-download", MADE)
        claim = there.make_run("claim-quota", making, ("claim-quota", waits(Reason.QUOTA_EXCEEDED)), claim_exists=False)
        yield seen | there.play(claim)


def quota(namespace: str, **hard: str) -> dict[str, Any]:
    metadata = {"name": "quota", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}


def raise_quota(recorder: Recorder, scene: Scene) -> None:
    """Gives room for pods, and takes that for claims."""
    del scene
    recorder.bench.cluster.apply(quota(recorder.bench.namespace, pods="9", persistentvolumeclaims="0"))


def has_pod(scene: Scene) -> bool:
    return scene.phase == "Running" and bool(scene.pods)


def has_no_pod(scene: Scene) -> bool:
    return not scene.pods


def is_noted(scene: Scene) -> bool:
    """Argo has seen the pod run; one that is gone before, it makes anew as the same attempt."""
    nodes = (scene.workflow or {}).get("status", {}).get("nodes", {}).values()
    return any(node["type"] == "Pod" and node.get("phase") == "Running" for node in nodes)


def is_suspended(scene: Scene) -> bool:
    return scene.phase == "Running" and bool(waits(Reason.SUSPENDED)(scene))


def backs_off(scene: Scene) -> bool:
    return "Backoff for" in str(scene.workflow) and bool(failed(1)(scene))


def test_runs_are_seen_as_they_were_recorded(scenes: dict[str, Scene], quota_scenes: dict[str, Scene]) -> None:
    seen = {case: facts(scene) for case, scene in (scenes | quota_scenes).items()}
    assert seen == {file.stem: facts(read_scene(file.stem)) for file in FOLDER.glob("*.json")}
