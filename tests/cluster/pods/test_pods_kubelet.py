"""Tier T3: what only a kubelet does to an attempt, and what the API shows of it; each case is a fixture of the core."""

from __future__ import annotations

import json
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.core.observation import PodPhase
from datacube_flows.core.observe_pod import main_state, observe_pod
from datacube_flows.core.pod_waiting import waiting_reason
from tests.cluster.pods.bench import report_of
from tests.cluster.storage import small_volume
from tests.servers.stage import BUCKET, GIT_REPOSITORY
from tests.support import tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.pods.bench import Bench, Document
    from tests.cluster.pods.observed import Observed

pytestmark = [pytest.mark.t3, pytest.mark.usefixtures("claim")]

USER = 65532


def is_waiting(word: str) -> Any:
    """A condition: the container waits, in this word."""
    return lambda pod: (main_state(pod, "waiting") or {}).get("reason") == word


def is_running(pod: dict[str, Any]) -> bool:
    return main_state(pod, "running") is not None


def has_progress(bench: Bench, name: str) -> bool:
    """Whether the attempt has come so far that it can be told to end: Python starts in a second, or in many."""
    return '"progress"' in bench.log(name)


def options_of(document: Document) -> list[dict[str, Any]]:
    spec = document["spec"]
    found: list[dict[str, Any]] = spec["source"].get("options") or spec["sink"]["options"]
    return found


def claim_of(name: str, bench: Bench, **spec: Any) -> dict[str, Any]:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}} | spec
    metadata = {"name": name, "namespace": bench.namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": wanted}


CLAIM = "many"
"""Shared by those cases that do not care for the volume itself; each has a folder of its own on it."""

DEADLINE = 15
"""Seconds; on a busy machine an attempt takes some of them to start, and only then can report its end."""


@pytest.fixture(scope="module")
def claim(bench: Bench) -> None:
    """Has the claims that are there beforehand, and the pods that wait or run for long: beside all others."""
    bench.make_volumes({CLAIM: "true", "escape": "ln -s /etc /data/dev", "sealed": "true", "lacking": "true"})
    unpulled = bench.pod(download(bench, "unpulled"), "unpulled")
    unpulled["spec"]["containers"][0] |= {"image": "192.0.2.1/none:1", "imagePullPolicy": "Always"}
    filler = bench.script("scratchful", "dd if=/dev/zero of=/tmp/file bs=1M count=30 2>&1; sleep 600", CLAIM)
    next(v for v in filler["spec"]["volumes"] if v["name"] == "scratch")["emptyDir"]["sizeLimit"] = "10Mi"
    bench.cluster.apply(unpulled, filler)
    bench.start(slow(bench, "late", options={"activeDeadlineSeconds": DEADLINE}), "late")


def download(bench: Bench, name: str, example: str = "s3-download", **executor: Any) -> Document:
    return bench.document(example, CLAIM, sub_path=f"{name}/folder", **executor)


def slow(bench: Bench, name: str, **executor: Any) -> Document:
    """A download that would take a quarter of an hour."""
    bench.stage.store.put(BUCKET, "slow/file.bin", bytes(1_000_000))
    document = download(bench, name, **executor)
    options_of(document)[-1]["value"] = f"s3://{BUCKET}/slow"
    document["spec"]["executor"].setdefault("options", {})["bandwidthLimit"] = "1k"
    return document


def test_token_is_put_into_the_url_when_the_document_names_it_later(bench: Bench) -> None:
    document = download(bench, "order", "git-download")
    options_of(document).sort(key=lambda option: option["name"], reverse=True)
    assert [o["name"] for o in options_of(document)] == ["url", "token", "ref"]
    seen = bench.run(document, "order")
    assert seen.phase is PodPhase.SUCCEEDED, seen
    assert tree(bench.volume(CLAIM) / "order/folder/repo") == bench.stage.git.repositories[GIT_REPOSITORY].tree("main")


def test_attempt_waits_for_a_missing_secret_and_runs_when_it_is_made(bench: Bench, observed: Observed) -> None:
    document = download(bench, "late-secret", "git-download")
    next(o for o in options_of(document) if o["name"] == "token")["valueFrom"]["secretKeyRef"]["name"] = "late"
    bench.start(document, "late-secret")
    pod = bench.wait("late-secret", is_waiting("CreateContainerConfigError"))
    observed.check("secret-missing", pod)
    secret = {
        "metadata": {"name": "late", "namespace": bench.namespace},
        "stringData": {"token": bench.stage.git.token},
    }
    bench.cluster.apply({"apiVersion": "v1", "kind": "Secret", **secret})
    assert observe_pod(bench.finish("late-secret")).phase is PodPhase.SUCCEEDED


def test_attempt_waits_for_a_missing_key(bench: Bench, observed: Observed) -> None:
    document = download(bench, "keyless", "git-download")
    next(o for o in options_of(document) if o["name"] == "token")["valueFrom"]["secretKeyRef"]["key"] = "nokey"
    bench.start(document, "keyless")
    observed.check("secret-key-missing", bench.wait("keyless", is_waiting("CreateContainerConfigError")))


def test_value_comes_from_a_config_map_and_optional_references_may_be_absent(bench: Bench) -> None:
    data = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"endpoint": bench.address(bench.stage.store.url)}}
    bench.cluster.apply(data | {"metadata": {"name": "places", "namespace": bench.namespace}})
    absent = {"name": "no-such", "key": "k", "optional": True}
    env = [
        {"name": "FROM_NO_SECRET", "valueFrom": {"secretKeyRef": absent}},
        {"name": "FROM_NO_MAP", "valueFrom": {"configMapKeyRef": absent}},
    ]
    document = download(bench, "mapped", env=env)
    endpoint = next(o for o in options_of(document) if o["name"] == "s3-endpoint")
    endpoint["valueFrom"] = {"configMapKeyRef": {"name": "places", "key": "endpoint"}}
    seen = bench.run(document, "mapped")
    assert (seen.phase, report_of(seen).files > 0) == (PodPhase.SUCCEEDED, True), seen


