"""Tier T3: DataCubes run by Argo's own controller, in a namespace that admits restricted pods only.

The controller takes nothing but references to templates (`templateReferencing: Strict`). All workflows are submitted at
once; each test waits for its own.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.core import labels
from datacube_flows.core.retry import EXIT_PERMANENT
from datacube_flows.engines.argo_accounts import render_accounts, render_cluster_roles
from tests.cluster.argo import ensure_argo
from tests.cluster.argo_bench import ArgoBench, nodes_of, outputs_of, values_of, wait_until
from tests.cluster.image_build import transfer_image
from tests.cluster.pods.bench import made_bench
from tests.servers.stage import BUCKET, PREFIX, TARGET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.t3, pytest.mark.timeout(300)]

MADE, GIVEN = "made", "given"
"""A claim that a step of a workflow makes, and one that exists."""

BRACES = "of {{workflow.name}}, {{=1+1}}, {{inputs.parameters.run}}, $(NOBODY), a lone {{"

Workflows = dict[str, str]


@pytest.fixture(scope="module")
def bench(own_cluster: Cluster, cluster_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArgoBench]:
    """Where workflows run; at the end no object, log and volume holds a credential."""
    ensure_argo(own_cluster, os.environ)
    image = transfer_image(own_cluster, cluster_cache, os.environ)
    with made_bench(own_cluster, image.name, tmp_path_factory.mktemp("servers")) as made:
        own_cluster.apply(*render_cluster_roles(), *render_accounts(made.namespace))
        yield ArgoBench(made)
        leaks = [*made.leaks(), *ArgoBench(made).leaks()]
    assert not leaks, f"secrets are to be seen: {leaks}"


@pytest.fixture(scope="module")
def workflows(bench: ArgoBench) -> Iterator[Workflows]:
    """Submits all of them; test -> the workflow's name."""
    made = bench.bench
    with closing(socket.create_server((made.cluster.bridge_address, 0))) as silent:
        port = silent.getsockname()[1]
        made.make_volume(GIVEN, "echo weights > /data/model.txt")
        made.cluster.apply(
            endpoint_secret(bench, "silent", f"http://{made.cluster.bridge_address}:{port}"),
            endpoint_secret(bench, "nobody", None),
        )
        yield {
            "download": bench.submit("download", made.document("s3-download", MADE)),
            **dict(zip(("first", "second"), bench.submit_foreign("shared", shared(bench)), strict=True)),
            "denied": bench.submit("denied", denied(bench), claim_exists=True),
            "deadline": bench.submit("deadline", deadline(bench), claim_exists=True),
            "lost": bench.submit("lost", with_secret(bench, "silent", options={"backoffLimit": 1}), claim_exists=True),
            "braces": bench.submit("braces", braces(bench)),
            "paced": bench.submit("paced", paced(bench), change=told_often, claim_exists=True),
        }


