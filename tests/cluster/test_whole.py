"""Tier T3: what the whole cluster does for pods, as other tests rely on it."""

from __future__ import annotations

import http.server
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.cluster.errors import ClusterError
from tests.cluster.images import busybox_layer, write_archive
from tests.cluster.namespace import ended, finish_pod, log_of, make_claim, make_pod, wait_for_pod
from tests.cluster.storage import small_volume
from tests.cluster.versions import KUBERNETES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.t3, pytest.mark.usefixtures("own_cluster")]


def test_node_is_ready_and_says_its_version(cluster: Cluster) -> None:
    (node,) = cluster.get("nodes")["items"]
    conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert conditions["DiskPressure"] == "False"
    assert node["status"]["nodeInfo"]["kubeletVersion"] == KUBERNETES.version


def test_pod_runs_to_completion_when_restricted(cluster: Cluster, namespace: str) -> None:
    pod = finish_pod(cluster, make_pod("one", namespace, "id -u; grep -E 'CapEff|Seccomp:' /proc/self/status"))
    assert pod["status"]["phase"] == "Succeeded"
    assert log_of(cluster, pod).split() == ["65532", "CapEff:", "0" * 16, "Seccomp:", "2"]


def test_pod_is_refused_when_it_may_be_root(cluster: Cluster, namespace: str) -> None:
    pod = make_pod("root", namespace, "id")
    pod["spec"]["securityContext"] = {}
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        cluster.apply(pod)


def test_pod_leaves_its_exit_code_and_termination_message(cluster: Cluster, namespace: str) -> None:
    pod = finish_pod(cluster, make_pod("last", namespace, "echo said > /dev/termination-log; exit 42"))
    assert pod["status"]["phase"] == "Failed"
    assert (ended(pod)["exitCode"], ended(pod)["message"]) == (42, "said\n")


def test_pod_is_killed_with_grace_when_its_deadline_passes(cluster: Cluster, namespace: str) -> None:
    script = "trap 'echo stopped > /dev/termination-log; exit 143' TERM; while :; do sleep 0.1; done"
    pod = make_pod("late", namespace, script)
    pod["spec"]["activeDeadlineSeconds"] = 3
    found = finish_pod(cluster, pod)
    assert (found["status"]["phase"], found["status"]["reason"]) == ("Failed", "DeadlineExceeded")
    assert (ended(found)["exitCode"], ended(found)["message"]) == (143, "stopped\n")


def test_pod_is_killed_when_it_takes_more_memory_than_its_limit(cluster: Cluster, namespace: str) -> None:
    pod = make_pod("large", namespace, "tail -c 200m /dev/zero > /dev/null")
    pod["spec"]["containers"][0]["resources"] = {"limits": {"memory": "32Mi"}}
    found = finish_pod(cluster, pod)
    assert (ended(found)["exitCode"], ended(found)["reason"]) == (137, "OOMKilled")


def test_claim_binds_with_its_first_pod_and_keeps_its_data(cluster: Cluster, namespace: str) -> None:
    cluster.apply(make_claim("kept", namespace))
    assert cluster.get("pvc", "kept", f"--namespace={namespace}")["status"]["phase"] == "Pending"
    finish_pod(cluster, make_pod("writer", namespace, "echo bytes > /kept/file", claims={"kept": "/kept"}))
    assert cluster.get("pvc", "kept", f"--namespace={namespace}")["status"]["phase"] == "Bound"
    cluster.kubectl("delete", "pod", "writer", f"--namespace={namespace}")
    reader = finish_pod(cluster, make_pod("reader", namespace, "cat /kept/file", claims={"kept": "/kept"}))
    assert log_of(cluster, reader) == "bytes\n"


def test_claim_is_closed_to_a_pod_without_fs_group(cluster: Cluster, namespace: str) -> None:
    cluster.apply(make_claim("closed", namespace))
    pod = make_pod("stranger", namespace, "touch /closed/file", claims={"closed": "/closed"})
    del pod["spec"]["securityContext"]["fsGroup"]
    assert finish_pod(cluster, pod)["status"]["phase"] == "Failed"


def test_volume_is_removed_with_its_claim(cluster: Cluster, namespace: str) -> None:
    cluster.apply(make_claim("passing", namespace))
    finish_pod(cluster, make_pod("user", namespace, "true", claims={"passing": "/passing"}))
    volume = cluster.get("pvc", "passing", f"--namespace={namespace}")["spec"]["volumeName"]
    cluster.kubectl("delete", "pod/user", "pvc/passing", f"--namespace={namespace}")
    cluster.kubectl("wait", f"pv/{volume}", "--for=delete", "--timeout=60s", seconds=70)
    assert volume not in cluster.in_node("ls", str(cluster.own_node("").places.state / "volumes"))