def test_sub_path_is_made_for_the_attempt_to_write_in(bench: Bench) -> None:
    bench.need_own_node("looks at the rights of files where their node has them")
    bench.run(bench.document("s3-download", "made"), "made")
    for folder in ("dev", "dev/s3"):
        made = (bench.disk("made") / folder).stat()
        assert (made.st_uid, made.st_gid, oct(made.st_mode & 0o7777)) == (0, USER, "0o2775"), folder
    file = next(f for f in (bench.disk("made") / "dev/s3").rglob("*.bin")).stat()
    assert (file.st_uid, file.st_gid) == (USER, USER)


def test_sub_path_that_leads_out_of_the_volume_is_refused(bench: Bench, observed: Observed) -> None:
    bench.start(bench.document("s3-download", "escape"), "escape")
    pod = bench.wait("escape", is_waiting("CreateContainerConfigError"))
    observed.check("sub-path-escapes", pod)
    bench.cluster.kubectl("delete", "pod", "escape", bench.here)


def test_upload_cannot_write_to_its_volume(bench: Bench) -> None:
    pod = bench.pod(bench.document("s3-upload", "sealed"), "sealed")
    script = "touch /data/file; touch /file; touch /tmp/file && echo only scratch"
    pod["spec"]["containers"][0] |= {"command": ["sh", "-c", f"exec 2>&1; {script}"], "args": []}
    bench.cluster.apply(pod)
    bench.finish("sealed")
    assert bench.log("sealed").splitlines() == [
        "touch: cannot touch '/data/file': Read-only file system",
        "touch: cannot touch '/file': Read-only file system",
        "only scratch",
    ]
    assert list(bench.volume("sealed").iterdir()) == []


def test_upload_of_a_path_that_is_not_there_is_an_error(bench: Bench, observed: Observed) -> None:
    pod = bench.finish(bench.start(bench.document("s3-upload", "lacking"), "lacking"))
    observed.check("source-missing", pod)
    assert list(bench.volume("lacking").iterdir()) == []


def test_attempt_has_no_token_of_the_cluster(bench: Bench) -> None:
    bench.cluster.apply(bench.script("tokenless", "ls /var/run/secrets /run/secrets; env", CLAIM))
    bench.finish("tokenless")
    log = bench.log("tokenless")
    assert "No such file or directory" in bench.log("tokenless")
    assert "/var/run/secrets/kubernetes.io" not in log


