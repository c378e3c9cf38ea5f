"""What git's own words on stderr mean: one table from patterns to reasons. Knows no step of a transfer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError

if TYPE_CHECKING:
    from datacube_flows.transfers.git_remote import Remote
    from datacube_flows.transfers.process import Finished

_TABLE: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for reason, pattern in (
        (Reason.DISK_FULL, r"no space left on device|disk quota exceeded|file too large"),
        (Reason.NON_FAST_FORWARD, r"non-fast-forward|fetch first|stale info"),
        (Reason.ACCESS_DENIED, r"hook declined|protected branch|remote: .*(permission|not allowed|denied)"),
        (Reason.ACCESS_DENIED, r"authentication failed|could not read (username|password)|\b(error:|http) 40[13]\b"),
        (
            Reason.ACCESS_DENIED,
            r"authorization error|authentication required|access denied|credentials? for .* not found",
        ),
        (
            Reason.NOT_FOUND,
            r"repository '.*' not found|\b(error:|http) 404\b|repository (or object )?not found|object does not exist",
        ),
        (Reason.REF_NOT_FOUND, r"remote branch .* not found|couldn't find remote ref|not our ref"),
        (Reason.SERVER_ERROR, r"\b(error:|http) (429|5\d\d)\b|server error|rate limit"),
        (Reason.TLS_ERROR, r"certificate|\bssl\b|gnutls_handshake|x509"),
        (
            Reason.ENDPOINT_UNREACHABLE,
            r"could not resolve|couldn't connect|failed to connect|no route to host|dial tcp",
        ),
        (Reason.ENDPOINT_UNREACHABLE, r"connection (refused|timed out|reset)|network is unreachable|empty reply"),
        (Reason.ENDPOINT_UNREACHABLE, r"operation too slow|i/o timeout|recv failure"),
        (Reason.VOLUME_NOT_WRITABLE, r"read-only file system|permission denied|operation not permitted"),
        (Reason.VOLUME_LOST, r"input/output error|stale file handle"),
        (Reason.INTEGRITY_MISMATCH, r"fsck error|error in object|bad object|sha1 (mismatch|collision)|expected oid"),
        (Reason.INTEGRITY_MISMATCH, r"packfile.*checksum|pack has bad|bad pack|pack signature mismatch|inflate"),
    )
)
_REMEDIES: Final = {
    Reason.ACCESS_DENIED: "check option token and what it may do on this repository",
    Reason.NOT_FOUND: "check option url; a private repository looks missing to a token without access",
    Reason.REF_NOT_FOUND: "check option ref",
    Reason.SERVER_ERROR: "the server is in trouble or limits the rate; try again later",
    Reason.TLS_ERROR: "check the host's certificate, or give the authorities that signed it (caBundle)",
    Reason.ENDPOINT_UNREACHABLE: "check the address, the network and the proxy",
    Reason.DISK_FULL: "free space on the volume or use a larger claim",
    Reason.VOLUME_NOT_WRITABLE: "make the path accessible to the transfer's user (executor.securityContext)",
    Reason.VOLUME_LOST: "look at the volume: it no longer answers",
    Reason.NON_FAST_FORWARD: "fetch and merge the remote's commits first; nothing is forced",
    Reason.INTEGRITY_MISMATCH: "what arrived is damaged; if it stays so, check the repository with `git fsck`",
}
_REMEDIES_WITHOUT_TOKEN: Final = {
    Reason.ACCESS_DENIED: "the server wants credentials: give option token",
    Reason.NOT_FOUND: "check option url; a private repository looks missing without option token",
}
_NOISE = re.compile(
    r"^(remote: )?(Enumerating|Counting|Compressing|Receiving|Resolving|Updating|Writing|Delta|Total|Cloning|Unpacking)"
    r"|^Filtering|^hint:|^From |^To |^(Down|Up)loading LFS|^\s*\* \[|^POST git|^remote:\s*$"
    r"|askpass|^warning: (redirecting|---)"
)
_MAX_WORDS = 400


def git_failure(finished: Finished, remote: Remote, doing: str) -> TransferError:
    """Returns the error for a git command that failed: the reason that its words stand for, the words, a remedy."""
    lines = useful_lines(finished)
    reason = reason_of("\n".join(lines) or finished.text)
    words = "; ".join(sorted(lines, key=lambda line: reason_of(line) is not reason))[:_MAX_WORDS]
    remedies = _REMEDIES if remote.password else _REMEDIES | _REMEDIES_WITHOUT_TOKEN
    remedy = remedies.get(reason, "")
    text = f"{doing} {remote.url} failed: {words or f'git ended with code {finished.code}'}"
    return TransferError(reason, f"{text}: {remedy}" if remedy else text)


def reason_of(words: str) -> Reason:
    """Returns the reason that git's words stand for; TransferError, which is retried, when none is known."""
    return next((reason for pattern, reason in _TABLE if pattern.search(words)), Reason.TRANSFER_ERROR)


def useful_lines(finished: Finished) -> list[str]:
    """Returns the lines that say what went wrong, each once, without progress and hints."""
    return list(dict.fromkeys(line.strip() for line in finished.tail if not _NOISE.search(line)))
