"""What tools get as their environment, and which reason an error of the operating system becomes."""

from __future__ import annotations

import errno
import socket
import ssl
from pathlib import Path

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.environment import clean_environment, proxy_variables
from datacube_flows.transfers.failures import os_errors

pytestmark = pytest.mark.t0


def test_environment_is_made_from_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOMETHING", "inherited")
    assert clean_environment({"A": "1"}, home=tmp_path, path="/bin") == {
        "A": "1", "PATH": "/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path),
        "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("proxy:3128", "http://proxy:3128"),
        ("http://proxy:3128", "http://proxy:3128"),
        ("https://user:pass@proxy", "https://user:pass@proxy"),
        ("socks5h://proxy:1080", "socks5h://proxy:1080"),
        ("[::1]:3128", "http://[::1]:3128"),
    ],
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_proxy_reaches_tools_in_both_cases_and_with_a_scheme(name: str, given: str, expected: str) -> None:
    assert proxy_variables({name: given}) == {"HTTPS_PROXY": expected, "https_proxy": expected}


def test_list_of_hosts_without_proxy_gets_no_scheme() -> None:
    assert proxy_variables({"NO_PROXY": "a,b:1"}) == {"NO_PROXY": "a,b:1", "no_proxy": "a,b:1"}


def test_empty_proxy_is_none() -> None:
    assert proxy_variables({"HTTP_PROXY": "", "OTHER": "x"}) == {}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "full", "f"), Reason.DISK_FULL),
        (OSError(errno.EDQUOT, "quota"), Reason.DISK_FULL),
        (PermissionError(errno.EACCES, "no", "f"), Reason.VOLUME_NOT_WRITABLE),
        (OSError(errno.EROFS, "read-only", "f"), Reason.VOLUME_NOT_WRITABLE),
        (OSError(errno.EIO, "broken", "f"), Reason.VOLUME_LOST),
        (OSError(errno.ESTALE, "stale", "f"), Reason.VOLUME_LOST),
        (IsADirectoryError(errno.EISDIR, "folder", "f"), Reason.PATH_COLLISION),
        (OSError(errno.ENAMETOOLONG, "long", "f"), Reason.PATH_COLLISION),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), Reason.ENDPOINT_UNREACHABLE),
        (ConnectionResetError("peer"), Reason.ENDPOINT_UNREACHABLE),
        (BrokenPipeError(errno.EPIPE, "pipe"), Reason.ENDPOINT_UNREACHABLE),
        (TimeoutError(), Reason.ENDPOINT_UNREACHABLE),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Reason.ENDPOINT_UNREACHABLE),
        (ssl.SSLError(1, "[SSL] wrong version"), Reason.TLS_ERROR),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), Reason.TLS_ERROR),
    ],
    ids=lambda x: f"{type(x).__name__}-{x.errno}" if isinstance(x, OSError) else str(x),
)
def test_error_of_the_system_becomes_a_reason_with_a_remedy(error: OSError, reason: Reason, tmp_path: Path) -> None:
    with pytest.raises(TransferError) as caught, os_errors(tmp_path):
        raise error
    assert caught.value.reason is reason
    assert caught.value.__cause__ is error
    assert "None" not in caught.value.message
    assert ("bytes free" in caught.value.message) == (reason is Reason.DISK_FULL)


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "missing"), OSError(errno.EINVAL, "odd"), ValueError()]
)
def test_other_errors_pass_as_they_are(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught, os_errors(tmp_path):
        raise error
    assert caught.value is error