def test_volume_of_few_megabytes_fills_up(cluster: Cluster, namespace: str) -> None:
    with small_volume(cluster, "little", namespace, megabytes=5):
        script = "dd if=/dev/zero of=/little/file bs=1M count=9; df -m /little | tail -n 1"
        pod = finish_pod(cluster, make_pod("filler", namespace, script, claims={"little": "/little"}))
        log = log_of(cluster, pod)
        cluster.kubectl("delete", "pod/filler", f"--namespace={namespace}")
    assert "No space left on device" in log
    assert "100%" in log.splitlines()[-1]
    assert "little" not in cluster.in_node("cat", "/proc/self/mounts")


def test_service_address_leads_to_its_pod(cluster: Cluster, namespace: str) -> None:
    server = make_pod(
        "server", namespace, "mkdir -p /tmp/www; echo served > /tmp/www/index.html; httpd -f -p 8080 -h /tmp/www"
    )
    server["metadata"]["labels"] = {"app": "server"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    cluster.apply(server, service)
    wait_for_pod(cluster, "server", namespace, phases=("Running",))
    script = "for i in 1 2 3 4 5 6 7 8 9; do wget -qO - $WEB_SERVICE_HOST && exit; sleep 1; done; exit 1"
    client = finish_pod(cluster, make_pod("client", namespace, script))
    assert log_of(cluster, client).endswith("served\n")


def test_pod_reaches_the_api_server_and_holds_a_token_of_its_account(cluster: Cluster, namespace: str) -> None:
    account = "/var/run/secrets/kubernetes.io/serviceaccount"
    script = (
        f"nc -w 5 $KUBERNETES_SERVICE_HOST 443 < /dev/null && cat {account}/token && grep -c BEGIN {account}/ca.crt"
    )
    token = log_of(cluster, finish_pod(cluster, make_pod("asker", namespace, script + " > /dev/null")))
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    answer = json.loads(cluster.kubectl("create", "-f", "-", "-o", "json", text=json.dumps(review)))
    assert answer["status"]["user"]["username"] == f"system:serviceaccount:{namespace}:default"


def test_pod_reaches_a_server_of_this_machine_and_nothing_beyond(cluster: Cluster, namespace: str) -> None:
    with _server(cluster.bridge_address) as port:
        script = f"exec 2>&1; wget -qO - http://{cluster.bridge_address}:{port}/; wget -qO - http://192.0.2.1/; echo $?"
        pod = finish_pod(cluster, make_pod("walker", namespace, script))
    assert log_of(cluster, pod).splitlines() == [
        "hello",
        "wget: can't connect to remote host (192.0.2.1): Network is unreachable",
        "1",
    ]


def test_image_of_an_archive_runs_when_it_is_loaded(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    image = f"datacube.test/loaded:{namespace}"
    write_archive(archive, busybox_layer(), {image: {"Cmd": ["/bin/echo", "loaded"]}})
    cluster.load_image(archive)
    pod = make_pod("loaded", namespace, "")
    pod["spec"]["containers"][0] |= {"image": image, "command": None}
    assert log_of(cluster, finish_pod(cluster, pod)) == "loaded\n"


def test_image_that_is_not_there_keeps_its_pod_waiting(cluster: Cluster, namespace: str) -> None:
    pod = make_pod("hollow", namespace, "")
    pod["spec"]["containers"][0] |= {"image": "datacube.test/none:1"}
    cluster.apply(pod)
    waiting = ["wait", "pod/hollow", f"--namespace={namespace}", "--timeout=30s"]
    reason = "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImageNeverPull"
    assert "condition met" in cluster.kubectl(*waiting, reason)


def test_command_runs_in_a_running_pod(cluster: Cluster, namespace: str) -> None:
    cluster.apply(make_pod("alive", namespace, "sleep 60"))
    wait_for_pod(cluster, "alive", namespace, phases=("Running",))
    assert cluster.kubectl("exec", "alive", f"--namespace={namespace}", "--", "hostname") == "alive\n"


@contextmanager
def _server(address: str) -> Iterator[int]:
    """An HTTP server on this machine that says hello."""

    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello\n")

        def log_message(self, *_: object) -> None:
            """Tells nobody."""

    with http.server.ThreadingHTTPServer((address, 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
