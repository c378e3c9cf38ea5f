"""Runs attempts as pods: a namespace with the Secrets of all servers, and what a test wants to know of a pod."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
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
from tests.cluster.namespace import make_claim as make_small_claim
from tests.cluster.pods.forward import LOOPBACK, forwarded
from tests.cluster.pods.probe import find_node
from tests.cluster.pods.reader import made_reader
from tests.cluster.pods.volumes import copy_volumes
from tests.servers.stage import start_stage
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from datacube_flows.api.report import TransferReport
    from datacube_flows.core.observation import AttemptSeen
    from datacube_flows.core.plan import TransferPlan
    from tests.cluster.cluster import Cluster
    from tests.cluster.pods.reader import Reader
    from tests.servers.stage import Stage

HTTP = ("https", "http")
SECONDS = 60.0
POLL_SECONDS = 0.2
GRACE_SECONDS = 5
CLAIMS = "persistentvolumeclaims"
SEARCHED = ("pods", "events", CLAIMS, "configmaps")

Document = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """A namespace in which attempts run.

    Attributes:
        folder: for copies of volumes.
        node_name: where all pods run, so that those of one claim are together; empty where there is one node.
        seen: everything that the API showed of pods, and what they printed, to be searched for credentials.
    """

    cluster: Cluster
    namespace: str
    stage: Stage
    installation: Installation
    folder: Path
    reader: Reader
    node_name: str = ""
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
        if self.node_name:
            pod["spec"]["affinity"] = _affinity(self.node_name)
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
        return any(claim["metadata"]["name"] == name for claim in self.reader.get(CLAIMS)["items"])

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
            pod = self.reader.get("pods", name)
            self.seen.append(json.dumps(pod))
            if condition(pod):
                return pod
            if time.monotonic() > end:
                raise ClusterError(f"pod {name} after {seconds:.0f} s: {json.dumps(pod['status'])}\n{self.log(name)}")
            time.sleep(POLL_SECONDS)

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Returns the events of objects by their names."""
        found = self.reader.get("events")["items"]
        return [e for e in found if e["involvedObject"]["name"] in names]

    def log(self, name: str) -> str:
        """What the attempt printed; "" where it never ran."""
        return self.reader.log(name, "main")

    def volume(self, claim: str) -> Path:
        """A folder with what is on the claim's volume now: the volume itself here, a copy of it on a user's cluster."""
        return self.volumes(claim)[claim]

    def volumes(self, *claims: str) -> dict[str, Path]:
        """Claim -> such a folder."""
        if self.cluster.node is None:
            return copy_volumes(self, claims) if claims else {}
        return {claim: self.disk(claim) for claim in claims}

    def disk(self, claim: str) -> Path:
        """Where the claim's volume stands on this machine."""
        self.need_own_node("looks at a volume where its node has it")
        name = self.reader.get(CLAIMS, claim)["spec"]["volumeName"]
        return Path(self.cluster.get("pv", name)["spec"]["local"]["path"])

    def need_own_node(self, why: str) -> None:
        """Skips a test that a user's cluster cannot run, saying why."""
        if self.cluster.node is None:
            pytest.skip(f"{why}, and KUBECONFIG names a cluster whose nodes are not here")

    def make_volume(self, claim: str, script: str = "true") -> None:
        """Makes a claim, and fills its volume by a shell script that finds it at /data."""
        self.make_volumes({claim: script})

    def make_volumes(self, scripts: Mapping[str, str]) -> None:
        """Makes several so, claim -> script, in about the time of one."""
        claims = [make_small_claim(claim, self.namespace) for claim in scripts]
        pods = [self.script(f"make-{claim}", script, claim) for claim, script in scripts.items()]
        self.cluster.apply(*claims, *pods)
        for pod in pods:
            self._succeed(pod["metadata"]["name"])

    def on_volume(self, name: str, script: str, claim: str) -> None:
        """Runs a shell script, which finds the claim's volume at /data, to its end."""
        self.cluster.apply(self.script(name, script, claim))
        self._succeed(name)

    def _succeed(self, name: str) -> None:
        assert self.finish(name)["status"]["phase"] == "Succeeded", self.log(name)

    def script(self, name: str, script: str, claim: str) -> dict[str, Any]:
        """Returns a pod of the attempt's image and restrictions that runs a shell script; the claim is at /data."""
        document = self.document("git-download", claim)
        pod = self.pod(document, name)
        container = pod["spec"]["containers"][0]
        container |= {"command": ["sh", "-c", script], "args": [], "env": []}
        container["volumeMounts"][0].pop("subPath", None)
        return pod

    def leaks(self, *claims: str) -> list[str]:
        """Where a credential is to be seen that should not be: objects, events, logs, volumes.

        Args:
            claims: whose volumes are searched; all where none is named.
        """
        texts = {f"what was seen of pods ({n})": text for n, text in enumerate(self.seen)}
        objects = {kind: self.reader.get(kind) for kind in SEARCHED}
        texts |= {kind: json.dumps(found) for kind, found in objects.items()} | self._logs(objects["pods"]["items"])
        found = [f"{where}: {text[:200]}" for where, text in texts.items() if has_canary(text)]
        bound = [c["metadata"]["name"] for c in objects[CLAIMS]["items"] if c["status"].get("phase") == "Bound"]
        volumes = self.volumes(*(claims or bound)).items()
        return found + [f"volume of {c}: {file.relative_to(root)}" for c, root in volumes for file in find_canary(root)]

    def _logs(self, pods: list[dict[str, Any]]) -> dict[str, str]:
        """What each container of the pods printed."""
        names = [
            (pod["metadata"]["name"], container["name"])
            for pod in pods
            for container in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]
        ]
        return {f"log of {pod}, {container}": self.reader.log(pod, container) for pod, container in names}


def report_of(seen: AttemptSeen) -> TransferReport:
    """Returns what an attempt reported; it must have."""
    assert seen.report is not None, seen
    return seen.report


@contextmanager
def made_bench(cluster: Cluster, image: str, folder: Path) -> Iterator[Bench]:
    """Makes a restricted namespace with the Secrets of all servers, and lets its pods reach them."""
    with ExitStack() as stack:
        stage = stack.enter_context(start_stage(folder))
        namespace = stack.enter_context(made_namespace(cluster))
        reader = stack.enter_context(made_reader(cluster, namespace, folder / "api.sock"))
        ports = [urlsplit(a).port or 0 for a in (stage.git.url, stage.hub.url, stage.store.url)]
        stage.git.url = stage.git.url.replace(LOOPBACK, cluster.bridge_address)  # stands in its answers on LFS
        stack.enter_context(forwarded(cluster.bridge_address, ports))
        text = json.dumps(stage.secret_documents()).replace(LOOPBACK, cluster.bridge_address)
        cluster.apply(*(s | {"metadata": s["metadata"] | {"namespace": namespace}} for s in json.loads(text)))
        policy = "Never" if cluster.node is not None else "IfNotPresent"
        installation = Installation(image=image, image_pull_policy=policy, allow_http=True, progress_seconds=0.5)
        bench = Bench(cluster, namespace, stage, installation, folder / "copies", reader)
        yield bench if cluster.node is not None else replace(bench, node_name=find_node(bench, ports[0]))


def _affinity(node_name: str) -> dict[str, Any]:
    """For a pod that shall run on this node, and still be scheduled."""
    field_is = {"key": "metadata.name", "operator": "In", "values": [node_name]}
    terms = {"nodeSelectorTerms": [{"matchFields": [field_is]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