def endpoint_secret(bench: ArgoBench, name: str, endpoint: str | None) -> dict[str, Any]:
    """Other values than those that the examples' Secret holds: an endpoint, or else a key that nobody has."""
    values = dict(bench.bench.stage.secrets()["s3-config"])
    address = values["endpoint"].replace("127.0.0.1", bench.bench.cluster.bridge_address)
    values |= {"endpoint": endpoint or address} | ({} if endpoint else {"accessKeyID": values["accessKeyID"] + "x"})
    metadata = {"name": name, "namespace": bench.bench.namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


def with_secret(bench: ArgoBench, secret: str, **executor: Any) -> dict[str, Any]:
    """A download that takes its endpoint and keys from another Secret."""
    document = bench.bench.document("s3-download", GIVEN, **executor)
    text = json.dumps(document).replace('"name": "s3-config"', f'"name": "{secret}"')
    changed: dict[str, Any] = json.loads(text)
    return changed


def shared(bench: ArgoBench) -> dict[str, Any]:
    return bench.bench.document("s3-download", MADE, sub_path="shared")


def denied(bench: ArgoBench) -> dict[str, Any]:
    return with_secret(bench, "nobody", options={"backoffLimit": 3})


def deadline(bench: ArgoBench) -> dict[str, Any]:
    return with_secret(bench, "silent", options={"backoffLimit": 1, "activeDeadlineSeconds": 4})


def braces(bench: ArgoBench) -> dict[str, Any]:
    document = bench.bench.document("huggingface-upload", GIVEN, sub_path="model.txt")
    options = document["spec"]["sink"]["options"]
    next(o for o in options if o["name"] == "commit-message")["value"] = BRACES
    return document


def paced(bench: ArgoBench) -> dict[str, Any]:
    """A download of 40,000 bytes that takes half a minute."""
    return bench.bench.document("s3-download", GIVEN, sub_path="paced", options={"bandwidthLimit": "1500"})


def told_often(template: dict[str, Any]) -> dict[str, Any]:
    """Has Argo's container tell progress each second; an installation of Argo says how often, by itself each minute."""
    ticks = [{"name": f"ARGO_PROGRESS_{of}_TICK_DURATION", "value": "1s"} for of in ("FILE", "PATCH")]
    for step in template["spec"]["templates"]:
        if "podSpecPatch" in step:
            patch = json.loads(step["podSpecPatch"])
            patch["containers"][0]["env"] = ticks
            step["podSpecPatch"] = json.dumps(patch)
    return template


def test_progress_of_an_attempt_is_shown_by_argo_itself(bench: ArgoBench, workflows: Workflows) -> None:
    """Comes first: it looks at a run while that is under way."""

    def shown() -> list[str]:
        found = bench.bench.cluster.get("workflow", workflows["paced"], bench.bench.here)
        nodes = nodes_of(found, "Pod") if found.get("status", {}).get("nodes") else []
        return [node["progress"] for node in nodes if node.get("progress", "0/1") not in {"0/1", "1/1"}]

    (progress,) = wait_until(shown)
    done, total = map(int, progress.split("/"))
    assert total == 40_000
    assert 0 <= done < total
    assert bench.finish(workflows["paced"])["status"]["progress"] == "40000/40000"


def test_download_makes_its_claim_moves_every_byte_and_has_outputs(bench: ArgoBench, workflows: Workflows) -> None:
    found = bench.finish(workflows["download"])
    assert found["status"]["phase"] == "Succeeded"
    store, folder = bench.bench.stage.store, bench.bench.volume(MADE) / "dev/s3"
    wanted = {key: store.get(BUCKET, key) for key in store.list(BUCKET, PREFIX)}
    assert {key: (folder / key.removeprefix(f"{PREFIX}/")).read_bytes() for key in wanted} == wanted
    sizes = sum(map(len, wanted.values()))
    assert outputs_of(found) == {"path": "dev/s3", "revision": "", "files": str(len(wanted)), "bytes": str(sizes)}
    claim = bench.bench.cluster.get("pvc", MADE, bench.bench.here)
    assert "ownerReferences" not in claim["metadata"]


def test_attempt_sees_no_token_and_argo_takes_its_outputs_all_the_same(bench: ArgoBench, workflows: Workflows) -> None:
    bench.finish(workflows["download"])
    (pod,) = bench.pods(workflows["download"])
    main, wait = (next(c for c in pod["spec"]["containers"] if c["name"] == name) for name in ("main", "wait"))
    token = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert [m["name"] for m in main["volumeMounts"] if m["mountPath"] == token] == ["no-token"]
    assert main["securityContext"] == wait["securityContext"] == pod["spec"]["initContainers"][0]["securityContext"]
    assert pod["spec"]["enableServiceLinks"] is False
    assert pod["metadata"]["labels"][labels.RUN] == workflows["download"].rpartition("-")[2]


def test_foreign_workflow_by_reference_gets_the_outputs(bench: ArgoBench, workflows: Workflows) -> None:
    found = bench.finish(workflows["first"])
    assert found["status"]["phase"] == "Succeeded"
    (train,) = nodes_of(found, "Suspend")
    seen = values_of(train["inputs"])
    assert (seen["path"], seen["files"]) in {("shared", "20"), ("shared", "0")}
    (pod,) = bench.pods(workflows["first"])
    assert pod["metadata"]["labels"][labels.UID] == "uid-of-shared"
    assert pod["metadata"]["labels"][labels.RUN] == ""


def test_runs_of_one_cube_exclude_each_other_in_foreign_workflows_too(bench: ArgoBench, workflows: Workflows) -> None:
    found = [bench.finish(workflows[name]) for name in ("first", "second")]
    assert [f["status"]["phase"] for f in found] == ["Succeeded", "Succeeded"]
    spans = sorted((a.started, a.finished) for name in ("first", "second") for a in bench.attempts(workflows[name]))
    (_, first_end), (second_start, _) = spans
    assert first_end <= second_start
    moved = {values_of(nodes_of(f, "Suspend")[0]["inputs"])["files"] for f in found}
    assert moved == {"20", "0"}, "the second found all that the first had moved"


def test_permanent_failure_ends_the_run_at_once(bench: ArgoBench, workflows: Workflows) -> None:
    found = bench.finish(workflows["denied"])
    assert found["status"]["phase"] == "Failed"
    (attempt,) = bench.attempts(workflows["denied"])
    assert (attempt.exit_code, attempt.failure[0]) == (EXIT_PERMANENT, Reason.ACCESS_DENIED)
    assert bench.pods(workflows["denied"], labels.PROVISION) == []


def test_deadline_is_each_attempts_and_attempts_are_one_more_than_retries(
    bench: ArgoBench, workflows: Workflows
) -> None:
    found = bench.finish(workflows["deadline"])
    assert found["status"]["phase"] == "Failed"
    attempts = bench.attempts(workflows["deadline"])
    assert [(a.number, a.failure[0]) for a in attempts] == [(n, Reason.DEADLINE_EXCEEDED) for n in (1, 2)]


def test_braces_of_a_document_arrive_as_they_were_written(bench: ArgoBench, workflows: Workflows) -> None:
    assert bench.finish(workflows["braces"])["status"]["phase"] == "Succeeded"
    repository = bench.bench.stage.hub.store.repositories["model", TARGET]
    assert BRACES in [commit.message for commit in repository.commits.values()]


def test_pod_that_is_deleted_is_followed_by_another(bench: ArgoBench, workflows: Workflows) -> None:
    workflow = workflows["lost"]
    (pod,) = wait_until(lambda: bench.pods(workflow))
    bench.bench.wait(pod["metadata"]["name"], lambda p: p["status"].get("phase") == "Running")
    bench.bench.cluster.kubectl("delete", "pod", pod["metadata"]["name"], bench.bench.here, "--grace-period=1")
    (after,) = wait_until(lambda: [a for a in bench.attempts(workflow) if a.pod != pod["metadata"]["name"]])
    assert after.number == 2
