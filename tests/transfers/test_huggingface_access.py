"""Who may have what from a hub: tokens, gated and private repositories, and that the token stays where it belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from tests.canary import CANARY, find_canary, has_canary
from tests.servers.faults import Fault, start_fault_proxy
from tests.support import tree
from tests.transfers.hf_bench import Bench, be_quick, make_bench, noise

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.hub import Hub

pytestmark = pytest.mark.t1
FILES = {"config.json": b"{}", "model.bin": noise(100_000)}
WRONG = f"hf_{CANARY}_wrong"


@pytest.fixture
def bench(hub: Hub, volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    be_quick(monkeypatch)
    return make_bench(hub, volumes, tmp_path)


def test_gated_repository_downloads_with_the_token_of_a_user_with_access(bench: Bench) -> None:
    repo = bench.new(FILES, gated=True)
    report = bench.download(repo, options={"token": bench.hub.token})
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert tree(bench.volume) == bench.hub.files(repo)


@pytest.mark.parametrize("token", ["", "other_token"])
def test_gated_repository_names_the_page_where_access_is_asked_for(bench: Bench, token: str) -> None:
    repo = bench.new(FILES, gated=True, repo_type="dataset")
    options = {"repo-type": "dataset"} | ({"token": bench.hub.other_token} if token else {})
    report = bench.download(repo, options=options)
    assert report.reason is Reason.GATED_REPO
    assert f"{bench.hub.url}/datasets/{repo}" in report.message
    assert ("no access" in report.message) == bool(token)
    assert tree(bench.volume) == {}


def test_private_repository_downloads_with_its_owners_token(bench: Bench) -> None:
    repo = bench.new(FILES, private=True)
    assert bench.download(repo, options={"token": bench.hub.token}).files == 2


@pytest.mark.parametrize("repo", ["alice/missing", "private"])
@pytest.mark.parametrize("token", ["", "other_token"])
def test_missing_and_private_repositories_say_what_may_be_wrong(bench: Bench, repo: str, token: str) -> None:
    name = bench.new(FILES, private=True) if repo == "private" else repo
    report = bench.download(name, options={"token": bench.hub.other_token} if token else {})
    assert report.reason is Reason.NOT_FOUND
    assert ("the token has no access" if token else "is private") in report.message
    assert name in report.message


def test_wrong_token_is_told_from_a_missing_repository(bench: Bench) -> None:
    report = bench.download(bench.new(FILES), options={"token": WRONG})
    assert report.reason is Reason.ACCESS_DENIED
    assert "does not accept the token" in report.message


def test_missing_revision_is_named(bench: Bench) -> None:
    report = bench.download(bench.new(FILES), options={"revision": "v9"})
    assert report.reason is Reason.REF_NOT_FOUND
    assert "'v9'" in report.message


def test_upload_without_a_token_says_that_it_needs_one(bench: Bench) -> None:
    bench.write(FILES)
    report = bench.upload(bench.new({}), options={"token": ""})
    assert report.reason is Reason.ACCESS_DENIED
    assert "option token" in report.message


@pytest.mark.parametrize(("token", "word"), [("wrong", "does not accept the token"), ("read_token", "write token")])
def test_upload_with_a_token_that_may_not_write_is_denied(bench: Bench, token: str, word: str) -> None:
    bench.write(FILES)
    repo = bench.new({"a": b""})
    report = bench.upload(repo, options={"token": getattr(bench.hub, token, WRONG)})
    assert report.reason is Reason.ACCESS_DENIED
    assert word in report.message
    assert set(bench.hub.files(repo)) == {"a"}


def test_upload_with_a_wrong_token_creates_nothing(bench: Bench) -> None:
    bench.write(FILES)
    report = bench.upload("alice/not-made", options={"token": WRONG, "private": "true"})
    assert report.reason is Reason.ACCESS_DENIED
    assert bench.hub.repository("alice/not-made") is None


def test_token_is_not_forwarded_when_content_is_on_another_host(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.hub, "cdn_elsewhere", True)
    repo = bench.new(FILES, gated=True)
    report = bench.download(repo, options={"token": bench.hub.token})
    assert report.reason is Reason.TRANSFER_COMPLETE
    seen = [r for r in bench.hub.requests if r.port == bench.hub.cdn.server_port]
    assert seen
    assert not [r for r in seen if "authorization" in r.headers]


def test_redirect_to_another_host_carries_no_credentials(bench: Bench) -> None:
    repo = bench.new({"a.txt": b"hello"})
    with start_fault_proxy(bench.hub.url) as proxy, start_fault_proxy(bench.hub.url) as other:
        commit = bench.hub.commits(repo)[0].id
        proxy.inject(Fault("GET .*/resolve/", "redirect", location=f"{other.url}/{repo}/resolve/{commit}/a.txt"))
        bench.endpoint = proxy.url
        report = bench.download(repo, options={"token": bench.hub.token})
        assert report.reason is Reason.TRANSFER_COMPLETE
        assert [("authorization" in r.headers) for r in other.requests] == [False]
        assert "authorization" in proxy.matching("resolve")[0].headers


def test_redirect_from_a_public_hub_to_an_internal_address_is_not_followed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datacube_flows.transfers import hf_client

    repo = bench.new({"a.txt": b"hello"})
    monkeypatch.setattr(hf_client, "_is_internal", lambda host: host == "169.254.169.254")
    with start_fault_proxy(bench.hub.url) as proxy:
        proxy.inject(Fault("GET .*/resolve/", "redirect", location="http://169.254.169.254/latest/meta-data"))
        bench.endpoint = proxy.url
        report = bench.download(repo)
    assert report.reason is Reason.ACCESS_DENIED
    assert "internal address" in report.message


@pytest.mark.parametrize(
    ("host", "internal"), [("127.0.0.1", True), ("169.254.169.254", True), ("10.1.2.3", True), ("8.8.8.8", False)]
)
def test_internal_addresses_are_known(host: str, internal: bool) -> None:
    from datacube_flows.transfers.hf_client import _is_internal

    assert _is_internal(host) is internal


@pytest.mark.parametrize("extra_args", [(), ("--max-workers", "2")])
@pytest.mark.parametrize("kind", ["huggingface-download", "huggingface-upload"])
def test_token_stays_out_of_output_report_and_volume(bench: Bench, kind: str, extra_args: tuple[str, ...]) -> None:
    repo = bench.new(FILES, private=True)
    bench.write({"new.txt": b"new"})
    given = extra_args if kind.endswith("download") else (("--exclude", "none") if extra_args else ())
    child = bench.child(kind, {"repo": repo, "token": bench.hub.token}, extra_args=given)
    code, report, messages = child.finish()
    assert code == 0, (report, messages)
    assert report is not None
    assert report.files == (2 if kind.endswith("download") else 1)
    assert not [m for m in messages if has_canary(str(m))]
    assert not has_canary(child.report_file.read_text())
    assert find_canary(bench.volume) == []
