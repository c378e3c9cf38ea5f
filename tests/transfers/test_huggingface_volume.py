"""Volumes and networks at their edge: full, read-only, behind a proxy, behind a private authority, told to stop."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.core.retry import EXIT_TERMINATED
from tests.servers.faults import Fault, start_fault_proxy
from tests.support import mounted, seal, tree
from tests.transfers.hf_bench import Bench, be_quick, make_bench, noise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.hub import Hub

pytestmark = pytest.mark.t1
FILES = {"README.md": b"---\nlicense: mit\n---\n", "model.bin": noise(3_000_000, 3)}


@pytest.fixture
def bench(hub: Hub, volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    be_quick(monkeypatch)
    return make_bench(hub, volumes, tmp_path)


def test_download_that_cannot_fit_moves_nothing(bench: Bench) -> None:
    repo = bench.new(FILES)
    before = bench.hub.count("GET", "/resolve/")
    with mounted(bench.volume, size="1m"):
        report = bench.download(repo)
        assert report.reason is Reason.DISK_FULL
        assert "3000021 bytes" in report.message
        assert list(bench.volume.iterdir()) == []
    assert bench.hub.count("GET", "/resolve/") == before


def test_download_onto_a_disk_that_fills_up_meanwhile_leaves_nothing_half_done(bench: Bench) -> None:
    repo = bench.new(FILES)
    with mounted(bench.volume, size="4m"), start_fault_proxy(bench.hub.url) as proxy:
        other = bench.volume / "other"
        proxy.inject(Fault("GET /_cdn/", "pass", before=lambda: other.write_bytes(bytes(2_500_000)) and None))
        bench.endpoint = proxy.url
        report = bench.download(repo)
        assert report.reason is Reason.DISK_FULL
        assert "larger claim" in report.message
        assert not (bench.volume / "model.bin").exists()
        assert not (bench.volume / ".datacube").exists()


def test_download_replaces_a_file_on_a_disk_that_holds_it_once_and_a_half(bench: Bench) -> None:
    repo = bench.new({"small.bin": noise(600_000, 4)})
    with mounted(bench.volume, size="2m"):
        (bench.volume / "small.bin").write_bytes(bytes(600_000))
        assert bench.download(repo).reason is Reason.TRANSFER_COMPLETE
        assert tree(bench.volume) == bench.hub.files(repo)


def test_download_to_a_read_only_volume_says_so(bench: Bench) -> None:
    with mounted(bench.volume):
        seal(bench.volume)
        report = bench.download(bench.new(FILES))
    assert report.reason is Reason.VOLUME_NOT_WRITABLE


def test_upload_from_a_read_only_volume_works(bench: Bench) -> None:
    repo = bench.new({})
    with mounted(bench.volume):
        bench.write(FILES)
        seal(bench.volume)
        assert bench.upload(repo).reason is Reason.TRANSFER_COMPLETE
        assert bench.hub.files(repo) == tree(bench.volume)


@pytest.mark.parametrize("extra_args", [(), ("--max-workers", "2")])
def test_download_goes_through_the_proxy_of_the_environment(bench: Bench, extra_args: tuple[str, ...]) -> None:
    repo = bench.new(FILES)
    with start_fault_proxy(None) as proxy:
        bench.env = {"HTTP_PROXY": f"127.0.0.1:{proxy.port}"}
        child = bench.child("huggingface-download", {"repo": repo}, extra_args=extra_args)
        assert child.finish()[0] == 0
        assert proxy.count("/resolve/") >= 2
    assert tree(bench.volume) == bench.hub.files(repo)


class Tls:
    """The hub behind TLS, with a certificate that only `authority` vouches for."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.authority = folder / "ca.pem"
        key = folder / "key.pem"
        argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        argv += ["-keyout", str(key), "-out", str(self.authority), "-days", "2", "-subj", "/CN=hub"]
        subprocess.run([*argv, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        from tests.servers.hub_http import HubServer

        self.server = HubServer(hub)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.authority, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        return self.server.url.replace("http://", "https://")


@pytest.fixture
def tls(hub: Hub, tmp_path: Path) -> Iterator[Tls]:
    made = Tls(hub, tmp_path)
    yield made
    made.server.stop()


def test_download_trusts_the_ca_bundle(bench: Bench, tls: Tls) -> None:
    repo = bench.new({"a.txt": b"hello"})
    bench.endpoint = tls.url
    report = bench.download(repo, ca_bundle=tls.authority, allowed_schemes=("https",))
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert tree(bench.volume) == bench.hub.files(repo)


def test_download_does_not_trust_an_unknown_certificate(bench: Bench, tls: Tls) -> None:
    bench.endpoint = tls.url
    report = bench.download(bench.new({"a.txt": b"hello"}))
    assert report.reason is Reason.TLS_ERROR
    assert "CA bundle" in report.message


def test_download_says_that_plain_http_is_no_tls(bench: Bench) -> None:
    bench.endpoint = bench.hub.url.replace("http://", "https://")
    report = bench.download(bench.new({"a.txt": b"hello"}))
    assert report.reason is Reason.TLS_ERROR


@pytest.mark.parametrize("extra_args", [(), ("--max-workers", "2")])
def test_download_ends_at_once_when_it_is_told_to(bench: Bench, extra_args: tuple[str, ...]) -> None:
    repo = bench.new(FILES)
    with start_fault_proxy(bench.hub.url) as proxy:
        proxy.inject(Fault("GET /_cdn/", "stall", times=None, after=10_000))
        bench.endpoint = proxy.url
        child = bench.child("huggingface-download", {"repo": repo}, extra_args=extra_args)
        _wait_for(lambda: proxy.count("GET /_cdn/") > 0)
        start = time.monotonic()
        os.kill(child.process.pid, signal.SIGTERM)
        code, _report, _messages = child.finish()
    assert code == EXIT_TERMINATED
    assert time.monotonic() - start < 8
    assert not (bench.volume / "model.bin").exists()
    assert not (bench.volume / ".datacube").exists()


def test_upload_ends_at_once_when_it_is_told_to(bench: Bench) -> None:
    repo = bench.new({})
    bench.write({f"{n}.bin": os.urandom(3_000_000) for n in range(3)})
    with start_fault_proxy(bench.hub.url) as proxy:
        proxy.inject(Fault("PUT ", "slow", times=None, rate=100_000, on="request"))
        bench.endpoint = proxy.url
        options = {"repo": repo, "token": bench.hub.token}
        child = bench.child("huggingface-upload", options, arguments=["--bandwidth-limit", "1000000"])
        _wait_for(lambda: proxy.count("PUT ") > 0)
        start = time.monotonic()
        os.kill(child.process.pid, signal.SIGTERM)
        code, _report, _messages = child.finish()
    assert code == EXIT_TERMINATED
    assert time.monotonic() - start < 8
    assert bench.hub.files(repo) == {}


def test_stall_timeout_ends_an_attempt_without_bytes(bench: Bench) -> None:
    repo = bench.new(FILES)
    with start_fault_proxy(bench.hub.url) as proxy:
        proxy.inject(Fault("GET /_cdn/", "stall", times=None, after=10_000))
        bench.endpoint = proxy.url
        child = bench.child("huggingface-download", {"repo": repo}, arguments=["--stall-timeout", "1"])
        _code, report, _messages = child.finish()
    assert report is not None
    assert report.reason is Reason.STALLED


def _wait_for(condition: object) -> None:
    assert callable(condition)
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.02)
