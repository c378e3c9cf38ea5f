"""The six transfers, by `kubectl apply` of the examples; every byte compared, and what status says of it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from tests.cluster.operated.bench import verdict
from tests.servers.stage import BUCKET, GIT_REPOSITORY, MODEL, PREFIX, TARGET
from tests.support import tree

if TYPE_CHECKING:
    from tests.cluster.operated.bench import Document, OperatorBench

pytestmark = [pytest.mark.t3, pytest.mark.timeout(300)]

DONE = ("Succeeded", "TransferComplete", 1)
NAMES = ("git-download", "huggingface-download", "s3-download")


@pytest.fixture(scope="module")
def downloads(operated: OperatorBench) -> dict[str, Document]:
    """All downloads, begun at once, each into a claim that its own template describes; name -> status at the end."""
    for name in NAMES:
        operated.submit(name, operated.bench.document(name, name))
    return {name: operated.finish(name) for name in NAMES}


def test_git_download_puts_the_branch_on_the_claim(operated: OperatorBench, downloads: dict[str, Document]) -> None:
    status = downloads["git-download"]
    served = operated.bench.stage.git.repositories[GIT_REPOSITORY]
    assert verdict(status) == DONE
    assert (status["result"]["revision"], status["result"]["verified"]) == (served.head("main"), "git")
    assert status["result"]["path"] == "dev/git/repo"
    assert tree(operated.bench.volume("git-download") / "dev/git/repo") == served.tree("main") != {}


def test_hub_download_puts_the_model_on_the_claim(operated: OperatorBench, downloads: dict[str, Document]) -> None:
    assert verdict(downloads["huggingface-download"]) == DONE
    folder = operated.bench.volume("huggingface-download") / "dev/hf/whisper-large-v3"
    assert tree(folder) == hub_tree(operated, MODEL) != {}


def test_s3_download_puts_the_objects_on_the_claim(operated: OperatorBench, downloads: dict[str, Document]) -> None:
    status = downloads["s3-download"]
    assert verdict(status) == DONE
    wanted = bucket_tree(operated, PREFIX)
    assert tree(operated.bench.volume("s3-download") / "dev/s3") == wanted != {}
    assert (status["result"]["files"], status["result"]["verified"]) == (len(wanted), "checksum")


def test_claim_of_a_template_is_nobodys(operated: OperatorBench, downloads: dict[str, Document]) -> None:
    claim = operated.bench.cluster.get("pvc", "s3-download", operated.bench.here)
    assert "ownerReferences" not in claim["metadata"]
    assert downloads["s3-download"]["workflow"]["template"] == "datacube-s3-download"


def test_uploads_bring_what_is_on_the_claim_to_the_store(
    operated: OperatorBench, downloads: dict[str, Document]
) -> None:
    assert set(downloads) == set(NAMES)
    bench = operated.bench
    bench.on_volume("committer", COMMIT, "git-download")
    uploads = {
        "git-upload": bench.document("git-upload", "git-download"),
        "huggingface-upload": bench.document("huggingface-upload", "huggingface-download"),
        "s3-upload": bench.document("s3-upload", "s3-download", sub_path="dev/s3"),
    }
    for name, document in uploads.items():
        operated.submit(name, document)
    assert {name: verdict(operated.finish(name)) for name in uploads} == dict.fromkeys(uploads, DONE)
    served = bench.stage.git.repositories[GIT_REPOSITORY]
    assert "notes.md" in served.tree("main")
    assert tree(bench.volume("git-download") / "dev/git/repo") == served.tree("main")
    folder = bench.volume("huggingface-download") / "dev/hf/whisper-large-v3"
    uploaded = hub_tree(operated, TARGET).items()
    assert tree(folder) == {n.removeprefix("pvc/demo/"): h for n, h in uploaded if n.startswith("pvc/demo/")}
    assert bucket_tree(operated, "models/whisper-large-v3") == bucket_tree(operated, PREFIX)


def test_sync_deletes_what_the_store_lacks(operated: OperatorBench, downloads: dict[str, Document]) -> None:
    assert set(downloads) == set(NAMES)
    store = operated.bench.stage.store
    store.delete(BUCKET, f"{PREFIX}/0/00000.bin")
    operated.submit("s3-sync", operated.bench.document("s3-sync", "s3-download"))
    assert verdict(operated.finish("s3-sync")) == DONE
    assert tree(operated.bench.volume("s3-download") / "dev/s3") == bucket_tree(operated, PREFIX)


def test_kubectl_waits_and_shows_columns(operated: OperatorBench, downloads: dict[str, Document]) -> None:
    assert set(downloads) == set(NAMES)
    cluster, here = operated.bench.cluster, operated.bench.here
    cluster.kubectl("wait", "--for=condition=Complete", "datacube/s3-download", here, "--timeout=5s")
    head, line = cluster.kubectl("get", "datacube", "s3-download", here).splitlines()
    assert head.split() == ["NAME", "FROM", "TO", "PHASE", "PROGRESS", "ATTEMPTS", "AGE"]
    assert line.split()[1:4] == ["s3", "pvc", "Succeeded"]
    events = cluster.kubectl("events", "--for", "datacube/s3-download", here)
    assert "TransferComplete" in events


def hub_tree(operated: OperatorBench, repository: str) -> dict[str, str]:
    hub = operated.bench.stage.hub
    return {name: hashlib.sha256(hub.content(repository, name)).hexdigest() for name in hub.files(repository)}


def bucket_tree(operated: OperatorBench, prefix: str) -> dict[str, str]:
    store = operated.bench.stage.store
    keys = store.list(BUCKET, prefix + "/")
    return {key[len(prefix) + 1 :]: hashlib.sha256(store.get(BUCKET, key)).hexdigest() for key in keys}


COMMIT = """
cd /data/dev/git/repo && echo 'trained on Tuesday' > notes.md && git add notes.md
git -c user.name=Ada -c user.email=ada@example.invalid commit --quiet -m 'Add notes'
"""
"""What a person does in a notebook on the same claim."""
