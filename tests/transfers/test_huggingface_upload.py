"""Uploads to a hub: where files go, what is committed and what is not, and when nothing is done at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.transfers import hf_upload
from tests.servers.faults import Fault, start_fault_proxy
from tests.support import tree
from tests.transfers.hf_bench import Bench, be_quick, make_bench, noise

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.hub import Hub

pytestmark = pytest.mark.t1
FILES = {
    "README.md": b"---\nlicense: mit\n---\n",
    "model.safetensors": noise(300_000, 5),
    "data/a b/c#d%20.txt": b"odd name",
    "empty": b"",
    "empty.bin": b"",
}


@pytest.fixture
def bench(hub: Hub, volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    be_quick(monkeypatch)
    return make_bench(hub, volumes, tmp_path)


def test_upload_commits_a_folder_to_the_root(bench: Bench) -> None:
    repo = bench.new({"kept.txt": b"kept"})
    bench.write({f"out/{name}": content for name, content in FILES.items()})
    report = bench.upload(repo, sub_path="out")
    assert bench.hub.files(repo).items() >= tree(bench.volume / "out").items()
    assert bench.hub.content(repo, "kept.txt") == b"kept"
    assert bench.hub.entries(repo)["model.safetensors"].lfs
    assert not bench.hub.entries(repo)["empty.bin"].lfs
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert (report.listed, report.files, report.skipped, report.verified) == (5, 5, 0, "checksum")
    assert report.bytes == sum(map(len, FILES.values()))
    assert report.revision == bench.hub.commits(repo)[0].id
    assert report.path == "out"


@pytest.mark.parametrize(
    ("path_in_repo", "name"),
    [
        ("", "model.bin"),
        ("weights/", "weights/model.bin"),
        ("weights/v1.bin", "weights/v1.bin"),
        ("/weights/v2.bin", "weights/v2.bin"),
        ("weights", "weights"),
        (".", "model.bin"),
    ],
)
def test_upload_of_a_file_goes_where_path_in_repo_says(bench: Bench, path_in_repo: str, name: str) -> None:
    repo = bench.new({})
    bench.write({"out/model.bin": b"weights"})
    report = bench.upload(repo, sub_path="out/model.bin", options={"path-in-repo": path_in_repo})
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert set(bench.hub.files(repo)) == {name}
    assert bench.hub.commits(repo)[0].message == "Upload model.bin with DataCube"


@pytest.mark.parametrize(
    ("path_in_repo", "prefix"), [("", ""), ("x/y", "x/y/"), ("x/y/", "x/y/"), ("/x", "x/"), ("./x", "x/"), (".", "")]
)
def test_upload_of_a_folder_goes_where_path_in_repo_says(bench: Bench, path_in_repo: str, prefix: str) -> None:
    repo = bench.new({})
    bench.write({"out/a.txt": b"a", "out/b/c.txt": b"c"})
    bench.upload(repo, sub_path="out", options={"path-in-repo": path_in_repo})
    assert set(bench.hub.files(repo)) == {f"{prefix}a.txt", f"{prefix}b/c.txt"}


@pytest.mark.parametrize("path_in_repo", ["../x", "a/../../x", "-x", ".git/hooks", "a/.cache", "a\nb"])
def test_upload_refuses_a_place_that_cannot_be(bench: Bench, path_in_repo: str) -> None:
    bench.write({"a.txt": b"a"})
    report = bench.upload(bench.new({}), options={"path-in-repo": path_in_repo})
    assert report.reason is Reason.INVALID_SPEC
    assert "path-in-repo" in report.message


def test_upload_commit_says_what_was_uploaded(bench: Bench) -> None:
    repo = bench.new({})
    bench.write({"out/a": b"1", "out/b": b"2"})
    bench.upload(repo, sub_path="out")
    assert bench.hub.commits(repo)[0].message == "Upload 2 files from out with DataCube"


def test_upload_commit_has_the_message_that_is_given(bench: Bench) -> None:
    repo = bench.new({})
    bench.write({"a": b"1"})
    bench.upload(repo, options={"commit-message": "Epoch 34/50"})
    assert bench.hub.commits(repo)[0].message == "Epoch 34/50"


def test_upload_sends_only_what_differs(bench: Bench) -> None:
    repo = bench.new(FILES)
    bench.write({**FILES, "README.md": b"---\nlicense: apache-2.0\n---\n", "new.bin": noise(1000, 6)})
    report = bench.upload(repo)
    assert (report.listed, report.files, report.skipped) == (6, 2, 4)
    assert bench.hub.files(repo) == tree(bench.volume)


def test_upload_makes_no_commit_when_nothing_differs(bench: Bench) -> None:
    repo = bench.new(FILES)
    bench.write(FILES)
    report = bench.upload(repo)
    assert report.reason is Reason.UP_TO_DATE
    assert (report.files, report.skipped) == (0, 5)
    assert len(bench.hub.commits(repo)) == 2
    assert report.revision == bench.hub.commits(repo)[0].id


@pytest.mark.parametrize(("private", "expected"), [("true", True), ("false", False), ("True", True)])
def test_upload_creates_a_missing_repository_when_private_is_given(
    bench: Bench,
    private: str,
    expected: bool,
) -> None:
    repo = f"alice/created-{private}-{expected}"
    bench.write(FILES)
    report = bench.upload(repo, options={"private": private, "repo-type": "dataset"})
    assert report.reason is Reason.TRANSFER_COMPLETE
    made = bench.hub.repository(repo, "dataset")
    assert made is not None
    assert made.private is expected
    assert bench.hub.files(repo, repo_type="dataset") == tree(bench.volume)


def test_upload_creates_no_repository_when_private_is_absent(bench: Bench) -> None:
    bench.write(FILES)
    report = bench.upload("alice/typo")
    assert report.reason is Reason.NOT_FOUND
    assert "option private" in report.message
    assert bench.hub.repository("alice/typo") is None


def test_upload_may_not_create_in_a_foreign_namespace(bench: Bench) -> None:
    bench.write(FILES)
    report = bench.upload("bob/other", options={"private": "true"})
    assert report.reason is Reason.ACCESS_DENIED


def test_upload_leaves_an_existing_visibility_as_it_is(bench: Bench) -> None:
    repo = bench.new({})
    bench.write({"a": b"1"})
    report = bench.upload(repo, options={"private": "true"})
    found = bench.hub.repository(repo)
    assert found is not None
    assert not found.private
    assert any("exists and is public" in n for n in report.notices)


def test_upload_refuses_another_word_than_true_or_false(bench: Bench) -> None:
    bench.write({"a": b"1"})
    report = bench.upload(bench.new({}), options={"private": "yes"})
    assert report.reason is Reason.INVALID_SPEC


def test_upload_goes_to_the_branch_that_revision_names(bench: Bench) -> None:
    repo = bench.new({"a": b"main"}, branches={"dev": {"a": b"dev"}})
    bench.write({"b": b"new"})
    bench.upload(repo, options={"revision": "dev"})
    assert set(bench.hub.files(repo, "dev")) == {"a", "b"}
    assert set(bench.hub.files(repo)) == {"a"}


@pytest.mark.parametrize("revision", ["none", "v1", "commit"])
def test_upload_refuses_what_is_no_branch(bench: Bench, revision: str) -> None:
    repo = bench.new({"a": b"main"}, tags={"v1": "main"})
    name = bench.hub.commits(repo)[0].id if revision == "commit" else revision
    bench.write({"b": b"new"})
    report = bench.upload(repo, options={"revision": name})
    assert report.reason is Reason.REF_NOT_FOUND
    assert name in report.message


def test_upload_leaves_out_links_special_files_and_tool_folders(bench: Bench, tmp_path: Path) -> None:
    repo = bench.new({})
    (tmp_path / "secret").write_bytes(b"outside")
    bench.write({"a": b"1", ".datacube/part": b"x", ".cache/huggingface/x": b"x", "sub/.git/config": b"x"})
    os.symlink(tmp_path / "secret", bench.volume / "link")
    os.mkfifo(bench.volume / "pipe")
    report = bench.upload(repo)
    assert set(bench.hub.files(repo)) == {"a"}
    assert (report.listed, report.files, report.skipped) == (4, 1, 3)
    assert any("link" in n for n in report.notices)
    assert any(".git" in n for n in report.notices)


def test_upload_says_which_files_gitignore_keeps_out(bench: Bench) -> None:
    repo = bench.new({".gitignore": b"secret.txt\n"})
    bench.write({"a": b"1", "secret.txt": b"2"})
    report = bench.upload(repo)
    assert set(bench.hub.files(repo)) == {".gitignore", "a"}
    assert (report.listed, report.files, report.skipped) == (2, 1, 1)
    assert any("secret.txt" in n for n in report.notices)


def test_upload_refuses_a_name_that_is_no_text(bench: Bench) -> None:
    (bench.volume / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"1")
    report = bench.upload(bench.new({}))
    assert report.reason is Reason.PATH_COLLISION
    assert "caf\\udce9.txt" in report.message


def test_upload_names_a_missing_source(bench: Bench) -> None:
    report = bench.upload(bench.new({}), sub_path="none")
    assert report.reason is Reason.NOT_FOUND
    assert "'none'" in report.message


def test_upload_refuses_an_empty_folder(bench: Bench) -> None:
    (bench.volume / "out").mkdir()
    report = bench.upload(bench.new({}), sub_path="out")
    assert report.reason is Reason.SOURCE_EMPTY


def test_upload_refuses_a_file_where_the_repository_has_a_folder(bench: Bench) -> None:
    bench.write({"a": b"1"})
    report = bench.upload(bench.new({"a/b": b"2"}))
    assert report.reason is Reason.PATH_COLLISION


def test_upload_passes_on_what_the_hub_says_about_a_bad_model_card(bench: Bench) -> None:
    bench.write({"README.md": b"---\nlicense: [\n---\n"})
    report = bench.upload(bench.new({}))
    assert report.reason is Reason.INVALID_SPEC
    assert "README.md" in report.message


def test_upload_sends_large_files_in_parts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.hub, "part_size", 100_000)
    repo = bench.new({})
    bench.write({"x.bin": os.urandom(350_000)})
    before = bench.hub.count("PUT", "/_lfs/part/")
    bench.upload(repo)
    assert bench.hub.files(repo) == tree(bench.volume)
    assert bench.hub.count("PUT", "/_lfs/part/") - before == 4


def test_upload_of_very_many_files_becomes_several_commits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_upload, "FILES_A_COMMIT", 4)
    monkeypatch.setattr(hf_upload, "NAMES_ASKED_FOR", 3)
    repo = bench.new({})
    bench.write({f"{n}.txt": b"%d" % n for n in range(10)})
    report = bench.upload(repo)
    assert report.files == 10
    assert bench.hub.files(repo) == tree(bench.volume)
    messages = [c.message for c in bench.hub.commits(repo)]
    assert messages[0] == "Upload 10 files from the volume's root with DataCube (part 3 of 3)"
    assert len(messages) == 5


@pytest.mark.parametrize("match", ["PUT /_lfs/object", "POST .*/commit/"])
def test_upload_says_that_its_source_changed_meanwhile(bench: Bench, match: str) -> None:
    repo = bench.new({})
    bench.write({"a.txt": b"before", "x.bin": os.urandom(100_000)})
    name = "x.bin" if match.startswith("PUT") else "a.txt"
    with start_fault_proxy(bench.hub.url) as proxy:
        proxy.inject(Fault(match, "pass", before=lambda: (bench.volume / name).write_bytes(b"after")))  # type: ignore[arg-type,return-value]
        bench.endpoint = proxy.url
        report = bench.upload(repo)
    if match.startswith("PUT"):
        assert report.reason is Reason.SOURCE_CHANGED
        assert f"'{name}'" in report.message
        assert bench.hub.files(repo) == {}
    else:  # what was sent is what was hashed: the commit is right
        assert report.reason is Reason.TRANSFER_COMPLETE


def test_upload_notices_a_commit_that_does_not_hold_what_was_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.servers.hub_store import Store

    repo = bench.new({})
    bench.write({"a.txt": b"hello"})
    right = Store.add_bytes
    monkeypatch.setattr(Store, "add_bytes", lambda self, _data: right(self, b"olleh"))
    report = bench.upload(repo)
    assert report.reason is Reason.INTEGRITY_MISMATCH
    assert "'a.txt'" in report.message


def test_dry_run_says_what_an_upload_then_does(bench: Bench) -> None:
    repo = bench.new({"README.md": b"old", "empty": b""})
    bench.write(FILES)
    plan = bench.upload(repo, dry_run=True).plan
    assert plan is not None
    assert len(bench.hub.commits(repo)) == 2
    report = bench.upload(repo)
    assert (plan.add, plan.update, plan.delete) == (3, 1, 0)
    assert (plan.add + plan.update, plan.bytes) == (report.files, report.bytes)


def test_dry_run_creates_no_repository(bench: Bench) -> None:
    bench.write(FILES)
    plan = bench.upload("alice/only-planned", options={"private": "true"}, dry_run=True).plan
    assert plan is not None
    assert plan.add == 5
    assert bench.hub.repository("alice/only-planned") is None


def test_upload_counts_bytes_while_they_leave(bench: Bench) -> None:
    repo = bench.new({})
    bench.write({"x.bin": os.urandom(2_000_000), "a.txt": b"hello"})
    options = {"repo": repo, "token": bench.hub.token}
    child = bench.child("huggingface-upload", options, arguments=["--bandwidth-limit", "2000000"])
    code, _report, messages = child.finish()
    assert code == 0
    done = [m["progress"]["bytesDone"] for m in messages if "progress" in m]
    assert done == sorted(done)
    assert done[-1] == 2_000_005
    assert any(0 < count < 2_000_000 for count in done)


def test_upload_keeps_to_its_bandwidth_limit(bench: Bench) -> None:
    import time

    repo = bench.new({})
    bench.write({"x.bin": os.urandom(300_000)})
    start = time.monotonic()
    bench.upload(repo, bandwidth_limit=300_000)
    assert 0.5 < time.monotonic() - start < 3
