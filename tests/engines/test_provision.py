"""The step that makes a claim, against a server that answers as Kubernetes does."""

from __future__ import annotations

import http.client
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from datacube_flows.core.retry import EXIT_OK, EXIT_PERMANENT, EXIT_RETRYABLE
from datacube_flows.engines import provision
from datacube_flows.engines.provision import ClaimRefused, ClaimsApi
from tests.canary import CANARY

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.t1

CLAIM = {"kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "ns"}, "spec": {"a": "é"}}
CLAIMS = "/api/v1/namespaces/ns/persistentvolumeclaims"
TOKEN = f"token-{CANARY}"

Answer = tuple[int, str]


class Server(ThreadingHTTPServer):
    """Answers each method with what it was told, and remembers what it was asked."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.asked: list[tuple[str, str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        assert self.headers["Authorization"] == f"Bearer {TOKEN}"
        self.server.asked.append((self.command, self.path, json.loads(body) if body else None))
        status, message = self.server.answers[self.command]
        content = json.dumps({"message": message}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def serving(answers: dict[str, Answer]) -> Iterator[tuple[Server, ClaimsApi]]:
    with Server(answers) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = server.server_address[:2]
        try:
            yield server, ClaimsApi(lambda: http.client.HTTPConnection(str(address[0]), address[1], timeout=5), TOKEN)
        finally:
            server.shutdown()
            thread.join()


MISSING = (404, 'persistentvolumeclaims "data" not found')


def test_claim_that_is_missing_is_made() -> None:
    with serving({"GET": MISSING, "POST": (201, "")}) as (server, api):
        assert api.ensure(CLAIM) == "made claim 'data'"
    assert server.asked == [("GET", f"{CLAIMS}/data", None), ("POST", CLAIMS, CLAIM)]


def test_claim_that_exists_is_left_as_it_is() -> None:
    with serving({"GET": (200, "")}) as (server, api):
        assert api.ensure(CLAIM) == "claim 'data' exists"
    assert [method for method, *_ in server.asked] == ["GET"]


def test_claim_that_somebody_else_made_meanwhile_is_enough() -> None:
    with serving({"GET": MISSING, "POST": (409, "already exists")}) as (_, api):
        assert "somebody else" in api.ensure(CLAIM)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((403, 'persistentvolumeclaims is forbidden: User "x" cannot create'), EXIT_PERMANENT),
        ((403, "data is forbidden: exceeded quota: storage, requested: 1, used: 1"), EXIT_RETRYABLE),
        ((422, "spec.accessModes: Required value"), EXIT_PERMANENT),
        ((401, "Unauthorized"), EXIT_RETRYABLE),
        ((500, "etcdserver: request timed out"), EXIT_RETRYABLE),
        ((429, ""), EXIT_RETRYABLE),
    ],
)
def test_refusal_says_why_and_whether_to_try_again(answer: Answer, code: int) -> None:
    with serving({"GET": MISSING, "POST": answer}) as (_, api), pytest.raises(ClaimRefused) as caught:
        api.ensure(CLAIM)
    assert caught.value.code == code
    assert str(caught.value) == f"claim 'data' was not made: {answer[1] or 'Too Many Requests'}"


def run_main(monkeypatch: pytest.MonkeyPatch, folder: Path, api: ClaimsApi) -> tuple[int, str]:
    report = folder / "report"
    monkeypatch.setattr(provision, "REPORT_FILE", str(report))
    monkeypatch.setattr(provision, "own_cluster", lambda: api)
    return provision.main([json.dumps(CLAIM)]), report.read_text()


def test_program_ends_with_what_was_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serving({"GET": (200, "")}) as (_, api):
        assert run_main(monkeypatch, tmp_path, api) == (EXIT_OK, "claim 'data' exists")


def test_program_is_tried_again_when_the_api_server_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with serving({}) as (server, api):
        server.server_close()
        code, said = run_main(monkeypatch, tmp_path, api)
    assert code == EXIT_RETRYABLE
    assert "cannot be asked" in said
    assert CANARY not in said