def test_deadline_ends_the_attempt_and_keeps_its_report(bench: Bench, observed: Observed) -> None:
    pod = bench.finish("late")
    observed.check("deadline", pod)
    assert (pod["status"]["reason"], observe_pod(pod).exit_code) == ("DeadlineExceeded", 143)
    assert report_of(observe_pod(pod)).reason is Reason.TRANSFER_ERROR


def test_attempt_that_takes_too_much_memory_is_killed(bench: Bench, observed: Observed) -> None:
    resources = {"limits": {"memory": "24Mi"}, "requests": {"memory": "8Mi"}}
    pod = bench.finish(bench.start(download(bench, "large", resources=resources), "large"))
    observed.check("out-of-memory", pod)


def test_image_that_is_not_there_keeps_the_attempt_waiting(bench: Bench, observed: Observed) -> None:
    pod = bench.pod(download(bench, "imageless"), "imageless")
    pod["spec"]["containers"][0] |= {"image": "datacube.test/none:1", "imagePullPolicy": "Never"}
    bench.cluster.apply(pod)
    observed.check("image-missing", bench.wait("imageless", is_waiting("ErrImageNeverPull")))


def test_image_that_cannot_be_pulled_keeps_the_attempt_waiting(bench: Bench, observed: Observed) -> None:
    observed.check("image-unreachable", bench.wait("unpulled", is_waiting("ImagePullBackOff")))


def test_claim_that_does_not_exist_keeps_the_attempt_waiting(bench: Bench, observed: Observed) -> None:
    bench.cluster.apply(bench.pod(bench.document("s3-download", "nowhere"), "nowhere"))
    observed.check("claim-missing", bench.wait("nowhere", waiting_reason))


def test_claim_that_no_storage_class_serves_keeps_the_attempt_waiting(bench: Bench, observed: Observed) -> None:
    claim = claim_of("unserved", bench, storageClassName="no-such-class")
    bench.cluster.apply(claim, bench.pod(bench.document("s3-download", "unserved"), "unserved"))
    observed.check("claim-unbound", bench.wait("unserved", waiting_reason))


def test_claim_that_its_driver_refuses_keeps_the_attempt_waiting(bench: Bench, observed: Observed) -> None:
    claim = claim_of("shared", bench, accessModes=["ReadWriteMany"])
    bench.cluster.apply(claim, bench.pod(bench.document("s3-download", "shared"), "shared"))
    pod = bench.wait("shared", lambda pod: waiting_reason(pod, bench.events("shared")))
    observed.check("claim-refused", pod, "shared")


def test_claim_waits_for_its_first_attempt_and_is_then_bound(bench: Bench) -> None:
    bench.cluster.apply(claim_of("first", bench))
    assert bench.cluster.get("pvc", "first", bench.here)["status"]["phase"] == "Pending"
    assert bench.run(bench.document("s3-download", "first"), "first").phase is PodPhase.SUCCEEDED
    assert bench.cluster.get("pvc", "first", bench.here)["status"]["phase"] == "Bound"


def test_node_without_room_keeps_the_attempt_waiting(bench: Bench, observed: Observed) -> None:
    resources = {"requests": {"memory": "900Gi"}, "limits": {"memory": "900Gi"}}
    document = download(bench, "roomless", resources=resources)
    bench.start(document, "roomless")
    observed.check("no-room", bench.wait("roomless", waiting_reason))


def test_volume_that_is_too_small_ends_the_run_before_a_byte_moves(bench: Bench, observed: Observed) -> None:
    bench.need_own_node("needs a disk of 20 MB")
    bench.stage.store.put(BUCKET, "big/file.bin", bytes(30_000_000))
    document = bench.document("s3-download", "little")
    options_of(document)[-1]["value"] = f"s3://{BUCKET}/big"
    with small_volume(bench.cluster, "little", bench.namespace, megabytes=20):
        pod = bench.finish(bench.start(document, "little"))
        observed.check("disk-too-small", pod)
        bench.cluster.kubectl("delete", "pod", "little", bench.here)


