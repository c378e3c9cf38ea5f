"""Runs attempts as pods: a namespace with the Secrets of all servers, and what a test wants to know of a pod."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

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
        seen: everything that the API showed of pods, and what they printed, to be searched for credentials.
    """

    cluster: Cluster
    namespace: str
    stage: Stage
    installation: Installation
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
        """Where the claim's volume stands on this machine."""
        name = self.cluster.get("pvc", claim, self.here)["spec"]["volumeName"]
        return Path(self.cluster.get("pv", name)["spec"]["local"]["path"])

    def make_volume(self, claim: str) -> Path:
        """Makes a claim with an empty volume, for a test to fill; writable for all."""
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
        metadata = {"name": claim, "namespace": self.namespace}
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec},
            self.script(f"make-{claim}", "true", claim),
        )
        self.finish(f"make-{claim}")
        return self.volume(claim)

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
        volumes = [v for v in self.cluster.get("pv")["items"] if v["spec"]["claimRef"]["namespace"] == self.namespace]
        folders = [Path(v["spec"]["local"]["path"]) for v in volumes]
        return found + [str(file) for folder in folders for file in find_canary(folder)]


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
            installation = Installation(image=image, image_pull_policy="Never", allow_http=True, progress_seconds=0.5)
            yield Bench(cluster, namespace, stage, installation)
