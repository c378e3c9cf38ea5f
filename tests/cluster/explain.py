"""What a cluster says about a failure: the objects of a namespace, its events, its pods' logs, its own errors."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.cluster import Cluster

LINES = 6
_BAD = re.compile(r'^[EF]\d{4} |level=(error|fatal)|"level":"(error|fatal)"|^panic:')


def explain(cluster: Cluster, namespace: str = "") -> str:
    """Returns a text for the person who reads the failure; never raises, since there is a failure to show already."""
    parts = [*_objects(cluster, namespace)] if namespace else []
    return "\n\n".join([*parts, *_errors(cluster)]) or "no errors in its logs"


def _objects(cluster: Cluster, namespace: str) -> Iterator[str]:
    here = f"--namespace={namespace}"
    yield _said(cluster, "get", "pods,persistentvolumeclaims,services", here, "-o", "wide")
    yield _said(cluster, "get", "events", here, "--sort-by=.lastTimestamp")
    pods = cluster.try_kubectl("get", "pods", here, "-o", "json")
    for pod in json.loads(pods.stdout or "{}").get("items", []):
        name = pod["metadata"]["name"]
        yield f"status of {name}:\n{json.dumps(pod.get('status', {}).get('containerStatuses', []), indent=1)}"
        yield f"log of {name}:\n" + _said(cluster, "logs", name, here, "--all-containers", f"--tail={8 * LINES}")


def _said(cluster: Cluster, *arguments: str) -> str:
    done = cluster.try_kubectl(*arguments)
    return (done.stdout + done.stderr).strip()


def _errors(cluster: Cluster) -> Iterator[str]:
    """The last errors of each process of the cluster."""
    for file in sorted(cluster.logs.glob("*.log")) if cluster.logs else ():
        bad = [line for line in file.read_text(errors="replace").splitlines() if _BAD.search(line)]
        if bad:
            yield f"errors of {file.stem}, of which the last {LINES}:\n" + "\n".join(
                line[:400] for line in bad[-LINES:]
            )
