"""The pure parts of the Git transfer: URLs and credentials, git's words, progress lines, LFS pointers."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.core.kinds import kind_named
from datacube_flows.errors import TransferError
from datacube_flows.transfers.base import Attempt, Settings
from datacube_flows.transfers.git_errors import git_failure, reason_of
from datacube_flows.transfers.git_progress import GitProgress, LfsProgress
from datacube_flows.transfers.git_refs import UNFIT_REF
from datacube_flows.transfers.git_remote import TOKEN_USER, Remote, parse_remote
from datacube_flows.transfers.git_tool import make_git
from datacube_flows.transfers.git_tree import Pointer, parse_pointer
from datacube_flows.transfers.process import Finished
from datacube_flows.transfers.progress import Progress
from datacube_flows.transfers.redact import url_secrets
from tests.canary import CANARY

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = f"{CANARY}/t+k"


def attempt_for(folder: Path, url: str, token: str = "", *, schemes: tuple[str, ...] = ("https",)) -> Attempt:
    options = {"url": url, "token": token}
    return Attempt(
        kind=kind_named("git-download"),
        options={name: value for name, value in options.items() if value},
        env={},
        folder=folder,
        sub_path="",
        extra_args=(),
        settings=Settings(allowed_schemes=schemes),
        scratch=folder,
    )


@pytest.mark.t0
@pytest.mark.parametrize(
    ("url", "token", "user", "password"),
    [
        ("https://h.example/o/r.git", "", "", ""),
        ("https://h.example/o/r.git", TOKEN, TOKEN_USER, TOKEN),
        (f"https://{TOKEN}@h.example/o/r.git", TOKEN, TOKEN_USER, TOKEN),
        (f"https://{CANARY}%2Ft%2Bk@h.example/o/r.git", "", TOKEN_USER, TOKEN),
        (f"https://ada:{TOKEN}@h.example/o/r.git", TOKEN, "ada", TOKEN),
        ("https://ada@h.example/o/r.git", TOKEN, "ada", TOKEN),
        (f"https://ada:{CANARY}-other@h.example/o/r.git", TOKEN, "ada", f"{CANARY}-other"),
    ],
)
def test_remote_keeps_credentials_apart_when_they_stand_in(
    tmp_path: Path, url: str, token: str, user: str, password: str
) -> None:
    remote = parse_remote(attempt_for(tmp_path, url, token))
    assert remote.url == "https://h.example/o/r.git"
    assert (remote.user, remote.password) == (user, password)
    assert CANARY not in repr(remote)
    assert remote.lfs_url == "https://h.example/o/r.git/info/lfs"


@pytest.mark.t0
@pytest.mark.parametrize(
    "url",
    [
        "-uhttps://h/r", "ext::sh -c x", "file:///etc/x", "/etc/x", "fd::3", "ssh://git@h/r", "git@h:o/r.git", "http://h/r",
        "https://h/", "https://h", "https:///r", "https://h/.git", "https://h/..", "https://h/-r", "https://h/.datacube",
        "https://h/lost+found", "https://h/a b", "https://h/r\n", "https://h/r\x00", "https://h/r?x=1", "https://h/r#x",
        'https://h/r"x', "https://h'$(x)/r", "https://h:port/r", "https://h\\r", "HTTPS+ext://h/r", "https://-h/r",
    ],
)  # fmt: skip
def test_remote_refuses_the_url_when_it_is(tmp_path: Path, url: str) -> None:
    with pytest.raises(TransferError) as caught:
        parse_remote(attempt_for(tmp_path, url))
    assert caught.value.reason is Reason.INVALID_SPEC
    assert "option url" in caught.value.message


@pytest.mark.t0
@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        (f"https://{CANARY}%2Fx@h/r", [f"{CANARY}%2Fx", f"{CANARY}/x"]),
        (f"https://ada:{CANARY}@h/r", [CANARY]),
        ("https://h/r@x", []),
        ("s3://bucket/a@b", []),
        ("plain", []),
    ],
)
def test_url_secrets_are_found_when_a_value_is(value: str, secrets: list[str]) -> None:
    assert url_secrets(value) == secrets


@pytest.mark.t0
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("fatal: Authentication failed for 'https://h/r/'", Reason.ACCESS_DENIED),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", Reason.ACCESS_DENIED),
        ("fatal: unable to access 'https://h/r/': The requested URL returned error: 403", Reason.ACCESS_DENIED),
        ("remote: Permission to o/r.git denied to ada.", Reason.ACCESS_DENIED),
        ("! [remote rejected] main -> main (protected branch hook declined)", Reason.ACCESS_DENIED),
        ("fatal: repository 'https://h/r/' not found", Reason.NOT_FOUND),
        ("fatal: couldn't find remote ref v9", Reason.REF_NOT_FOUND),
        ("fatal: Remote branch x not found in upstream origin", Reason.REF_NOT_FOUND),
        ("fatal: unable to access 'https://h/r/': Could not resolve host: h", Reason.ENDPOINT_UNREACHABLE),
        ("fatal: unable to access: Failed to connect to h port 443: Connection refused", Reason.ENDPOINT_UNREACHABLE),
        ("error: RPC failed; curl 28 Operation too slow. Less than 1 bytes/sec", Reason.ENDPOINT_UNREACHABLE),
        ("fatal: unable to access 'https://h/r/': The requested URL returned error: 502", Reason.SERVER_ERROR),
        ("fatal: unable to access 'https://h/r/': The requested URL returned error: 429", Reason.SERVER_ERROR),
        ("fatal: unable to access: server certificate verification failed. CAfile: none", Reason.TLS_ERROR),
        ("fatal: unable to access: SSL certificate problem: unable to get local issuer", Reason.TLS_ERROR),
        ("fatal: write error: No space left on device", Reason.DISK_FULL),
        ("error: unable to create file a: Read-only file system", Reason.VOLUME_NOT_WRITABLE),
        ("fatal: could not create work tree dir 'x': Permission denied", Reason.VOLUME_NOT_WRITABLE),
        ("! [rejected] main -> main (fetch first)", Reason.NON_FAST_FORWARD),
        ("! [rejected] main -> main (non-fast-forward)", Reason.NON_FAST_FORWARD),
        (
            "error: object abc: hasDotgit: contains '.git'\nfatal: fsck error in packed object",
            Reason.INTEGRITY_MISMATCH,
        ),
        ("expected OID abc, got def after 5 bytes written", Reason.INTEGRITY_MISMATCH),
        ("fatal: early EOF", Reason.TRANSFER_ERROR),
        ("something new", Reason.TRANSFER_ERROR),
    ],
)
def test_reason_fits_when_git_says(words: str, reason: Reason) -> None:
    assert reason_of(words) is reason


@pytest.mark.t0
def test_failure_shows_the_useful_lines_when_progress_is_between_them() -> None:
    tail = (
        "Cloning into 'x'...",
        "remote: Counting objects:  14% (1/7)",
        "hint: try",
        "fatal: repository 'u' not found",
    )
    error = git_failure(Finished(128, b"", tail), Remote("https://h/r", "r"), "cloning")
    assert error.message == (
        "cloning https://h/r failed: fatal: repository 'u' not found:"
        " check option url; a private repository looks missing without option token"
    )


@pytest.mark.t0
def test_progress_counts_bytes_and_ignores_lines_when_they_say_nothing_new() -> None:
    progress = Progress()
    reader = GitProgress(progress)
    for line in (
        "remote: Counting objects:  50% (1/2)",
        "Receiving objects:  10% (1/10), 1.00 MiB | 2 MiB/s",
        "Receiving objects:  20% (2/10), 1.50 MiB | 2 MiB/s",
        "Receiving objects:  20% (2/10), 1.50 MiB | 1 MiB/s",
        "fatal: no",
    ):
        reader.read(line)
    reader.finish()
    now = progress.snapshot()
    assert (now.bytes_done, now.bytes_total, now.moved) == (3 << 19, 3 << 19, (3 << 19) + 1)


@pytest.mark.t0
def test_lfs_progress_counts_each_file_once_when_lines_repeat(tmp_path: Path) -> None:
    log, progress = tmp_path / "log", Progress()
    reader = LfsProgress(log, progress)
    reader.read()
    log.write_text("download 1/2 10/100 a b.bin\ndownload 1/2 100/100 a b.bin\ndownload 2/2 5/5")
    reader.read()
    with log.open("a") as stream:
        stream.write("0 c.bin\n")
    reader.read()
    assert (progress.snapshot().bytes_done, progress.snapshot().bytes_total) == (105, 150)


@pytest.mark.t0
def test_pointer_is_parsed_when_it_is_one_and_nothing_else() -> None:
    text = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12\n"
    assert parse_pointer(text) == Pointer("a" * 64, 12)
    for other in (b"", text + b"more\n", text.replace(b"sha256", b"md5"), b"\0" * 100):
        assert parse_pointer(other) is None


@pytest.mark.t1
@pytest.mark.parametrize(
    "name",
    [
        "a", "a/b", "a..b", "a b", "-a", "a.lock", "a/.b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a@{1}", "a.",
        "/a", "a/", "a//b", "数据", "a.lock/b", "refs", "v1.0",
    ],
)  # fmt: skip
def test_ref_names_are_judged_as_git_judges_them(name: str) -> None:
    judged = subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=False).returncode == 0
    assert (UNFIT_REF.search(name) is None) == (judged and not name.startswith("-"))


@pytest.mark.t1
@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Username for 'https://h.example:8443': ", "ada"),
        ("Password for 'https://ada@h.example:8443': ", TOKEN),
        ('Username for "https://h.example:8443/o/r.git/info/lfs"', "ada"),
        ('Password for "https://ada@h.example:8443/o/r.git/info/lfs"', TOKEN),
        ("Password for 'https://evil.example': ", ""),
        ("Password for 'http://ada@h.example:8443': ", ""),
        ("Password for 'https://ada@h.example': ", ""),
        ("Password for 'https://evil.example//h.example:8443/': ", ""),
        ("Password for 'https://ada@h.example:8443.evil.example': ", ""),
        ("Enter passphrase for key", ""),
    ],
)
def test_askpass_answers_only_for_the_host_of_the_url(tmp_path: Path, prompt: str, answer: str) -> None:
    attempt = attempt_for(tmp_path, f"https://ada:{TOKEN}@h.example:8443/o/r.git", TOKEN)
    git = make_git(attempt, parse_remote(attempt))
    done = subprocess.run([git.env["GIT_ASKPASS"], prompt], capture_output=True, text=True, check=False, env=git.env)
    assert done.stdout.strip() == answer
    assert (done.returncode == 0) == bool(answer)


@pytest.mark.t1
def test_files_with_credentials_are_private_when_git_is_made(tmp_path: Path) -> None:
    attempt = attempt_for(tmp_path, "https://h.example/o/r.git", TOKEN)
    git = make_git(attempt, parse_remote(attempt))
    assert {p.stat().st_mode & 0o077 for p in (tmp_path / "git").iterdir()} == {0}
    assert CANARY not in "".join(git.env.values())
    assert CANARY not in (tmp_path / "git" / "config").read_text()
