"""The same documents in Argo, in Prefect and on one machine: the same trees, the same at the stores, the same statuses.

All that can run at once is begun at once, since Argo moves in steps of ten seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from datacube_flows.core import labels
from datacube_flows.engines.argo_text import BRACE
from tests.cluster.argo import ensure_argo
from tests.cluster.image_build import transfer_image
from tests.cluster.operated.bench import OperatorBench, running_operator, verdict
from tests.cluster.pods.bench import made_bench
from tests.masked import differences, masked
from tests.servers.faults import Fault
from tests.servers.prefect import start_prefect
from tests.servers.stage import BUCKET, GIT_REPOSITORY, MODEL, PREFIX, TARGET
from tests.support import needs, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.t3, pytest.mark.timeout(300)]

Document = dict[str, Any]
Tree = dict[str, str]

ENGINES = ("argo", "prefect")
INLINE = "inline"
DATACUBE = str(Path(sys.executable).parent / "datacube")

DOWNLOADS = {
    "git-download": "dev/git/repo",
    "huggingface-download": "dev/hf/whisper-large-v3",
    "s3-download": "dev/s3",
}
"""Example -> where its data are on the claim."""

UPLOADS = ("git-upload", "huggingface-upload", "s3-upload")
PLACES = {"path-in-repo": "pvc/{}", "s3-uri": f"s3://{BUCKET}/{{}}"}
"""Option of an upload -> where each engine's goes, so that none finds what another has brought."""

COMMIT = """
cd {}/dev/git/repo && git checkout --quiet -b {} && echo 'trained on Tuesday' > notes.md && git add notes.md
git -c user.name=Ada -c user.email=ada@example.invalid commit --quiet -m 'Add notes'
"""

DIFFERENT = {
    "workflow.engine": "it says which engine ran it",
    "workflow.template": "each has templates of its own kind",
    "workflow.url": "where Argo's pages are is not among the operator's settings",
}
"""Field of a status that is not the same in Argo and in Prefect -> why."""

COMMITS = {"result.revision": "each engine uploaded a commit of its own"}
LATE = dict.fromkeys(
    ("attempts.message", "attempts.exitCode", "attempts.startTime"),
    "nobody waits for this very pod in Argo: it may have ended and be gone before it is looked at again",
)

LABELS = (labels.KIND, labels.STEP, labels.ATTEMPT, labels.MANAGED_BY)
POD_FIELDS = (
    *("activeDeadlineSeconds", "affinity", "enableServiceLinks", "imagePullSecrets", "nodeSelector", "priority"),
    *("priorityClassName", "restartPolicy", "schedulerName", "securityContext", "terminationGracePeriodSeconds"),
    *("tolerations", "dnsPolicy", "hostNetwork"),
)
CONTAINER_FIELDS = (
    *("args", "image", "imagePullPolicy", "lifecycle", "ports", "resources", "securityContext", "workingDir"),
    *("terminationMessagePath", "terminationMessagePolicy", "envFrom"),
)

GET = "^GET "


@dataclass
class Engines:
    """The operator with both engines, and `datacube run` with volumes of its own.

    Attributes:
        folder: with what is on the claims of `datacube run`.
    """

    operated: OperatorBench
    folder: Path
    statuses: dict[str, Document] = field(default_factory=dict)

    def document(self, example: str, engine: str) -> Document:
        """Returns an example for one engine, on a claim of its own, and to a place of its own."""
        store = example.partition("-")[0]
        executor = {} if engine == INLINE else {"engine": engine}
        sub_path = "dev/s3" if example == "s3-upload" else None
        made = self.operated.bench.document(example, f"{engine}-{store}", sub_path=sub_path, **executor)
        for option in made["spec"]["sink"].get("options", ()):
            if option["name"] in PLACES:
                option["value"] = PLACES[option["name"]].format(engine)
        return made

    def run(self, *examples: str) -> None:
        """Has the documents run by all, to their ends."""
        for engine in ENGINES:
            for example in examples:
                self.operated.submit(f"{engine}-{example}", self.document(example, engine))
        self._run_here(*examples)
        for engine in ENGINES:
            for example in examples:
                self.statuses[f"{engine}-{example}"] = self.operated.finish(f"{engine}-{example}")

    def commit(self) -> None:
        """Does in each engine's clone what a person does in a notebook, on a branch of the engine's name."""
        for engine in ENGINES:
            self.operated.bench.on_volume(f"commit-{engine}", COMMIT.format("/data", engine), f"{engine}-git")
        script = COMMIT.format(self.folder / f"{INLINE}-git", INLINE)
        subprocess.run(["sh", "-ec", script], check=True, env={"PATH": os.environ["PATH"], "HOME": str(self.folder)})

    def trees(self, store: str, place: str) -> list[Tree]:
        """What is on the claims, the one of `datacube run` last."""
        roots = [self.operated.bench.volume(f"{engine}-{store}") for engine in ENGINES]
        return [tree(root / place) for root in (*roots, self.folder / f"{INLINE}-{store}")]

    def unexplained(self, name: str, *more: str) -> dict[str, Any]:
        """Where the statuses of both engines differ in what they should not."""
        found = differences(*(masked(self.statuses[f"{engine}-{name}"]) for engine in ENGINES))
        return {path: pairs for path, pairs in found.items() if path not in (*DIFFERENT, *more)}

    def _run_here(self, *examples: str) -> None:
        secrets = [yaml.safe_dump(document) for document in self.operated.bench.stage.secret_documents()]
        file = self.folder / "documents.yaml"
        file.write_text("\n---\n".join([json.dumps(self.document(name, INLINE)) for name in examples] + secrets))
        command = [DATACUBE, "run", "-f", str(file), f"--volumes={self.folder}", "--allow-http"]
        subprocess.run(command, check=True, capture_output=True, env={"PATH": os.environ["PATH"], "HOME": "/nowhere"})
        file.unlink()