def test_volume_that_fills_up_while_files_arrive_ends_the_run(bench: Bench, observed: Observed) -> None:
    bench.need_own_node("needs a disk of 20 MB")
    content = random.Random(7).randbytes(30_000_000)  # noqa: S311 - what cannot be packed
    bench.stage.git.make_repository("user/large", {"large.bin": content})
    document = bench.document("git-download", "filled")
    address = next(o for o in options_of(document) if o["name"] == "url")
    address["value"] = address["value"].replace(GIT_REPOSITORY, "user/large")
    with small_volume(bench.cluster, "filled", bench.namespace, megabytes=20):
        pod = bench.finish(bench.start(document, "filled"))
        observed.check("disk-fills", pod)
        bench.cluster.kubectl("delete", "pod", "filled", bench.here)


@contextmanager
def held(bench: Bench, name: str) -> Iterator[None]:
    """Keeps a pod in the API, also when it is deleted, until it was looked at."""
    patch = ["patch", "pod", name, bench.here, "--type=merge", "--patch"]
    bench.cluster.kubectl(*patch, json.dumps({"metadata": {"finalizers": ["datacube.test/look"]}}))
    try:
        yield
    finally:
        bench.cluster.kubectl(*patch, json.dumps({"metadata": {"finalizers": None}}))


def test_attempt_whose_pod_is_deleted_is_told_to_end(bench: Bench, observed: Observed) -> None:
    bench.start(slow(bench, "deleted"), "deleted")
    bench.wait("deleted", lambda _pod: has_progress(bench, "deleted"))
    with held(bench, "deleted"):
        bench.cluster.kubectl("delete", "pod", "deleted", bench.here, "--wait=false")
        pod = bench.finish("deleted")
        observed.check("pod-deleted", pod)
    assert report_of(observe_pod(pod)).message == "the attempt was told to end before it was done"


def test_attempt_that_is_being_deleted_still_runs(bench: Bench, observed: Observed) -> None:
    bench.cluster.apply(bench.script("deleting", "trap '' TERM; while :; do sleep 0.1; done", CLAIM))
    bench.wait("deleting", is_running)
    bench.cluster.kubectl("delete", "pod", "deleting", bench.here, "--wait=false")
    observed.check("pod-deleting", bench.wait("deleting", lambda pod: pod["metadata"].get("deletionTimestamp")))


def test_attempt_whose_pod_is_evicted_says_so(bench: Bench, observed: Observed) -> None:
    bench.start(slow(bench, "evicted"), "evicted")
    bench.wait("evicted", lambda _pod: has_progress(bench, "evicted"))
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "evicted"}}
    path = f"/api/v1/namespaces/{bench.namespace}/pods/evicted/eviction"
    with held(bench, "evicted"):
        bench.cluster.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(eviction))
        observed.check("evicted", bench.finish("evicted"))


@pytest.mark.timeout(300)
def test_attempt_that_fills_its_scratch_folder_is_evicted(bench: Bench, observed: Observed) -> None:
    """The kubelet measures volumes once in a minute or two."""
    observed.check("scratch-full", bench.finish("scratchful", seconds=240))


def test_command_that_is_not_in_the_image_is_told_from_a_failed_transfer(bench: Bench, observed: Observed) -> None:
    pod = bench.pod(download(bench, "commandless"), "commandless")
    pod["spec"]["containers"][0]["command"] = ["no-such-program"]
    bench.cluster.apply(pod)
    observed.check("not-started", bench.finish("commandless"))


def test_attempt_that_runs_shows_its_counters(bench: Bench, observed: Observed) -> None:
    bench.start(slow(bench, "running"), "running")
    pod = bench.wait("running", is_running)
    observed.check("running", pod)
    bench.wait("running", lambda _pod: last_counters(bench, "running").get("bytesTotal") == 1_000_000)
    bench.cluster.kubectl("delete", "pod", "running", bench.here, "--wait=false", "--grace-period=1")


def last_counters(bench: Bench, name: str) -> dict[str, Any]:
    """What the last line of the log says of the progress, as an operator would read it."""
    lines = bench.log(name).splitlines() or ["{}"]
    found: dict[str, Any] = json.loads(lines[-1]).get("progress", {})
    return found
