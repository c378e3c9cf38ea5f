"""Runs attempts as pods: a namespace with the Secrets of all servers, and what a test wants to know of a pod."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import time
from base64 import b64decode
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml

from datacube_flows.core.manifests import Installation, make_claim, make_pod
from datacube_flows.core.observe_pod import observe_pod
from datacube_flows.core.plan import Policy, make_plan
from datacube_flows.core.rules import validate
from tests.canary import find_canary, has_canary
from tests.cluster.errors import ClusterError
from tests.cluster.namespace import ENDED, made_namespace
from tests.cluster.pods.forward import LOOPBACK, forwarded
from tests.servers.stage import start_stage
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datacube_flows.api.report import TransferReport
    from datacube_flows.core.observation import AttemptSeen
    from datacube_flows.core.plan import TransferPlan
    from tests.cluster.cluster import Cluster
    from tests.servers.stage import Stage

HTTP = ("https", "http")
SECONDS = 60.0
POLL_SECONDS = 0.2
GRACE_SECONDS = 5

Document = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """A namespace in which attempts run.

    Attributes:
        folder: for copies of volumes.
        seen: everything that the API showed of pods, and what they printed, to be searched for credentials.
    """

    cluster: Cluster
    namespace: str
    stage: Stage
    installation: Installation
    folder: Path
    seen: list[str] = field(default_factory=list)

    def document(self, example: str, claim: str, *, sub_path: str | None = None, **executor: Any) -> Document:
        """Returns an example's document for the servers here, with a claim that this cluster can make.

        Args:
            sub_path: another place than the example's on the claim.
            executor: fields of `spec.executor`.
        """
        document = self.stage.localize(yaml.safe_load((ROOT / f"examples/{example}.yaml").read_text()))
        document = json.loads(json.dumps(document).replace(LOOPBACK, self.cluster.bridge_address))
        document["metadata"] |= {"namespace": self.namespace, "uid": f"uid-of-{example}"}
        for end in (document["spec"]["source"], document["spec"]["sink"]):
            if end["type"] == "pvc":
                end["pvc"] |= {"name": claim} | ({} if sub_path is None else {"subPath": sub_path})
                if "template" in end["pvc"]:
                    end["pvc"]["template"]["spec"]["accessModes"] = ["ReadWriteOnce"]
        document["spec"].setdefault("executor", {}).update(executor)
        return document

    def address(self, url: str) -> str:
        """Returns the URL of a server here as pods say it."""
        return url.replace(LOOPBACK, self.cluster.bridge_address)

    def plan(self, document: Document) -> TransferPlan:
        """Returns what is to be done for a document."""
        return make_plan(validate(document, allowed_schemes=HTTP), Policy(allowed_schemes=HTTP))

    def pod(self, document: Document, name: str) -> dict[str, Any]:
        """Returns the pod of an attempt; it is given less time to end than Kubernetes would."""
        pod = make_pod(self.plan(document), self.installation, name=name)
        pod["spec"]["terminationGracePeriodSeconds"] = GRACE_SECONDS
        return pod

    def run(self, document: Document, name: str) -> AttemptSeen:
        """Makes the claim, runs the attempt to its end, and returns it as the operator would see it."""
        return observe_pod(self.finish(self.start(document, name)))

    def start(self, document: Document, name: str) -> str:
        """Makes the claim if the document describes one, and the pod; returns the pod's name."""
        claim = make_claim(self.plan(document))
        if claim is not None and not self.has_claim(claim["metadata"]["name"]):
            self.cluster.apply(claim)
        self.cluster.apply(self.pod(document, name))
        return name

    def has_claim(self, name: str) -> bool:
        """Whether the claim exists."""
        return self.cluster.try_kubectl("get", "pvc", name, self.here).returncode == 0

    @property
    def here(self) -> str:
        """Names the namespace to kubectl."""
        return f"--namespace={self.namespace}"

    def finish(self, name: str, seconds: float = SECONDS) -> dict[str, Any]:
        """Returns the pod when it has ended."""
        pod = self.wait(name, lambda pod: pod["status"].get("phase") in ENDED, seconds)
        self.seen.append(self.log(name))
        return pod

    def wait(
        self, name: str, condition: Callable[[dict[str, Any]], object], seconds: float = SECONDS
    ) -> dict[str, Any]:
        """Returns the pod as soon as the condition holds."""
        end = time.monotonic() + seconds
        while True:
            pod = self.cluster.get("pod", name, self.here)
            self.seen.append(json.dumps(pod))
            if condition(pod):
                return pod
            if time.monotonic() > end:
                raise ClusterError(f"pod {name} after {seconds:.0f} s: {json.dumps(pod['status'])}\n{self.log(name)}")
            time.sleep(POLL_SECONDS)

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Returns the events of objects by their names."""
        found = self.cluster.get("events", self.here)["items"]
        return [e for e in found if e["involvedObject"]["name"] in names]

    def log(self, name: str) -> str:
        """What the attempt printed; "" where it never ran."""
        return self.cluster.try_kubectl("logs", name, self.here).stdout

    def volume(self, claim: str) -> Path:
        """A folder with what is on the claim's volume now: the volume itself here, a copy of it on a user's cluster."""
        return self.disk(claim) if self.cluster.node is not None else self._copy(claim)

    def disk(self, claim: str) -> Path:
        """Where the claim's volume stands on this machine."""
        self.need_own_node("looks at a volume where its node has it")
        name = self.cluster.get("pvc", claim, self.here)["spec"]["volumeName"]
        return Path(self.cluster.get("pv", name)["spec"]["local"]["path"])

    def need_own_node(self, why: str) -> None:
        """Skips a test that a user's cluster cannot run, saying why."""
        if self.cluster.node is None:
            pytest.skip(f"{why}, and KUBECONFIG names a cluster whose nodes are not here")

    def _copy(self, claim: str) -> Path:
        """Reads the volume through a pod. Links are left out: no test reads through one."""
        reader = f"reader-{claim}"
        self.cluster.apply(self.script(reader, "sleep 600", claim))
        self.wait(reader, lambda pod: pod["status"].get("phase") == "Running")
        text = self.cluster.kubectl("exec", reader, self.here, "--", "sh", "-c", "tar -C /data -cf - . | base64 -w0")
        self.cluster.kubectl("delete", "pod", reader, self.here, "--wait")
        folder = self.folder / claim
        shutil.rmtree(folder, ignore_errors=True)
        with tarfile.open(fileobj=io.BytesIO(b64decode(text))) as archive:
            archive.extractall(folder, filter=_without_links)  # noqa: S202 - with a filter
        return folder

    def make_volume(self, claim: str, script: str = "true") -> None:
        """Makes a claim, and fills its volume by a shell script that finds it at /data."""
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
        metadata = {"name": claim, "namespace": self.namespace}
        self.cluster.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
        self.on_volume(f"make-{claim}", script, claim)

    def on_volume(self, name: str, script: str, claim: str) -> None:
        """Runs a shell script, which finds the claim's volume at /data, to its end."""
        self.cluster.apply(self.script(name, script, claim))
        assert self.finish(name)["status"]["phase"] == "Succeeded", self.log(name)

    def script(self, name: str, script: str, claim: str) -> dict[str, Any]:
        """Returns a pod of the attempt's image and restrictions that runs a shell script; the claim is at /data."""
        document = self.document("git-download", claim)
        pod = self.pod(document, name)
        container = pod["spec"]["containers"][0]
        container |= {"command": ["sh", "-c", script], "args": [], "env": []}
        container["volumeMounts"][0].pop("subPath", None)
        return pod

    def leaks(self) -> list[str]:
        """Where a credential is to be seen that should not be: objects, events, logs, volumes."""
        texts = dict(enumerate(self.seen))
        for kind in ("pods", "events", "pvc", "configmaps"):
            texts[kind] = json.dumps(self.cluster.get(kind, self.here))
        for pod in self.cluster.get("pods", self.here)["items"]:
            name = pod["metadata"]["name"]
            texts[f"log of {name}"] = self.log(name)
        found = [f"{where}: {text[:200]}" for where, text in texts.items() if has_canary(text)]
        claims = [c for c in self.cluster.get("pvc", self.here)["items"] if c["status"].get("phase") == "Bound"]
        folders = [self.volume(claim["metadata"]["name"]) for claim in claims]
        return found + [str(file) for folder in folders for file in find_canary(folder)]


