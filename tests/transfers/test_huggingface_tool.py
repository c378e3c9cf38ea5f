"""`extraArgs` with a hub: the real `hf` does the work, within our rules, and its result is checked as ours is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from tests.servers.faults import Fault, start_fault_proxy
from tests.support import tree
from tests.transfers.hf_bench import Bench, be_quick, make_bench, noise

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.hub import Hub

pytestmark = pytest.mark.t1
FILES = {
    "README.md": b"---\nlicense: mit\n---\n",
    "model.bin": noise(200_000, 9),
    "data/x.txt": b"x",
    "data/y.csv": b"y",
}


@pytest.fixture
def bench(hub: Hub, volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    be_quick(monkeypatch)
    return make_bench(hub, volumes, tmp_path)


def test_hf_download_works_with_the_cache_dir_of_the_document(bench: Bench, tmp_path: Path) -> None:
    repo = bench.new(FILES, private=True)
    extra = ["--cache-dir", "/tmp/cache/hf", "--resume-download", "--local-dir-use-symlinks", "False"]
    report = bench.download(repo, options={"token": bench.hub.token}, extra_args=extra)
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert tree(bench.volume) == bench.hub.files(repo)
    assert {p.name for p in bench.volume.iterdir()} == {"README.md", "model.bin", "data"}
    assert (report.files, report.verified, report.revision) == (4, "checksum", bench.hub.commits(repo)[0].id)
    assert sum("was left out" in n for n in report.notices) == 2


def test_hf_download_takes_include_and_exclude(bench: Bench) -> None:
    repo = bench.new(FILES)
    extra = ["--include", "data/*", "--include", "*.md", "--exclude", "*.csv"]
    report = bench.download(repo, extra_args=extra)
    assert set(tree(bench.volume)) == {"README.md", "data/x.txt"}
    assert (report.listed, report.files) == (2, 2)
    assert bench.download(repo, extra_args=extra).reason is Reason.UP_TO_DATE


def test_hf_download_says_that_nothing_matches(bench: Bench) -> None:
    report = bench.download(bench.new(FILES), extra_args=["--include", "*.none"])
    assert report.reason is Reason.NOT_FOUND
    assert "--include" in report.message


def test_hf_download_takes_files_and_a_revision_and_type_of_its_own(bench: Bench) -> None:
    repo = bench.new(FILES, repo_type="dataset", branches={"dev": {"README.md": b"dev"}})
    extra = ["--revision", "dev", "--repo-type=dataset", "--max-workers", "2"]
    report = bench.download(repo, options={"files": "README.md"}, extra_args=extra)
    assert (bench.volume / "README.md").read_bytes() == b"dev"
    assert report.revision == bench.hub.commits(repo, "dev", "dataset")[0].id


@pytest.mark.parametrize("extra", [["--token", "x"], ["--local-dir", "/x"], ["--every", "1"], ["--unknown"]])
def test_hf_download_refuses_arguments_that_are_not_allowed(bench: Bench, extra: list[str]) -> None:
    report = bench.download(bench.new(FILES), extra_args=extra)
    assert report.reason is Reason.INVALID_SPEC
    assert extra[0] in report.message


def test_hf_download_of_wrong_bytes_of_the_right_length_is_caught_by_us(bench: Bench) -> None:
    with start_fault_proxy(bench.hub.url) as proxy:
        proxy.inject(Fault("GET /_cdn/", "wrong", times=None))
        bench.endpoint = proxy.url
        report = bench.download(bench.new(FILES), extra_args=["--max-workers", "1"])
    assert report.reason is Reason.INTEGRITY_MISMATCH
    assert not (bench.volume / "model.bin").exists()
    assert not (bench.volume / ".datacube").exists()


def test_hf_download_that_fails_is_explained(bench: Bench) -> None:
    with start_fault_proxy(bench.hub.url) as proxy:
        proxy.inject(Fault("HEAD /", "status", times=None, status=403))
        bench.endpoint = proxy.url
        report = bench.download(bench.new(FILES), extra_args=["--max-workers", "1"])
    assert report.reason is Reason.ACCESS_DENIED
    assert "hf ended with code" in report.message
    assert tree(bench.volume) == {}


def test_hf_upload_commits_a_folder_without_following_links(bench: Bench, tmp_path: Path) -> None:
    repo = bench.new({})
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_bytes(b"secret")
    bench.write({f"out/{name}": content for name, content in FILES.items()})
    os.symlink(outside, bench.volume / "out/linked")
    os.symlink(outside / "secret.txt", bench.volume / "out/link.txt")
    extra = ["--exclude", "*.csv", "--commit-message", "By hf"]
    report = bench.upload(repo, sub_path="out", options={"path-in-repo": "sub"}, extra_args=extra)
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert set(bench.hub.files(repo)) == {"sub/README.md", "sub/model.bin", "sub/data/x.txt"}
    assert bench.hub.commits(repo)[0].message == "By hf"
    assert (report.files, report.skipped, report.listed) == (3, 2, 5)
    assert report.revision == bench.hub.commits(repo)[0].id
    again = bench.upload(repo, sub_path="out", options={"path-in-repo": "sub"}, extra_args=extra)
    assert again.reason is Reason.UP_TO_DATE


@pytest.mark.parametrize(("path_in_repo", "name"), [("", "model.bin"), ("w/", "w/model.bin"), ("w/v1.bin", "w/v1.bin")])
def test_hf_upload_of_a_file_goes_where_path_in_repo_says(bench: Bench, path_in_repo: str, name: str) -> None:
    repo = bench.new({})
    bench.write({"model.bin": os.urandom(1000)})
    options = {"path-in-repo": path_in_repo, "commit-message": "One file"}
    report = bench.upload(repo, sub_path="model.bin", options=options, extra_args=["--commit-description", "d"])
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert set(bench.hub.files(repo)) == {name}
    assert bench.hub.commits(repo)[0].message == "One file"


def test_hf_upload_creates_no_repository_when_private_is_absent(bench: Bench) -> None:
    bench.write(FILES)
    extra = ["--exclude", "none"]
    assert bench.upload("alice/typo-hf", extra_args=extra).reason is Reason.NOT_FOUND
    assert bench.hub.repository("alice/typo-hf") is None
    assert bench.upload("alice/typo-hf", options={"private": "true"}, extra_args=extra).files == 4
    made = bench.hub.repository("alice/typo-hf")
    assert made is not None
    assert made.private


def test_hf_upload_creates_no_branch(bench: Bench) -> None:
    bench.write(FILES)
    repo = bench.new({})
    report = bench.upload(repo, extra_args=["--revision", "typo"])
    assert report.reason is Reason.REF_NOT_FOUND


def test_dry_run_counts_what_include_selects(bench: Bench) -> None:
    repo = bench.new(FILES)
    plan = bench.download(repo, extra_args=["--include", "data/*"], dry_run=True).plan
    assert plan is not None
    assert (plan.add, plan.bytes) == (2, 2)
