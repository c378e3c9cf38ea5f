"""DataCubes as a user has them: applied by kubectl, run by the operator, looked at by kubectl."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from datacube_flows.core import labels
from datacube_flows.engines.argo_accounts import render_cluster_roles
from tests.canary import has_canary
from tests.cluster.crd_client import serve_crd
from tests.cluster.errors import ClusterError
from tests.cluster.pods.forward import forwarded
from tests.cluster.process import wait_for
from tests.controller.operator_run import OperatorRun
from tests.servers.faults import Fault, FaultProxy, start_fault_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.cluster.pods.bench import Bench

FINAL = ("Succeeded", "Failed")
SECONDS = 120.0
POLL_SECONDS = 0.25
KINDS = ("datacubes", "workflows", "workflowtemplates", "workflowtaskresults", "events", "serviceaccounts", "leases")

Document = dict[str, Any]


@dataclass
class OperatorBench:
    """A namespace in which the operator runs DataCubes.

    Attributes:
        bench: the namespace, with the Secrets of all servers.
        operator: the replica that runs, unless a test needs another.
        seen: what the API showed, to be searched for credentials.
    """

    bench: Bench
    operator: OperatorRun
    seen: list[str] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        """Ends the servers that tests have asked for."""
        self._stack.close()

    def faulty_store(self, name: str, *faults: Fault) -> FaultProxy:
        """Has a way to the object store that breaks requests, and a Secret of that name which leads there."""
        proxy = self._stack.enter_context(start_fault_proxy(self.bench.stage.store.url))
        proxy.inject(*faults)
        self._stack.enter_context(forwarded(self.bench.cluster.bridge_address, [proxy.port]))
        self.make_secret(name, endpoint=proxy.url.replace("127.0.0.1", self.bench.cluster.bridge_address))
        return proxy

    def make_secret(self, name: str, **values: str) -> None:
        """Makes a Secret like the one of the object store's examples, with other values for some keys."""
        values = {**self.bench.stage.secrets()["s3-config"], **values}
        values = {k: v.replace("127.0.0.1", self.bench.cluster.bridge_address) for k, v in values.items()}
        metadata = {"name": name, "namespace": self.bench.namespace}
        self.bench.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})

    def download(self, claim: str, secret: str = "", sub_path: str | None = None, **executor: Any) -> Document:
        """Returns an S3 download that takes endpoint and keys from a Secret."""
        document = self.bench.document("s3-download", claim, sub_path=sub_path, **executor)
        text = json.dumps(document)
        changed: Document = json.loads(text.replace('"name": "s3-config"', f'"name": "{secret}"') if secret else text)
        return changed

    def workflows(self, name: str) -> list[Document]:
        """The workflows of a DataCube."""
        selector = f"--selector={labels.NAME}={name}"
        found: list[Document] = self.bench.cluster.get("workflows", self.bench.here, selector)["items"]
        return found

    def pods(self, name: str) -> list[Document]:
        """The attempts' pods of a DataCube."""
        selector = f"--selector={labels.NAME}={name},{labels.STEP}={labels.TRANSFER}"
        found: list[Document] = self.bench.cluster.get("pods", self.bench.here, selector)["items"]
        return found

    def running_pod(self, name: str) -> str:
        """Returns the name of the attempt that runs, once it does."""
        status = self.wait(name, lambda s: (s.get("pod") or {}).get("phase") == "Running")
        found: str = status["pod"]["reference"]["name"]
        return found

    def attempted_pod(self, name: str) -> str:
        """Returns the name of the attempt that runs, once Argo knows that it does: before, it makes a lost pod anew."""
        pod = self.running_pod(name)

        def is_known() -> bool:
            nodes = [n for w in self.workflows(name) for n in w["status"].get("nodes", {}).values()]
            return any(n["type"] == "Pod" and n["phase"] == "Running" for n in nodes)

        wait_for(is_known, SECONDS, f"Argo does not see that {pod} runs")
        return pod

    def submit(self, name: str, document: Document, **spec: Any) -> str:
        """Applies a DataCube under a name of its own, with fields of its spec; returns its name."""
        document = json.loads(json.dumps(document))
        document["metadata"] = {"name": name, "namespace": self.bench.namespace}
        document["spec"] |= spec
        self.bench.cluster.kubectl("apply", "-f", "-", text=json.dumps(document))
        return name

    def get(self, name: str) -> Document:
        """The DataCube as it is now."""
        found = self.bench.cluster.get("datacube", name, self.bench.here)
        self.seen.append(json.dumps(found))
        return found

    def status(self, name: str) -> Document:
        """Its status, empty where it has none."""
        return self.get(name).get("status") or {}

    def wait(self, name: str, condition: Callable[[Document], object], seconds: float = SECONDS) -> Document:
        """Returns the status as soon as the condition holds."""
        end = time.monotonic() + seconds
        while True:
            status = self.status(name)
            if condition(status):
                return status
            if time.monotonic() > end:
                raise ClusterError(f"{name} after {seconds:.0f} s: {json.dumps(status)}\n{self.operator.log_end()}")
            time.sleep(POLL_SECONDS)

    def finish(self, name: str, seconds: float = SECONDS) -> Document:
        """Returns the status of the run's end."""
        return self.wait(name, lambda status: status.get("phase") in FINAL, seconds)

    def patch(self, name: str, body: Document) -> None:
        """Changes a DataCube."""
        self.bench.cluster.kubectl(
            "patch", "datacube", name, self.bench.here, "--type=merge", f"--patch={json.dumps(body)}"
        )

    def leaks(self) -> list[str]:
        """Where a credential is to be seen that should not be: status, workflows, events, the operator's log."""
        texts = {f"seen {n}": text for n, text in enumerate(self.seen)}
        for kind in KINDS:
            texts[kind] = json.dumps(self.bench.cluster.get(kind, self.bench.here))
        texts["log of the operator"] = self.operator.log_file.read_text()
        return [f"{where}: {text[:300]}" for where, text in texts.items() if has_canary(text)]


def verdict(status: Document) -> tuple[str, str, int]:
    """Phase, the reason of the condition that holds at the end, and the number of attempts."""
    final = [c for c in status["conditions"] if c["type"] in ("Complete", "Failed") and c["status"] == "True"]
    return status["phase"], final[0]["reason"] if final else "", len(status.get("attempts") or ())


def said(status: Document) -> tuple[str, str]:
    """Reason and message of the condition that tells why nothing has ended yet."""
    told = [c for c in status.get("conditions") or () if c["status"] == "False" and c.get("reason")]
    return (told[0]["reason"], told[0].get("message", "")) if told else ("", "")


@contextmanager
def running_operator(
    bench: Bench, folder: Path, *flags: str, identity: str = "one", environment: Mapping[str, str] | None = None
) -> Iterator[OperatorBench]:
    """Has a replica look after the namespace of a bench while the block runs; `environment` is what it gets besides."""
    serve_crd(bench.cluster)
    bench.cluster.apply(*render_cluster_roles())
    installation = bench.installation
    operator = OperatorRun(
        bench.cluster.kubeconfig,
        folder,
        [
            f"--transfer-image={installation.image}",
            f"--image-pull-policy={installation.image_pull_policy}",
            f"--namespace={bench.namespace}",
            f"--lease-namespace={bench.namespace}",
            "--allow-http",
            *flags,
        ],
        identity,
        environment=environment or {},
    )
    operator.start()
    try:
        asyncio.run(operator.until_ready())
        made = OperatorBench(bench, operator)
        yield made
        made.close()
    finally:
        if operator.is_running:
            asyncio.run(operator.stop())