def _without_links(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    return None if member.issym() or member.islnk() else tarfile.data_filter(member, folder)


def report_of(seen: AttemptSeen) -> TransferReport:
    """Returns what an attempt reported; it must have."""
    assert seen.report is not None, seen
    return seen.report


@contextmanager
def made_bench(cluster: Cluster, image: str, folder: Path) -> Iterator[Bench]:
    """Makes a restricted namespace with the Secrets of all servers, and lets its pods reach them."""
    with start_stage(folder) as stage, made_namespace(cluster) as namespace:
        addresses = [stage.git.url, stage.hub.url, stage.store.url]
        stage.git.url = stage.git.url.replace(LOOPBACK, cluster.bridge_address)  # stands in its answers on LFS
        with forwarded(cluster.bridge_address, [urlsplit(a).port or 0 for a in addresses]):
            text = json.dumps(stage.secret_documents()).replace(LOOPBACK, cluster.bridge_address)
            secrets = [s | {"metadata": s["metadata"] | {"namespace": namespace}} for s in json.loads(text)]
            cluster.apply(*secrets)
            policy = "Never" if cluster.node is not None else "IfNotPresent"
            installation = Installation(image=image, image_pull_policy=policy, allow_http=True, progress_seconds=0.5)
            yield Bench(cluster, namespace, stage, installation, folder / "copies")
