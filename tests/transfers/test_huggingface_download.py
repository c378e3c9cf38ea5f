"""Downloads from a hub: what lands on the volume, what does not move again, what is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.transfers import hf_download, hf_fetch
from tests.canary import CANARY
from tests.servers.faults import Fault, start_fault_proxy
from tests.support import tree
from tests.transfers.hf_bench import Bench, be_quick, make_bench, noise

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.hub import Hub

pytestmark = pytest.mark.t1
FILES = {
    "README.md": b"---\nlicense: mit\n---\n",
    "model.safetensors": noise(400_000),
    "data/a b/c#d%20.txt": b"odd name",
    "data/x.bin": noise(1000, 1),
    "empty": b"",
}


@pytest.fixture
def bench(hub: Hub, volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    be_quick(monkeypatch)
    return make_bench(hub, volumes, tmp_path)


def test_download_brings_the_whole_repository_and_nothing_else(bench: Bench) -> None:
    repo = bench.new(FILES)
    report = bench.download(repo, sub_path="models/x")
    assert tree(bench.volume) == bench.hub.files(repo)
    assert {p.name for p in bench.volume.iterdir()} == {"README.md", "model.safetensors", "data", "empty"}
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert (report.listed, report.files, report.skipped) == (5, 5, 0)
    assert report.bytes == sum(map(len, FILES.values()))
    assert (report.verified, report.path) == ("checksum", "models/x")
    assert report.revision == bench.hub.commits(repo)[0].id


@pytest.mark.parametrize("repo_type", ["dataset", "space"])
def test_download_takes_a_dataset_or_space_when_repo_type_says_so(bench: Bench, repo_type: str) -> None:
    repo = bench.new(FILES, repo_type=repo_type)
    bench.download(repo, options={"repo-type": repo_type})
    assert tree(bench.volume) == bench.hub.files(repo, repo_type=repo_type)


def test_download_brings_only_the_files_that_are_named(bench: Bench) -> None:
    repo = bench.new(FILES)
    report = bench.download(repo, options={"files": " README.md ,, data/x.bin,README.md,"})
    assert set(tree(bench.volume)) == {"README.md", "data/x.bin"}
    assert (report.listed, report.files) == (2, 2)


def test_download_names_every_file_that_is_missing(bench: Bench) -> None:
    report = bench.download(bench.new(FILES), options={"files": "README.md,none.txt,*.bin"})
    assert report.reason is Reason.NOT_FOUND
    assert "'none.txt', '*.bin'" in report.message
    assert "--include" in report.message
    assert tree(bench.volume) == {}


@pytest.mark.parametrize("name", ["data", "data/"])
def test_download_refuses_a_folder_among_the_files(bench: Bench, name: str) -> None:
    report = bench.download(bench.new(FILES), options={"files": f"README.md,{name}"})
    assert report.reason is Reason.INVALID_SPEC
    assert "'data' is a folder" in report.message


def test_download_takes_a_branch_a_tag_and_a_commit(bench: Bench) -> None:
    repo = bench.new({"a": b"main"}, branches={"feature/x": {"a": b"dev"}}, tags={"v1": "feature/x"})
    commit = bench.hub.commits(repo)[0].id
    bench.hub.commit(repo, {"a": b"later"})
    for revision, content in (("feature/x", b"dev"), ("v1", b"dev"), (commit, b"main"), ("main", b"later")):
        bench.download(repo, options={"revision": revision})
        assert (bench.volume / "a").read_bytes() == content


def test_download_keeps_one_commit_when_the_branch_moves_meanwhile(bench: Bench) -> None:
    repo = bench.new({f"f{n}": b"old" for n in range(5)})
    before = bench.hub.files(repo)
    with start_fault_proxy(bench.hub.url) as proxy:
        move = Fault("GET .*/resolve/", "pass", before=lambda: bench.hub.commit(repo, {"f4": b"new"}) and None)
        proxy.inject(move)
        bench.endpoint = proxy.url
        report = bench.download(repo)
    assert tree(bench.volume) == before
    assert report.revision == bench.hub.commits(repo)[1].id


def test_download_moves_nothing_when_all_is_here(bench: Bench) -> None:
    repo = bench.new(FILES)
    bench.download(repo)
    before = bench.hub.count("GET", f"/{repo}/resolve/")
    report = bench.download(repo)
    assert report.reason is Reason.UP_TO_DATE
    assert (report.listed, report.files, report.skipped, report.bytes) == (5, 0, 5, 0)
    assert bench.hub.count("GET", f"/{repo}/resolve/") == before


def test_download_replaces_only_what_differs_also_when_only_the_bytes_do(bench: Bench) -> None:
    repo = bench.new(FILES)
    bench.download(repo)
    wrong = bytearray(FILES["model.safetensors"])
    wrong[7] ^= 1
    bench.write({"model.safetensors": bytes(wrong), "own.txt": b"stays"})
    report = bench.download(repo)
    assert (report.files, report.skipped) == (1, 4)
    assert tree(bench.volume).items() >= bench.hub.files(repo).items()
    assert (bench.volume / "own.txt").read_bytes() == b"stays"


def test_download_compares_sizes_only_when_verify_says_size(bench: Bench) -> None:
    repo = bench.new(FILES)
    bench.write({"data/x.bin": b"y" * 1000})
    report = bench.download(repo, verify="size")
    assert (report.files, report.skipped, report.verified) == (4, 1, "size")
    assert (bench.volume / "data/x.bin").read_bytes() == b"y" * 1000


def test_download_fetches_large_files_in_parts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_fetch, "PART", 50_000)
    repo = bench.new(FILES)
    bench.download(repo)
    assert tree(bench.volume) == bench.hub.files(repo)
    asked = [r.headers["range"] for r in bench.hub.requests if repo in r.path and r.path.endswith("model.safetensors")]
    assert len(asked) == 8


def test_download_of_many_large_files_keeps_few_of_them_open(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_fetch, "PART", 5_000)
    repo = bench.new({f"{n}.bin": noise(20_000, n) for n in range(40)})
    begin, close, now, most = hf_fetch.FileFetch.start, hf_fetch.FileFetch.close, set(), [0]

    def started(file: hf_fetch.FileFetch) -> None:
        now.add(file.remote.name)
        most.append(len(now))
        begin(file)

    def closed(file: hf_fetch.FileFetch) -> None:
        now.discard(file.remote.name)
        close(file)

    monkeypatch.setattr(hf_fetch.FileFetch, "start", started)
    monkeypatch.setattr(hf_fetch.FileFetch, "close", closed)
    bench.download(repo)
    assert tree(bench.volume) == bench.hub.files(repo)
    assert max(most) <= 2 * hf_download.WORKERS


def test_download_follows_every_page_of_the_listing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.hub, "page_size", 7)
    repo = bench.new({f"d{n % 3}/{n}.txt": b"%d" % n for n in range(50)})
    assert bench.download(repo).files == 50
    assert tree(bench.volume) == bench.hub.files(repo)


def test_download_follows_a_repository_that_was_renamed(bench: Bench) -> None:
    repo = bench.new(FILES)
    bench.hub.rename(repo, f"{repo}-new")
    bench.download(repo, options={"files": "README.md"})
    report = bench.download(f"{repo}-new")
    assert tree(bench.volume) == bench.hub.files(f"{repo}-new")
    assert report.reason is Reason.TRANSFER_COMPLETE


def test_download_says_a_repository_without_files_is_empty(bench: Bench) -> None:
    report = bench.download(bench.new({}))
    assert report.reason is Reason.SOURCE_EMPTY


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/../../evil", "a//b", ".datacube/x", "a/./b", "n" * 300, "\ud800"]
)
def test_download_refuses_names_that_leave_the_folder(bench: Bench, name: str) -> None:
    report = bench.download(bench.new({"good": b"1", name: b"evil"}))
    assert report.reason is Reason.PATH_COLLISION
    assert list(bench.volume.iterdir()) == []
    assert not (bench.volume.parent / "evil").exists()


def test_download_refuses_a_name_that_is_file_and_folder(bench: Bench) -> None:
    report = bench.download(bench.new({"a": b"1", "a/b": b"2"}))
    assert report.reason is Reason.PATH_COLLISION


def test_download_writes_through_no_symbolic_link(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.bin").write_bytes(FILES["data/x.bin"])
    os.symlink(outside, bench.volume / "data")
    report = bench.download(bench.new(FILES))
    assert report.reason is Reason.PATH_COLLISION
    assert "symbolic link" in report.message
    assert [p.name for p in outside.iterdir()] == ["x.bin"]


def test_download_replaces_a_link_in_place_of_a_file_and_not_its_target(bench: Bench, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"keep")
    os.symlink(target, bench.volume / "README.md")
    bench.download(bench.new(FILES), options={"files": "README.md"})
    assert not (bench.volume / "README.md").is_symlink()
    assert target.read_bytes() == b"keep"


def test_download_names_the_folder_that_is_in_a_files_place(bench: Bench) -> None:
    bench.write({"README.md/inside": b""})
    report = bench.download(bench.new(FILES))
    assert report.reason is Reason.PATH_COLLISION
    assert "README.md" in report.message


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"repo": "-x/y"}, "repo"),
        ({"repo": "a/b/c"}, "repo"),
        ({"repo": "https://huggingface.co/a/b"}, "repo"),
        ({"repo-type": "models"}, "model, dataset, space"),
        ({"revision": "-x"}, "revision"),
        ({"files": "a,-b"}, "'-b'"),
    ],
)
def test_download_refuses_options_that_cannot_be(bench: Bench, options: dict[str, str], word: str) -> None:
    report = bench.download("alice/any", options=options)
    assert report.reason is Reason.INVALID_SPEC
    assert word in report.message


@pytest.mark.parametrize("endpoint", ["hf.example", "ftp://hf.example", f"https://u:{CANARY}@hf.example"])
def test_download_refuses_an_endpoint_that_cannot_be(bench: Bench, endpoint: str) -> None:
    bench.endpoint = endpoint
    report = bench.download("alice/any")
    assert report.reason is Reason.INVALID_SPEC
    assert "HF_ENDPOINT" in report.message
    assert CANARY not in report.message


def test_download_refuses_plain_http_when_only_https_is_allowed(bench: Bench) -> None:
    report = bench.download(bench.new(FILES), allowed_schemes=("https",))
    assert report.reason is Reason.INVALID_SPEC


def test_dry_run_says_what_a_download_then_does(bench: Bench) -> None:
    repo = bench.new(FILES)
    bench.write({"README.md": b"other", "data/x.bin": FILES["data/x.bin"]})
    plan = bench.download(repo, dry_run=True).plan
    assert plan is not None
    assert tree(bench.volume).keys() == {"README.md", "data/x.bin"}
    report = bench.download(repo)
    assert (plan.add, plan.update, plan.delete) == (3, 1, 0)
    assert (plan.add + plan.update, plan.bytes) == (report.files, report.bytes)


def test_download_keeps_to_its_bandwidth_limit(bench: Bench) -> None:
    import time

    repo = bench.new({"x.bin": noise(300_000)})
    start = time.monotonic()
    bench.download(repo, bandwidth_limit=300_000)
    assert 0.5 < time.monotonic() - start < 3
