"""Asks a user's cluster first whether it has what the tests need, so that what is missing is said once and plainly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datacube_flows.core.observe_pod import main_state
from tests.cluster.cluster import BRIDGE_VARIABLE, IMAGE_VARIABLE
from tests.cluster.errors import ClusterError
from tests.cluster.namespace import ENDED
from tests.cluster.pods.volumes import with_claims

if TYPE_CHECKING:
    from tests.cluster.pods.bench import Bench

PROBE = "probe"
CONNECT = "exec 2>&1; python -c 'import socket; socket.create_connection((\"{address}\", {port}), 10).close()'"
UNREACHED = (
    "pods do not reach this machine at {address}: {said}. "
    f"Is {BRIDGE_VARIABLE} right, and does a firewall let them at any port?"
)
SECONDS = 110.0
"""A node may have to pull the image first; pytest's own limit is 120."""


def find_node(bench: Bench, port: int) -> str:
    """Returns the node on which a pod of the image reached a server of this machine.

    Raises:
        ClusterError: None did; the message says which of the user's variables to look at.
    """
    address, image = bench.cluster.bridge_address, bench.installation.image
    script = bench.script(PROBE, CONNECT.format(address=address, port=port), "none")
    bench.cluster.apply(with_claims(script, {}))
    pod = bench.wait(PROBE, lambda pod: pod["status"].get("phase") in ENDED or _is_without_image(pod), SECONDS)
    if _is_without_image(pod):
        raise ClusterError(f"no node gets {image}, which {IMAGE_VARIABLE} names: {main_state(pod, 'waiting')}")
    if pod["status"]["phase"] != "Succeeded":
        raise ClusterError(UNREACHED.format(address=address, said="".join(bench.log(PROBE).splitlines()[-1:])))
    return str(pod["spec"]["nodeName"])


def _is_without_image(pod: dict[str, Any]) -> bool:
    return (main_state(pod, "waiting") or {}).get("reason") in ("ImagePullBackOff", "InvalidImageName")
