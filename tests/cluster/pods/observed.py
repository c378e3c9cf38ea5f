"""What the API showed of a pod, as a fixture: trimmed to what can matter, names and times masked.

The fixtures are what tests of the core are fed with; each case in a cluster holds its fixture against what it sees.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from datacube_flows.core.observe_pod import observe_pod
from datacube_flows.core.pod_waiting import waiting_reason
from tests.support import ROOT

if TYPE_CHECKING:
    from tests.cluster.pods.bench import Bench

FOLDER = ROOT / "tests/core/observed"
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
METADATA = (
    "name",
    "namespace",
    "uid",
    "labels",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
SPEC = ("activeDeadlineSeconds", "restartPolicy", "nodeName")
NOISE = ("hostIP", "hostIPs", "podIP", "podIPs", "qosClass", "containerID", "imageID", "volumeMounts", "user")
NOISE += ("lastProbeTime", "observedGeneration", "allocatedResources")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_MASKS = (
    (r"(sha256:)?[0-9a-f]{64}", "<hash>"),
    (r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", "00000000-0000-0000-0000-000000000000"),
    (r"datacube\.test/transfer:[0-9a-f]+", "datacube/transfer:test"),
    (r"\d+\.\d+\.\d+\.\d+(:\d+)?", "192.0.2.1"),
    (r"(/[\w.-]+)+/datacube-cluster/", "/var/lib/cluster/"),
    (r"/var/lib/kubelet/pods/[^ \"]*", "/var/lib/kubelet/pods/<path>"),
)


@dataclass(frozen=True)
class Observed:
    """Writes fixtures, or holds what it is shown against them."""

    bench: Bench
    records: bool

    def check(self, case: str, pod: dict[str, Any], *related: str) -> None:
        """Holds the pod, with the events of it and of the objects named, against the fixture of the case."""
        events = self.bench.events(pod["metadata"]["name"], *related)
        kubectl = self.bench.cluster.kubectl("get", "pod", pod["metadata"]["name"], self.bench.here, "--no-headers")
        now = mask({"kubectl": kubectl.split()[2], "pod": trim(pod), "events": [_event(e) for e in events]}, self.bench)
        file = FOLDER / f"{case}.json"
        if self.records:
            file.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
        assert facts(json.loads(file.read_text())) == facts(now)


def facts(observed: dict[str, Any]) -> dict[str, Any]:
    """What must be the same each time: all that is concluded from the objects, but times and counts."""
    seen = observe_pod(observed["pod"])
    waiting = waiting_reason(observed["pod"], observed["events"])
    return {
        "kubectl": observed["kubectl"],
        "phase": seen.phase,
        "status": seen.status,
        "exit code": seen.exit_code,
        "reason": seen.reason,
        "report": seen.report and seen.report.reason,
        "waiting": waiting and waiting[0],
        "pod": observed["pod"]["status"].get("reason"),
    }


def trim(pod: dict[str, Any]) -> dict[str, Any]:
    """Returns the pod without what nobody reads."""
    container = next(c for c in pod["spec"]["containers"] if c["name"] == "main")
    kept = {name: container[name] for name in ("name", "image", "resources", "args") if name in container}
    return {
        "apiVersion": pod["apiVersion"],
        "kind": pod["kind"],
        "metadata": {name: pod["metadata"][name] for name in METADATA if name in pod["metadata"]},
        "spec": {name: pod["spec"][name] for name in SPEC if name in pod["spec"]} | {"containers": [kept]},
        "status": without_noise(pod["status"]),
    }


def mask(value: Any, bench: Bench) -> Any:
    """Returns the objects with the same names every time, and times that begin with the year 2026."""
    text = json.dumps(value).replace(bench.namespace, "team")
    for pattern, name in _MASKS:
        text = re.sub(pattern, name, text)
    moments = [_moment(m) for m in _MOMENT.findall(text)]
    shift = FIRST - min(moments, default=FIRST)
    shift = timedelta(days=shift.days, seconds=shift.seconds)
    return json.loads(_MOMENT.sub(lambda m: (_moment(m[0]) + shift).strftime("%Y-%m-%dT%H:%M:%SZ"), text))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _event(event: dict[str, Any]) -> dict[str, Any]:
    kept = {name: event[name] for name in ("type", "reason", "message", "count", "lastTimestamp") if event.get(name)}
    return kept | {"involvedObject": {name: event["involvedObject"].get(name) for name in ("kind", "name")}}


def without_noise(value: Any) -> Any:
    """Returns the object without addresses and hashes."""
    if isinstance(value, dict):
        return {name: without_noise(part) for name, part in value.items() if name not in NOISE}
    return [without_noise(part) for part in value] if isinstance(value, list) else value
