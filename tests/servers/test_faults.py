"""The fault proxy does what it says, so that the tests which rely on it mean something."""

from __future__ import annotations

import http.client
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.servers.faults import Fault, FaultProxy, start_fault_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.t1
BODY = os.urandom(300_000)


class _Origin(BaseHTTPRequestHandler):
    """Serves BODY with Range, echoes what it is sent."""

    protocol_version = "HTTP/1.1"
    last_put = b""

    def log_message(self, *_args: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        if self.path.startswith("/chunked"):
            return self._chunked()
        first, last = 0, len(BODY) - 1
        status = 200
        if wanted := self.headers.get("Range"):
            first, last = (int(n) for n in wanted.removeprefix("bytes=").split("-"))
            status = 206
        part = BODY[first : last + 1]
        self.send_response(status)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("X-Host", self.headers["Host"])
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(part)
        return None

    do_HEAD = do_GET

    def _chunked(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(BODY), 70_000):
            piece = BODY[start : start + 70_000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def do_PUT(self) -> None:
        type(self).last_put = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Origin)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def proxy(origin: str) -> Iterator[FaultProxy]:
    with start_fault_proxy(origin) as running:
        yield running


def ask(
    proxy: FaultProxy, path: str = "/x", method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(proxy.url).port or 0, timeout=5)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def test_proxy_passes_everything_through_when_no_fault_is_set(proxy: FaultProxy) -> None:
    status, body, headers = ask(proxy, "/x?y=1")
    assert (status, body) == (200, BODY)
    assert headers["X-Host"] == urlsplit(proxy.url).netloc
    assert ask(proxy, Range="bytes=5-9")[:2] == (206, BODY[5:10])
    assert ask(proxy, method="HEAD")[:2] == (200, b"")
    assert ask(proxy, "/chunked")[:2] == (200, BODY)
    assert ask(proxy, method="PUT", body=BODY)[0] == 201
    assert _Origin.last_put == BODY
    assert [(s.method, s.path, s.query, s.status) for s in proxy.requests[:2]] == [
        ("GET", "/x", "y=1", 200),
        ("GET", "/x", "", 206),
    ]
    assert (proxy.requests[0].sent, proxy.requests[-1].received) == (len(BODY), len(BODY))


def test_proxy_keeps_a_connection_when_requests_follow_each_other(proxy: FaultProxy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
    for _ in range(3):
        connection.request("GET", "/x")
        assert connection.getresponse().read() == BODY
    connection.close()
    assert proxy.count("GET /x") == 3


def test_status_hits_as_often_as_it_says_when_it_matches(proxy: FaultProxy) -> None:
    proxy.inject(Fault("GET /x", "status", times=2, skip=1, status=429, headers={"Retry-After": "7"}, body=b"slow"))
    answers = [ask(proxy) for _ in range(4)]
    assert [a[0] for a in answers] == [200, 429, 429, 200]
    assert (answers[1][1], answers[1][2]["Retry-After"]) == (b"slow", "7")
    assert ask(proxy, "/other")[0] == 200


def test_reset_breaks_the_connection_when_some_bytes_were_sent(proxy: FaultProxy) -> None:
    proxy.inject(Fault("GET", "reset", after=1000))
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        ask(proxy)
    assert ask(proxy)[1] == BODY


@pytest.mark.parametrize("path", ["/x", "/chunked"])
def test_truncate_ends_early_when_the_full_length_was_announced(proxy: FaultProxy, path: str) -> None:
    proxy.inject(Fault("GET", "truncate", after=1000))
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(proxy, path)
    assert caught.value.partial == BODY[:1000]


@pytest.mark.parametrize("path", ["/x", "/chunked"])
def test_short_is_a_valid_shorter_answer(proxy: FaultProxy, path: str) -> None:
    proxy.inject(Fault("GET", "short", after=1000))
    status, body, headers = ask(proxy, path)
    assert (status, body, headers["Content-Length"]) == (200, BODY[:1000], "1000")


@pytest.mark.parametrize("path", ["/x", "/chunked"])
def test_wrong_flips_bytes_and_keeps_the_length(proxy: FaultProxy, path: str) -> None:
    proxy.inject(Fault("GET", "wrong", after=100_000))
    body = ask(proxy, path)[1]
    assert len(body) == len(BODY)
    assert body[:100_000] == BODY[:100_000]
    assert all(a == b ^ 0xFF for a, b in zip(body[100_000:], BODY[100_000:], strict=True))


def test_stall_sends_nothing_more_until_the_client_leaves(proxy: FaultProxy) -> None:
    proxy.inject(Fault("GET", "stall", after=1000))
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=0.5)
    connection.request("GET", "/x")
    answer = connection.getresponse()
    assert answer.read(1000) == BODY[:1000]
    with pytest.raises(TimeoutError):
        answer.read()
    answer.close()
    connection.close()
    assert ask(proxy)[1] == BODY


def test_stall_does_not_hold_the_proxy_when_it_is_closed(origin: str) -> None:
    with start_fault_proxy(origin) as proxy:
        proxy.inject(Fault("GET", "stall", after=10))
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
        connection.request("GET", "/x")
        answer = connection.getresponse()
        began = time.monotonic()
    assert time.monotonic() - began < 2
    answer.close()
    connection.close()


def test_slow_sends_at_the_rate_that_was_asked(proxy: FaultProxy) -> None:
    proxy.inject(Fault("GET", "slow", rate=600_000))
    began = time.monotonic()
    assert ask(proxy)[1] == BODY
    assert 0.4 < time.monotonic() - began < 2


def test_redirect_and_html_answer_in_the_servers_stead(proxy: FaultProxy) -> None:
    proxy.inject(Fault("/a", "redirect", location="http://127.0.0.1:1/login"), Fault("/b", "html"))
    status, _body, headers = ask(proxy, "/a")
    assert (status, headers["Location"]) == (302, "http://127.0.0.1:1/login")
    status, body, headers = ask(proxy, "/b")
    assert status == 200
    assert body.startswith(b"<!DOCTYPE html>")
    assert headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("kind", ["reset", "truncate"])
def test_upload_is_cut_when_the_fault_is_on_the_request(proxy: FaultProxy, kind: str) -> None:
    _Origin.last_put = b""
    proxy.inject(Fault("PUT", kind, after=1000, on="request"))  # type: ignore[arg-type]
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(proxy, method="PUT", body=BODY)
    assert _Origin.last_put != BODY
    assert ask(proxy, method="PUT", body=BODY)[0] == 201


def test_upload_is_altered_when_wrong_is_on_the_request(proxy: FaultProxy) -> None:
    proxy.inject(Fault("PUT", "wrong", on="request"))
    assert ask(proxy, method="PUT", body=BODY)[0] == 201
    assert _Origin.last_put == bytes(b ^ 0xFF for b in BODY)


def test_before_runs_when_the_request_has_arrived_and_is_not_forwarded_yet(proxy: FaultProxy) -> None:
    seen: list[int] = []
    proxy.inject(Fault("GET", "pass", before=lambda: seen.append(proxy.requests[-1].status)))
    assert ask(proxy)[0] == 200
    assert seen == [0]


def test_forward_proxy_reaches_the_named_host_in_both_forms(origin: str) -> None:
    with start_fault_proxy(None) as proxy:
        assert ask(proxy, f"{origin}/x")[1] == BODY
        target = urlsplit(origin)
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
        connection.set_tunnel("127.0.0.1", target.port)
        connection.request("GET", "/x")
        assert connection.getresponse().read() == BODY
        connection.close()
        assert [s.method for s in proxy.requests] == ["GET", "CONNECT"]
