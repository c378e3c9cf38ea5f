"""The local hub is a hub: the real client and the real `hf` tool work with it as they do with the official one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datacube_flows.transfers.hf_library import HfApi, build_hf_headers, errors, hf_hub_url, httpx2
from tests.support import tree
from tests.transfers.hf_bench import Bench, make_bench, noise

if TYPE_CHECKING:
    from tests.servers.hub import Hub

pytestmark = pytest.mark.t1
FILES = {
    "README.md": b"---\nlicense: mit\n---\n",
    "data/model.bin": noise(300_000),
    "data/deep/x.txt": b"x",
    "empty": b"",
}


@pytest.fixture
def bench(hub: Hub, volumes: Path, tmp_path: Path) -> Bench:
    return make_bench(hub, volumes, tmp_path)


def hf(bench: Bench, *argv: str) -> subprocess.CompletedProcess[str]:
    """Runs the tool itself."""
    env = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(bench.tmp_path),
        "HF_ENDPOINT": bench.hub.url,
        "HF_TOKEN": bench.hub.token,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }
    return subprocess.run(["hf", *argv], env=env, capture_output=True, text=True, check=False, timeout=60)


def test_hf_tool_downloads_a_repository(bench: Bench) -> None:
    repo = bench.new(FILES)
    done = hf(bench, "download", repo, "--local-dir", str(bench.volume))
    assert done.returncode == 0, done.stderr
    assert tree(bench.volume, without=(".cache",)) == bench.hub.files(repo)


def test_hf_tool_uploads_a_folder_in_parts_and_creates_the_repository(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.hub, "part_size", 100_000)
    bench.write(FILES)
    done = hf(bench, "upload", "alice/made-by-hf", str(bench.volume), "--repo-type", "dataset", "--private")
    assert done.returncode == 0, done.stderr
    assert bench.hub.files("alice/made-by-hf", repo_type="dataset") == tree(bench.volume)
    assert bench.hub.entries("alice/made-by-hf", repo_type="dataset")["data/model.bin"].lfs
    made = bench.hub.repository("alice/made-by-hf", "dataset")
    assert made is not None
    assert made.private


@pytest.mark.parametrize("repo_type", ["model", "dataset", "space"])
def test_client_reads_trees_page_by_page(bench: Bench, monkeypatch: pytest.MonkeyPatch, repo_type: str) -> None:
    monkeypatch.setattr(bench.hub, "page_size", 2)
    repo = bench.new(FILES, repo_type=repo_type)
    api = HfApi(endpoint=bench.hub.url, token=False)
    listed = {e.path for e in api.list_repo_tree(repo, recursive=True, repo_type=repo_type)}
    assert listed == {*FILES, "data", "data/deep"}
    assert {e.path for e in api.list_repo_tree(repo, "data", repo_type=repo_type)} == {"data/model.bin", "data/deep"}


def test_client_sees_git_and_lfs_ids(bench: Bench) -> None:
    repo = bench.new(FILES, branches={"dev": {"a": b"hello"}}, tags={"v1": "main"})
    api = HfApi(endpoint=bench.hub.url, token=False)
    info = api.model_info(repo, files_metadata=True)
    found = {s.rfilename: s for s in info.siblings or ()}
    assert found["empty"].blob_id == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # git hash-object /dev/null
    assert found["data/model.bin"].lfs is not None
    assert found["data/model.bin"].lfs.sha256 == bench.hub.files(repo)["data/model.bin"]
    refs = api.list_repo_refs(repo)
    assert ({b.name for b in refs.branches}, {t.name for t in refs.tags}) == ({"main", "dev"}, {"v1"})
    assert refs.tags[0].target_commit == info.sha


def test_hub_answers_heads_ranges_and_redirects(bench: Bench) -> None:
    repo = bench.new(FILES)
    commit = bench.hub.commits(repo)[0].id
    with httpx2.Client() as client:
        url = hf_hub_url(repo, "data/model.bin", endpoint=bench.hub.url)
        head = client.head(url)
        assert head.status_code == 302
        assert head.headers["x-linked-size"] == "300000"
        assert head.headers["x-linked-etag"].strip('"') == bench.hub.files(repo)["data/model.bin"]
        assert head.headers["x-repo-commit"] == commit
        part = client.get(url, headers={"Range": "bytes=100-199"}, follow_redirects=True)
        assert (part.status_code, part.content) == (206, FILES["data/model.bin"][100:200])
        assert part.headers["content-range"] == "bytes 100-199/300000"
        assert client.get(head.headers["location"].partition("?")[0]).status_code == 403


@pytest.mark.parametrize(
    ("repo", "token", "revision", "error", "status"),
    [
        ("alice/none", "", "main", errors.RepositoryNotFoundError, 401),
        ("alice/none", "token", "main", errors.RepositoryNotFoundError, 404),
        ("alice/contract-private", "", "main", errors.RepositoryNotFoundError, 401),
        ("alice/contract-private", "other_token", "main", errors.RepositoryNotFoundError, 404),
        ("alice/contract-private", "token", "none", errors.RevisionNotFoundError, 404),
        ("alice/contract-private", "wrong", "main", errors.HfHubHTTPError, 401),
    ],
)
def test_hub_refuses_as_the_official_one_does(
    bench: Bench, repo: str, token: str, revision: str, error: type[Exception], status: int
) -> None:
    bench.new(FILES, repo="alice/contract-private", private=True)
    api = HfApi(endpoint=bench.hub.url, token=getattr(bench.hub, token, "hf_nobody") if token else False)
    with pytest.raises(error) as caught:
        api.model_info(repo, revision=revision)
    assert caught.value.response.status_code == status  # type: ignore[attr-defined]


def test_hub_keeps_gated_content_but_shows_its_listing(bench: Bench) -> None:
    repo = bench.new(FILES, gated=True)
    api = HfApi(endpoint=bench.hub.url, token=bench.hub.other_token)
    assert api.model_info(repo).gated == "auto"
    headers = build_hf_headers(token=bench.hub.other_token)
    with httpx2.Client() as client:
        answer = client.get(hf_hub_url(repo, "README.md", endpoint=bench.hub.url), headers=headers)
    assert (answer.status_code, answer.headers["x-error-code"]) == (403, "GatedRepo")