@pytest.fixture(scope="module")
def engines(own_cluster: Cluster, cluster_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Where all run; at the end no credential is to be seen anywhere, Prefect's database included."""
    needs("postgresql")
    ensure_argo(own_cluster, os.environ)
    image = transfer_image(own_cluster, cluster_cache, os.environ)
    folders = [tmp_path_factory.mktemp(name) for name in ("servers", "prefect", "operator", "volumes")]
    with made_bench(own_cluster, image.name, folders[0]) as bench, start_prefect(folders[1]) as server:
        flags = (f"--prefect-url={server.url}", f"--prefect-ui-url={server.ui_url}")
        auth = {"PREFECT_API_AUTH_STRING": server.auth}
        with running_operator(bench, folders[2], *flags, environment=auth) as made:
            yield Engines(made, folders[3])
            leaks = [*bench.leaks(), *made.leaks(), *map(str, server.leaks())]
            assert not leaks, f"secrets are to be seen: {leaks}"
            assert not made.operator.faults()


@pytest.fixture(scope="module")
def begun(engines: Engines) -> dict[str, Callable[[], None]]:
    """Begins, before anything else, what fails and takes its time; name -> lets the store answer again."""
    operated = engines.operated
    operated.bench.make_volumes(dict.fromkeys(ENGINES, "true"))
    operated.make_secret("nobody", accessKeyID="nobody")
    stalled = [f"{engine}-{name}" for engine in ENGINES for name in ("late", "deleted")]
    proxies = {name: operated.faulty_store(name, Fault(GET, "stall", times=None)) for name in stalled}
    options = {"late": {"activeDeadlineSeconds": 15}, "deleted": {}, "denied": {}}
    for engine in ENGINES:
        for name, more in options.items():
            key, manner = f"{engine}-{name}", {"backoffLimit": 1, **more}
            secret = "nobody" if name == "denied" else key
            operated.submit(key, operated.download(engine, secret, name, engine=engine, options=manner))
    return {name: proxy.clear for name, proxy in proxies.items()}


@pytest.fixture(scope="module")
def downloaded(engines: Engines, begun: dict[str, Callable[[], None]]) -> Engines:
    """After all downloads."""
    assert begun
    engines.run(*DOWNLOADS)
    return engines


@pytest.fixture(scope="module")
def uploaded(downloaded: Engines) -> Engines:
    """After all uploads."""
    downloaded.commit()
    downloaded.run(*UPLOADS)
    return downloaded


@pytest.mark.parametrize("example", DOWNLOADS)
def test_download_is_the_same_in_every_engine(downloaded: Engines, example: str) -> None:
    stage = downloaded.operated.bench.stage
    wanted = {
        "git-download": lambda: stage.git.repositories[GIT_REPOSITORY].tree("main"),
        "huggingface-download": lambda: hub_tree(downloaded, MODEL),
        "s3-download": lambda: bucket_tree(downloaded, PREFIX),
    }[example]()
    assert downloaded.trees(example.partition("-")[0], DOWNLOADS[example]) == [wanted] * 3 != [{}] * 3
    assert verdict(downloaded.statuses[f"prefect-{example}"]) == ("Succeeded", "TransferComplete", 1)
    assert downloaded.unexplained(example) == {}


@pytest.mark.parametrize("example", DOWNLOADS)
def test_pod_that_argo_made_is_the_one_that_the_operator_makes(downloaded: Engines, example: str) -> None:
    made = [downloaded.operated.pods(f"{engine}-{example}") for engine in ENGINES]
    seen = [json.dumps(essence(pod)).replace(f"{e}-", "") for e, (pod,) in zip(ENGINES, made, strict=True)]
    argo, prefect = map(json.loads, seen)
    assert argo == prefect


def test_deadline_is_each_attempts_own_in_both_engines(uploaded: Engines) -> None:
    assert finished(uploaded, "late") == [("Failed", "RetriesExhausted", 2)] * 2
    attempts = uploaded.statuses["prefect-late"]["attempts"]
    assert [(a["number"], a["reason"]) for a in attempts] == [(n, "DeadlineExceeded") for n in (1, 2)]
    assert uploaded.unexplained("late") == {}


def test_permanent_failure_is_the_last_in_both_engines(uploaded: Engines) -> None:
    assert finished(uploaded, "denied") == [("Failed", "AccessDenied", 1)] * 2
    assert uploaded.unexplained("denied") == {}


def test_deleted_pod_is_followed_by_another_in_both_engines(
    uploaded: Engines, begun: dict[str, Callable[[], None]]
) -> None:
    operated = uploaded.operated
    for engine in ENGINES:
        (pod,) = (p["metadata"]["name"] for p in operated.pods(f"{engine}-deleted"))
        begun[f"{engine}-deleted"]()
        operated.bench.cluster.kubectl("delete", "pod", pod, operated.bench.here, "--wait=false")
    assert finished(uploaded, "deleted") == [("Succeeded", "TransferComplete", 2)] * 2
    assert [a.get("reason") for a in uploaded.statuses["prefect-deleted"]["attempts"]] == ["PodDeleted", None]
    assert uploaded.unexplained("deleted", *LATE) == {}


def test_uploads_bring_the_same_to_the_stores(uploaded: Engines) -> None:
    served = uploaded.operated.bench.stage.git.repositories[GIT_REPOSITORY]
    everywhere = (*ENGINES, INLINE)
    assert [served.tree(engine) for engine in everywhere] == uploaded.trees("git", DOWNLOADS["git-download"])
    assert "notes.md" in served.tree("prefect")
    model = hub_tree(uploaded, MODEL)
    assert [hub_tree(uploaded, TARGET, f"pvc/{engine}/") for engine in everywhere] == [model] * 3
    assert [bucket_tree(uploaded, engine) for engine in everywhere] == [bucket_tree(uploaded, PREFIX)] * 3


@pytest.mark.parametrize("example", UPLOADS)
def test_status_of_an_upload_is_the_same_in_both_engines(uploaded: Engines, example: str) -> None:
    assert verdict(uploaded.statuses[f"prefect-{example}"]) == ("Succeeded", "TransferComplete", 1)
    assert uploaded.unexplained(example, *(() if example == "s3-upload" else COMMITS)) == {}


def test_sync_deletes_the_same_in_every_engine(uploaded: Engines) -> None:
    store = uploaded.operated.bench.stage.store
    store.delete(BUCKET, f"{PREFIX}/0/00000.bin")
    store.put(BUCKET, f"{PREFIX}/new.bin", b"new")
    uploaded.run("s3-sync")
    assert uploaded.trees("s3", "dev/s3") == [bucket_tree(uploaded, PREFIX)] * 3
    assert uploaded.unexplained("s3-sync") == {}


def essence(pod: Document) -> Document:
    """Returns what of a pod is not Argo's own: its containers and their folder, its variables, the account's token."""
    spec = pod["spec"]
    (main,) = (container for container in spec["containers"] if container["name"] == "main")
    command = main["command"]
    mounts = {mount["mountPath"]: mount for mount in main["volumeMounts"]}
    places = {name: mount for name, mount in mounts.items() if not name.startswith("/var/run/")}
    found = {v["name"] for v in places.values()}
    return {
        "labels": {name: pod["metadata"]["labels"].get(name) for name in LABELS},
        "pod": {name: spec.get(name) for name in POD_FIELDS},
        "main": {name: main.get(name) for name in CONTAINER_FIELDS},
        "command": command[command.index("--") + 1 :] if "--" in command else command,
        "env": [v for v in main["env"] if not v["name"].startswith(("ARGO_", BRACE))],
        "mounts": places,
        "volumes": {v["name"]: v for v in spec["volumes"] if v["name"] in found},
    }


def finished(engines: Engines, name: str) -> list[tuple[str, str, int]]:
    """How a DataCube ended in both engines."""
    for engine in ENGINES:
        engines.statuses[f"{engine}-{name}"] = engines.operated.finish(f"{engine}-{name}")
    return [verdict(engines.statuses[f"{engine}-{name}"]) for engine in ENGINES]


def hub_tree(engines: Engines, repository: str, below: str = "") -> Tree:
    hub = engines.operated.bench.stage.hub
    names = [name for name in hub.files(repository) if name.startswith(below)]
    return {n.removeprefix(below): hashlib.sha256(hub.content(repository, n)).hexdigest() for n in names}


def bucket_tree(engines: Engines, prefix: str) -> Tree:
    store = engines.operated.bench.stage.store
    keys = store.list(BUCKET, prefix + "/")
    return {key[len(prefix) + 1 :]: hashlib.sha256(store.get(BUCKET, key)).hexdigest() for key in keys}
