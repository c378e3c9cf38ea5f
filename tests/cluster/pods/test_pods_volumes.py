"""What a pod prints of the volumes on a user's cluster is unpacked whole, or not at all."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cluster.errors import ClusterError
from tests.cluster.pods.volumes import tar_script, unpack
from tests.support import tree

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.t1


@pytest.fixture
def printed(tmp_path: Path) -> str:
    """What the script prints of two volumes: files, a link out of one, and what a new file system holds by itself."""
    for claim in ("one", "two"):
        (tmp_path / "volumes" / claim / "lost+found").mkdir(parents=True)
        (tmp_path / "volumes" / claim / "file").write_text(f"bytes of {claim}")
    (tmp_path / "volumes/one/link").symlink_to("/etc")
    (tmp_path / "volumes/one/deep/lost+found").mkdir(parents=True)
    return read(tmp_path / "volumes", tmp_path).stdout


def read(volumes: Path, scratch: Path) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-e", "-c", tar_script(str(volumes), str(scratch))]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_volumes_are_unpacked_without_links_and_what_a_file_system_holds_itself(printed: str, tmp_path: Path) -> None:
    unpack(printed, tmp_path / "copies")
    found = {str(path.relative_to(tmp_path / "copies")) for path in (tmp_path / "copies").rglob("*")}
    assert found == {"one", "one/file", "one/deep", "one/deep/lost+found", "two", "two/file"}
    assert tree(tmp_path / "copies/two") == tree(tmp_path / "volumes/two")


def test_volumes_that_arrive_in_part_are_refused(printed: str, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="of a volume's 10240 bytes 10239 arrived"):
        unpack(printed[:-4], tmp_path / "copies")


def test_reading_fails_when_a_volume_cannot_be_read(tmp_path: Path) -> None:
    done = read(tmp_path / "no-such", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
