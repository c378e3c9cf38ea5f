"""Maps errors of the operating system to reasons, by one table in one place."""

from __future__ import annotations

import errno
import shutil
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_REASONS = {
    errno.ENOSPC: Reason.DISK_FULL,
    errno.EDQUOT: Reason.DISK_FULL,
    errno.EFBIG: Reason.DISK_FULL,
    errno.EACCES: Reason.VOLUME_NOT_WRITABLE,
    errno.EPERM: Reason.VOLUME_NOT_WRITABLE,
    errno.EROFS: Reason.VOLUME_NOT_WRITABLE,
    errno.EIO: Reason.VOLUME_LOST,
    errno.ESTALE: Reason.VOLUME_LOST,
    errno.ENODEV: Reason.VOLUME_LOST,
    errno.ENAMETOOLONG: Reason.PATH_COLLISION,
    errno.ENOTDIR: Reason.PATH_COLLISION,
    errno.EISDIR: Reason.PATH_COLLISION,
    errno.ECONNREFUSED: Reason.ENDPOINT_UNREACHABLE,
    errno.EHOSTUNREACH: Reason.ENDPOINT_UNREACHABLE,
    errno.ENETUNREACH: Reason.ENDPOINT_UNREACHABLE,
    errno.ETIMEDOUT: Reason.ENDPOINT_UNREACHABLE,
    errno.ECONNRESET: Reason.ENDPOINT_UNREACHABLE,
}
_REMEDIES = {
    Reason.DISK_FULL: "free space on the volume or use a larger claim",
    Reason.VOLUME_NOT_WRITABLE: "make the path accessible to the transfer's user "
    "(executor.securityContext: runAsUser, fsGroup)",
    Reason.VOLUME_LOST: "look at the volume: it no longer answers",
    Reason.PATH_COLLISION: "rename the file at the source or move the other one away",
    Reason.ENDPOINT_UNREACHABLE: "check the address and the network",
    Reason.TLS_ERROR: "check the address, and the authorities that are trusted (caBundle)",
}


@contextmanager
def os_errors(folder: Path) -> Iterator[None]:
    """Turns an OSError into the TransferError that fits; `folder` is the volume, whose free space a full disk names."""
    try:
        yield
    except OSError as error:
        reason = os_error_reason(error)
        if reason is None:
            raise
        raise TransferError(reason, os_error_message(error, reason, folder)) from error


def os_error_reason(error: OSError) -> Reason | None:
    """Returns the reason for an error, None for one that only a bug explains.

    Errors of TLS and of name resolution are OSErrors whose numbers mean other things than errno's.
    """
    if isinstance(error, ssl.SSLError):
        return Reason.TLS_ERROR
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return Reason.ENDPOINT_UNREACHABLE
    return _REASONS.get(error.errno or 0)


def os_error_message(error: OSError, reason: Reason, folder: Path) -> str:
    """Returns what happened, to what, and what to do."""
    where = f" at '{error.filename}'" if error.filename else ""
    free = f" ({free_bytes(folder)} bytes free)" if reason is Reason.DISK_FULL else ""
    return f"{error.strerror or type(error).__name__}{where}{free}: {_REMEDIES[reason]}"


def free_bytes(folder: Path) -> int:
    """Bytes that a file below `folder` may still take."""
    return shutil.disk_usage(folder).free
