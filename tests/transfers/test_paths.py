"""Nothing leaves the folder that it was given, no link is followed, and a file is in its place whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.base import WORK_FOLDER
from datacube_flows.transfers.paths import WorkFolder, check_names, list_files, make_folder, resolve_source
from datacube_flows.transfers.progress import Progress

pytestmark = pytest.mark.t0


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(source: Path) -> list[str]:
    return [f.name for f in list_files(source, Progress()).files]


@pytest.mark.parametrize("sub_path", ["", "a", "a/b", "a/b/"])
def test_source_is_found_below_the_volume(sub_path: str, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert resolve_source(tmp_path, sub_path) == tmp_path / sub_path


def test_source_may_be_a_file_or_a_link_that_stays_inside(tmp_path: Path) -> None:
    file = put(tmp_path / "a" / "file")
    (tmp_path / "link").symlink_to("a/file")
    assert resolve_source(tmp_path, "a/file") == file
    assert resolve_source(tmp_path, "link") == file


@pytest.mark.parametrize("sub_path", ["missing", "file/below"])
def test_missing_source_is_not_found(sub_path: str, tmp_path: Path) -> None:
    put(tmp_path / "file")
    with pytest.raises(TransferError) as caught:
        resolve_source(tmp_path, sub_path)
    assert caught.value.reason is Reason.NOT_FOUND
    assert sub_path in caught.value.message


@pytest.mark.parametrize("target", ["/etc", "..", "../outside", "a/../../outside"])
def test_source_that_leaves_the_volume_is_refused(target: str, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    (volume / "a").mkdir(parents=True)
    put(tmp_path / "outside")
    (volume / "link").symlink_to(target)
    with pytest.raises(TransferError) as caught:
        resolve_source(volume, "link")
    assert caught.value.reason is Reason.INVALID_SPEC


def test_source_in_a_circle_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(TransferError) as caught:
        resolve_source(tmp_path, "a")
    assert caught.value.reason is Reason.INVALID_SPEC


def test_listing_is_sorted_and_leaves_out_what_is_no_data(tmp_path: Path) -> None:
    for name in (
        "b",
        "a/c",
        f"{WORK_FOLDER}/0.part",
        "lost+found/1",
        ".cache/huggingface/x",
        ".cache/mine",
        "a/lost+found/z",
    ):
        put(tmp_path / name)
    assert names(tmp_path) == [".cache/mine", "a/c", "a/lost+found/z", "b"]


def test_links_and_special_files_are_counted_and_told(tmp_path: Path) -> None:
    put(tmp_path / "file")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    progress = Progress()
    found = list_files(tmp_path, progress)
    assert [f.name for f in found.files] == ["file"]
    assert found.skipped == 4
    assert "left out 4 symbolic links or special files" in progress.notices[0]


def test_listing_of_one_file_is_that_file(tmp_path: Path) -> None:
    found = list_files(put(tmp_path / "file", "12345"), Progress())
    assert ([f.name for f in found.files], found.size, found.skipped) == (["file"], 5, 0)


def test_very_deep_tree_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    depth = 1200
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    Path("leaf").touch()
    assert names(tmp_path) == ["d/" * depth + "leaf"]
    Path("leaf").unlink()
    for _ in range(depth):  # deeper than shutil.rmtree can remove
        os.chdir("..")
        os.rmdir("d")


def test_changed_file_is_noticed(tmp_path: Path) -> None:
    path = put(tmp_path / "file")
    (file,) = list_files(tmp_path, Progress()).files
    assert not file.is_changed()
    os.utime(path, ns=(0, 1))
    assert file.is_changed()
    path.unlink()
    assert file.is_changed()


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "a\0b", "x" * 256, "é" * 128, "\ud800"]
)
def test_name_that_is_no_file_below_the_folder_is_refused(name: str) -> None:
    with pytest.raises(TransferError) as caught:
        check_names(["fine", name])
    assert caught.value.reason is Reason.PATH_COLLISION


@pytest.mark.parametrize("listing", [["a", "a/b"], ["x/y/z", "x/y"], [f"{WORK_FOLDER}/x"], [WORK_FOLDER]])
def test_names_that_cannot_be_side_by_side_are_refused(listing: list[str]) -> None:
    with pytest.raises(TransferError) as caught:
        check_names(listing)
    assert caught.value.reason is Reason.PATH_COLLISION


@pytest.mark.parametrize(
    "listing", [["a", "ab", "a.b"], ["a/b", "a/c", "a/b.c"], ["x" * 255], ["...", "a..b"], ["n\udcff"]]
)
def test_names_that_can_be_files_are_accepted(listing: list[str]) -> None:
    check_names(listing)


@given(listing=st.lists(st.text("a./\0", max_size=6), max_size=5))
def test_accepted_names_can_all_be_made(listing: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        check_names(listing)
    except TransferError:
        return
    folder = tmp_path_factory.mktemp("made")
    with WorkFolder(folder) as work:
        for name in set(listing):
            put(work.part(0))
            work.place(work.part(0), name)
    assert names(folder) == sorted(set(listing))


def test_work_folder_is_empty_when_entered_and_gone_when_left(tmp_path: Path) -> None:
    put(tmp_path / WORK_FOLDER / "old" / "0.part")
    with WorkFolder(tmp_path) as work:
        assert list(work.path.iterdir()) == []
        put(work.part(1))
    assert list(tmp_path.iterdir()) == []


def test_work_folder_that_is_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    kept = put(tmp_path / "elsewhere" / "kept")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / WORK_FOLDER).symlink_to(tmp_path / "elsewhere")
    with WorkFolder(folder) as work:
        assert not work.path.is_symlink()
    assert kept.exists()


def test_place_replaces_a_file_and_a_link_but_not_what_the_link_names(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", put(tmp_path / "outside", "old")
    put(folder / "file", "old")
    (folder / "link").symlink_to(outside)
    with WorkFolder(folder) as work:
        for name in ("file", "link", "new/deep/file"):
            work.place(put(work.part(0), "new"), name)
    assert outside.read_text() == "old"
    assert not (folder / "link").is_symlink()
    assert all((folder / n).read_text() == "new" for n in ("file", "link", "new/deep/file"))


@pytest.mark.parametrize("name", ["folder", "link/file", "link/deep/file", "file/below"])
def test_place_refuses_what_is_in_the_way(name: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    volume = tmp_path / "volume"
    put(volume / "file")
    put(volume / "folder" / "kept")
    (volume / "link").symlink_to(outside)
    with WorkFolder(volume) as work, pytest.raises(TransferError) as caught:
        work.place(put(work.part(0)), name)
    assert caught.value.reason is Reason.PATH_COLLISION
    assert list(outside.iterdir()) == []
    assert (volume / "folder" / "kept").exists()


def test_folder_of_a_download_is_made_and_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    volume = tmp_path / "volume"
    volume.mkdir()
    assert make_folder(volume, "a/b/") == volume / "a" / "b"
    assert (volume / "a" / "b").is_dir()
    (volume / "link").symlink_to(outside)
    with pytest.raises(TransferError) as caught:
        make_folder(volume, "link/x")
    assert caught.value.reason is Reason.PATH_COLLISION
    assert list(outside.iterdir()) == []


def test_placing_leaves_no_descriptor_open(tmp_path: Path) -> None:
    put(tmp_path / "file")
    with WorkFolder(tmp_path) as work:
        for name in ("a/b/c", "file/x", "d"):
            try:
                work.place(put(work.part(0)), name)
            except TransferError:
                continue
    targets = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            targets.append(str(descriptor.readlink()))
    assert [t for t in targets if t.startswith(str(tmp_path))] == []
