"""The parts of the harness that need no cluster."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.cluster.binaries import find_programs
from tests.cluster.certificates import Authority
from tests.cluster.cluster import BRIDGE_VARIABLE, IMAGE_VARIABLE, find_cluster, users_kubeconfig
from tests.cluster.errors import ClusterError
from tests.cluster.images import write_archive
from tests.cluster.places import Places, places_from, write_changed
from tests.cluster.process import Process, Roster, start_of, wait_for
from tests.cluster.traces import Before, remaining_traces
from tests.cluster.turn import held_turn
from tests.cluster.versions import ARGO, KUBERNETES, MODULES
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.versions import Module


@pytest.mark.t0
@pytest.mark.parametrize("module", [*MODULES["whole"], ARGO], ids=lambda m: m.name)
def test_module_pins_what_it_builds(module: Module) -> None:
    sums = (module.folder / "go.sum").read_text()
    path = next(p for p in _prefixes(module.packages[0]) if f"{p} {module.version} h1:" in sums)
    assert module.build_name.startswith(f"{module.name}-{module.version}-")
    assert all(package.startswith(path) for package in module.packages)


@pytest.mark.t0
def test_module_kubernetes_takes_all_staging_modules_of_its_version() -> None:
    replaced = re.findall(r"=> k8s.io/\S+ (\S+)", (KUBERNETES.folder / "go.mod").read_text())
    assert len(replaced) > 25
    assert set(replaced) == {KUBERNETES.version.replace("v1.", "v0.")}


@pytest.mark.t0
def test_module_kubernetes_tells_its_programs_their_version() -> None:
    assert f"version.gitVersion={KUBERNETES.version} " in KUBERNETES.linker_flags + " "


@pytest.mark.t0
def test_programs_are_named_when_they_are_not_built(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"not built yet: etcd, kube-apiserver.*tests\.cluster build"):
        find_programs(tmp_path, "api")


@pytest.mark.t0
def test_places_follow_the_xdg_variables() -> None:
    places = places_from({"HOME": "/h", "XDG_CACHE_HOME": "/c", "XDG_STATE_HOME": "/s"})
    assert (str(places.cache), str(places.state)) == ("/c/datacube-cluster", "/s/datacube-cluster")
    assert str(places_from({"HOME": "/h"}).cache) == "/h/.cache/datacube-cluster"


@pytest.mark.t0
def test_find_cluster_says_how_to_get_one_when_none_runs(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="make cluster"):
        find_cluster(_environ(tmp_path))


@pytest.mark.t0
def test_find_cluster_takes_the_users_when_kubeconfig_is_set(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "mine"
    kubeconfig.touch()
    given = {"KUBECONFIG": str(kubeconfig), BRIDGE_VARIABLE: "10.1.2.3", IMAGE_VARIABLE: "a.test/b:1", "LOGIN": "mine"}
    found = find_cluster(_environ(tmp_path) | given)
    assert (found.kubeconfig, found.bridge_address, found.node) == (kubeconfig, "10.1.2.3", None)
    assert found.kubectl_environ["LOGIN"] == "mine"
    with pytest.raises(ClusterError, match="load the image into its nodes"):
        found.load_image(tmp_path / "image.tar")


@pytest.mark.t0
@pytest.mark.parametrize(
    ("name", "words"),
    [("mine", f"also set {BRIDGE_VARIABLE} to .*, and {IMAGE_VARIABLE} to "), ("missing", "must name one file")],
)
def test_find_cluster_refuses_a_kubeconfig_that_it_cannot_use(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(ClusterError, match=words):
        find_cluster(_environ(tmp_path) | {"KUBECONFIG": str(tmp_path / name)})


@pytest.mark.t0
def test_kubeconfig_of_the_cluster_started_here_is_no_users(tmp_path: Path) -> None:
    places = places_from(_environ(tmp_path))
    assert users_kubeconfig({"KUBECONFIG": str(places.kubeconfig)}, places) is None
    assert users_kubeconfig({"KUBECONFIG": ""}, places) is None
    assert users_kubeconfig({"KUBECONFIG": str(tmp_path / "mine")}, places) == tmp_path / "mine"


@pytest.mark.t0
def test_write_changed_leaves_a_file_alone_when_it_has_the_text(tmp_path: Path) -> None:
    file = write_changed(tmp_path / "file", "text")
    before = file.stat()
    assert write_changed(file, "text").stat().st_ino == before.st_ino
    assert write_changed(file, "other").stat().st_ino != before.st_ino
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("other", 0o600)


@pytest.mark.t0
def test_archive_names_its_images_and_their_layer(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.tar", b"layer", {"a.test/one:1": {"Cmd": ["x"]}, "a.test/two:1": {}})
    with tarfile.open(tmp_path / "a.tar") as tar:
        content = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
    listing = json.loads(content["manifest.json"])
    assert [image["RepoTags"] for image in listing] == [["a.test/one:1"], ["a.test/two:1"]]
    assert json.loads(content[listing[0]["Config"]])["config"]["Cmd"] == ["x"]
    assert content["layer.tar"] == b"layer"


@pytest.mark.t1
def test_authority_signs_for_servers_and_clients_and_keeps_what_it_signed(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    server = authority.issue("server", user="u", names=["IP:127.0.0.1"])
    client = authority.issue("client", user="u", group="g")
    before = client.certificate.read_bytes()
    assert _verifies(authority, "sslserver", server.certificate)
    assert _verifies(authority, "sslclient", client.certificate)
    assert not _verifies(authority, "sslserver", client.certificate)
    assert not _verifies(Authority(tmp_path / "other"), "sslclient", client.certificate)
    assert Authority(tmp_path / "pki").issue("client", user="u").certificate.read_bytes() == before
    assert all(k.stat().st_mode & 0o777 == 0o600 for k in tmp_path.rglob("*.key"))


@pytest.mark.t1
def test_turn_is_waited_for_and_it_is_said_for_whom(tmp_path: Path) -> None:
    with ExitStack() as turn:
        turn.enter_context(held_turn(tmp_path / "lock"))
        command = [sys.executable, "-c", TAKE_TURN, str(tmp_path / "lock")]
        with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as second:
            assert second.stderr is not None
            said, waits = second.stderr.readline(), second.poll() is None
            turn.close()
            printed, _ = second.communicate(timeout=20)
    assert re.match(rf"waiting for the tests of process {os.getpid()}, which began at \d\d:\d\d UTC \(", said)
    assert (waits, printed, second.returncode) == (True, "mine\n", 0)


TAKE_TURN = """
import sys
from pathlib import Path
from tests.cluster.turn import held_turn
with held_turn(Path(sys.argv[1])):
    print("mine")
