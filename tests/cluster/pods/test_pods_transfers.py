"""Tier T3: the six transfers, each as a pod of the examples' own documents; then every byte compared."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.core.observation import PodPhase
from datacube_flows.core.observe_pod import observe_pod
from tests.cluster.pods.bench import report_of
from tests.servers.stage import BUCKET, GIT_REPOSITORY, MODEL, PREFIX, TARGET
from tests.support import tree

if TYPE_CHECKING:
    from tests.cluster.pods.bench import Bench, Document
    from tests.cluster.pods.observed import Observed

pytestmark = [pytest.mark.t3, pytest.mark.usefixtures("started")]

SINGLE = {"huggingface-upload": "single-hu", "s3-upload": "single-s3"}
"""Example -> a claim of its own, on which one file is to be uploaded."""


@pytest.fixture(scope="module")
def started(bench: Bench) -> str:
    """Starts all that waits for nothing else, so that their claims are made at once; returns the revision to be had."""
    revision = bench.stage.git.repositories[GIT_REPOSITORY].head("main")
    bench.start(bench.document("git-download", "git"), "git-download")
    bench.start(bench.document("huggingface-download", "hub"), "hub-download")
    bench.start(bench.document("s3-download", "objects"), "s3-download")
    bench.start(unauthorised(bench), "refused")
    bench.make_volumes(dict.fromkeys(SINGLE.values(), ONE_FILE))
    return revision


ONE_FILE = "mkdir /data/weights && yes 'one file' | head -100 > /data/weights/one.bin"


def unauthorised(bench: Bench) -> Document:
    document = bench.document("huggingface-download", "refused")
    document["spec"]["source"]["options"][0] = {"name": "token", "value": "hf_nobody"}
    document["spec"]["source"]["options"][1]["value"] = TARGET
    return document


def test_git_pods_move_a_repository_down_and_commits_up(bench: Bench, observed: Observed) -> None:
    served = bench.stage.git.repositories[GIT_REPOSITORY]
    pod = bench.finish("git-download")
    observed.check("git-download", pod)
    assert tree(bench.volume("git") / "dev/git/repo") == served.tree("main") != {}
    bench.on_volume("committer", COMMIT, "git")
    seen = bench.run(bench.document("git-upload", "git"), "git-upload")
    assert (seen.phase, report_of(seen).verified) == (PodPhase.SUCCEEDED, "git")
    assert tree(bench.volume("git") / "dev/git/repo") == served.tree("main")
    assert "notes.md" in served.tree("main")


COMMIT = """
cd /data/dev/git/repo && echo 'trained on Tuesday' > notes.md && git add notes.md
git -c user.name=Ada -c user.email=ada@example.invalid commit --quiet -m 'Add notes'
"""
"""What a person does in a notebook on the same claim."""


def test_hub_pods_move_a_model_down_and_up(bench: Bench) -> None:
    seen = observe_pod(bench.finish("hub-download"))
    folder = bench.volume("hub") / "dev/hf/whisper-large-v3"
    assert (seen.phase, report_of(seen).verified) == (PodPhase.SUCCEEDED, "checksum")
    assert tree(folder) == _hub_tree(bench, MODEL) != {}
    seen = bench.run(bench.document("huggingface-upload", "hub"), "hub-upload")
    assert (seen.phase, report_of(seen).verified) == (PodPhase.SUCCEEDED, "checksum")
    uploaded = _hub_tree(bench, TARGET).items()
    assert tree(folder) == {n.removeprefix("pvc/demo/"): h for n, h in uploaded if n.startswith("pvc/demo/")}


def test_s3_pods_move_objects_down_up_and_in_sync(bench: Bench) -> None:
    store = bench.stage.store
    seen = observe_pod(bench.finish("s3-download"))
    assert (seen.phase, report_of(seen).verified) == (PodPhase.SUCCEEDED, "checksum")
    assert tree(bench.volume("objects") / "dev/s3") == _bucket_tree(bench, PREFIX) != {}
    upload = bench.document("s3-upload", "objects")
    upload["spec"]["source"]["pvc"]["subPath"] = "dev/s3"
    seen = bench.run(upload, "s3-upload")
    assert (seen.phase, report_of(seen).verified) == (PodPhase.SUCCEEDED, "checksum")
    assert _bucket_tree(bench, "models/whisper-large-v3") == _bucket_tree(bench, PREFIX)
    store.delete(BUCKET, f"{PREFIX}/0/00000.bin")
    store.put(BUCKET, f"{PREFIX}/new.bin", b"new")
    seen = bench.run(bench.document("s3-sync", "objects"), "s3-sync")
    assert (report_of(seen).deleted, report_of(seen).files) == (1, 1)
    assert tree(bench.volume("objects") / "dev/s3") == _bucket_tree(bench, PREFIX)


@pytest.mark.parametrize("example", SINGLE)
def test_single_file_is_uploaded_when_the_sub_path_names_one(bench: Bench, example: str) -> None:
    document = bench.document(example, SINGLE[example])
    document["spec"]["source"]["pvc"]["subPath"] = "weights/one.bin"
    options = document["spec"]["sink"]["options"]
    next(o for o in options if o["name"] in {"s3-uri", "path-in-repo"})["value"] = {
        "huggingface-upload": "single/one.bin",
        "s3-upload": f"s3://{BUCKET}/single",
    }[example]
    seen = bench.run(document, f"one-file-{example}")
    assert (seen.phase, report_of(seen).files) == (PodPhase.SUCCEEDED, 1)
    if example == "s3-upload":
        assert bench.stage.store.get(BUCKET, "single/one.bin") == b"one file\n" * 100
    else:
        assert bench.stage.hub.content(TARGET, "single/one.bin") == b"one file\n" * 100


def test_second_download_moves_nothing_and_says_so(bench: Bench, observed: Observed) -> None:
    document = bench.document("s3-download", "objects", sub_path="again")
    bench.run(document, "again-first")
    pod = bench.finish(bench.start(document, "again-second"))
    observed.check("up-to-date", pod)


def test_wrong_token_is_refused_for_good(bench: Bench, observed: Observed) -> None:
    pod = bench.finish("refused")
    observed.check("access-denied", pod)
    assert '"reason"' in pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"]


def _hub_tree(bench: Bench, repository: str) -> dict[str, str]:
    hub = bench.stage.hub
    return {name: hashlib.sha256(hub.content(repository, name)).hexdigest() for name in hub.files(repository)}


def _bucket_tree(bench: Bench, prefix: str) -> dict[str, str]:
    store = bench.stage.store
    keys = store.list(BUCKET, prefix + "/")
    return {key[len(prefix) + 1 :]: hashlib.sha256(store.get(BUCKET, key)).hexdigest() for key in keys}


def test_report_of_a_download_says_what_was_moved(bench: Bench, started: str) -> None:
    report = report_of(observe_pod(bench.finish("git-download")))
    assert (report.reason, report.path) == (Reason.TRANSFER_COMPLETE, "dev/git/repo")
    assert report.revision == started
