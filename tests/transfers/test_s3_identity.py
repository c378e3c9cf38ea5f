"""Without keys a pod's own identity is used (IRSA), and the node's never is."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

from datacube_flows.api.reasons import Reason
from tests.canary import CANARY
from tests.servers.objectstore import ADMIN
from tests.support import start_child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.transfers.s3_case import S3Case

pytestmark = pytest.mark.t1
# The store of the tests knows no sessions, so the keys that it gets are lasting ones.
ANSWER = f"""<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{ADMIN.access_key}</AccessKeyId>
<SecretAccessKey>{ADMIN.secret_key}</SecretAccessKey><SessionToken></SessionToken>
<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""


class _Sts(BaseHTTPRequestHandler):
    asked: list[dict[str, list[str]]] = []  # noqa: RUF012 - the class is the server's memory

    def log_message(self, *_args: object) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        self.asked.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER.encode())


@pytest.fixture
def sts() -> Iterator[str]:
    _Sts.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sts)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("extra_args", [(), ("--checkers=2",)], ids=["built-in", "rclone"])
def test_identity_of_the_pod_is_used_when_no_keys_are_given(
    s3_case: S3Case, sts: str, tmp_path: Path, extra_args: tuple[str, ...]
) -> None:
    s3_case.put(**{"p/a": b"x", "p/b": b"y"})
    token = tmp_path / "token"
    token.write_text(f"web-{CANARY}")
    identity = {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/x", "AWS_WEB_IDENTITY_TOKEN_FILE": str(token)}
    options = {"s3-uri": f"s3://{s3_case.bucket}/p", "s3-endpoint": s3_case.store.url}
    child = start_child(
        "s3-download",
        s3_case.folder,
        options,
        report=tmp_path / "report",
        env=identity | {"AWS_ENDPOINT_URL_STS": sts},
        extra_args=extra_args,
    )
    _code, report, messages = child.finish()
    assert report is not None
    assert (report.reason, report.files) == (Reason.TRANSFER_COMPLETE, 2), report
    assert _Sts.asked[0]["WebIdentityToken"] == [f"web-{CANARY}"]
    assert CANARY not in str(messages)