"""


@pytest.mark.t1
def test_roster_starts_once_and_ends_what_it_started(tmp_path: Path) -> None:
    roster = Roster(tmp_path / "processes", tmp_path / "logs", {"PATH": os.environ["PATH"]})
    first = roster.ensure("sleeper", ["sh", "-c", "echo said; exec sleep 60"])
    assert roster.ensure("sleeper", ["sleep", "60"]) == first
    wait_for(lambda: roster.log_end("sleeper") == "said", 10, "nothing is logged")
    roster.kill_all()
    assert not first.alive
    assert roster.recorded() == []
    with pytest.raises(ClusterError, match=r"sleeper has ended; its log ends so:\nsaid"):
        roster.must_run(first)


@pytest.mark.t0
def test_process_is_not_taken_for_another_with_its_id() -> None:
    mine = start_of(os.getpid())
    assert Process("this", os.getpid(), mine).alive
    assert not Process("another", os.getpid(), mine - 1).alive


@pytest.mark.t1
def test_traces_are_told_when_a_cluster_left_them(tmp_path: Path) -> None:
    places = Places(tmp_path / "cache", tmp_path / "state")
    (places.state / "etcd").mkdir(parents=True)
    left = f"folder {places.state}: etcd"
    assert left in remaining_traces(places, Before({}, [], []))
    assert left not in remaining_traces(places, Before({}, [], [left]))
    changed = remaining_traces(places, Before({"kernel/panic": "-7"}, [], [left]))
    assert any(line.startswith("kernel setting kernel/panic: ") and line.endswith("was -7") for line in changed)


def _prefixes(package: str) -> list[str]:
    parts = package.split("/")
    return ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]


def _environ(folder: Path) -> dict[str, str]:
    return {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "XDG_STATE_HOME": str(folder / "state")}


def _verifies(authority: Authority, purpose: str, certificate: Path) -> bool:
    command = ["openssl", "verify", "-CAfile", str(authority.pair.certificate), "-purpose", purpose, str(certificate)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
