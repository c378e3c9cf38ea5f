"""Local files as the library's commit operations: hashed once by us, read with counting, and watched for changes."""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.hf_crew import stopped
from datacube_flows.transfers.hf_files import blob_digest, read_chunks
from datacube_flows.transfers.hf_library import CommitOperationAdd, UploadInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datacube_flows.transfers.base import Attempt
    from datacube_flows.transfers.hf_files import RemoteFile
    from datacube_flows.transfers.paths import LocalFile

REGULAR_LIMIT = 16 * 1024 * 1024
"""No hub keeps a larger file outside of LFS (huggingface.co: 10 MB), so only smaller ones get a git blob id too."""
SAMPLE = 512


@dataclass(frozen=True, slots=True)
class HashedFile:
    """A local file, the name it gets in the repository, and its hashes."""

    local: LocalFile
    name: str
    sha256: str
    blob_id: str
    sample: bytes

    def is_same(self, remote: RemoteFile | None) -> bool:
        """Whether the repository holds this very content under this name."""
        if remote is None or remote.size != self.local.size:
            return False
        return remote.checksum == (self.sha256 if remote.sha256 else self.blob_id)

    def check_unchanged(self) -> None:
        """Raises TransferError (SourceChanged) when the file is no longer what was hashed."""
        if self.local.is_changed():
            raise changed(self.local.name)


def changed(name: str) -> TransferError:
    """Returns the failure of a source that moves under the transfer."""
    return TransferError(
        Reason.SOURCE_CHANGED, f"'{name}' changed while it was uploaded: upload when nothing writes to it any more"
    )


def hash_file(local: LocalFile, name: str, check: Callable[[], None]) -> HashedFile:
    """Reads a file once for both of its hashes; `check` is called between chunks."""
    sha256, sample = hashlib.sha256(), b""
    blob = blob_digest(local.size) if local.size <= REGULAR_LIMIT else None
    try:
        for chunk in read_chunks(local.path):
            check()
            sample = sample or chunk[:SAMPLE]
            sha256.update(chunk)
            if blob is not None:
                blob.update(chunk)
    except FileNotFoundError:
        raise changed(local.name) from None
    if local.is_changed():
        raise changed(local.name)
    return HashedFile(local, name, sha256.hexdigest(), blob.hexdigest() if blob else "", sample)


class Addition(CommitOperationAdd):
    """A file to commit; the library takes its hash from us and reads its LFS content through a counting reader."""

    def __init__(self, file: HashedFile, attempt: Attempt, take: Callable[[int], None]) -> None:
        self.file, self._attempt, self._take = file, attempt, take
        self._counted = 0
        super().__init__(file.name, str(file.local.path))

    def __post_init__(self) -> None:
        """Takes the place of the library's, which would hash the file again."""
        self.upload_info = UploadInfo(
            size=self.file.local.size, sample=self.file.sample, sha256=bytes.fromhex(self.file.sha256)
        )

    @contextmanager
    def as_file(self, with_tqdm: bool = False) -> Iterator[BinaryIO]:
        """Opens the file; the library asks for its progress bar exactly when it sends the content itself."""
        with _open(self.file.local) as stream:
            yield cast("BinaryIO", _CountingReader(stream, self) if with_tqdm else stream)

    def passed(self, size: int, position: int) -> None:
        """Takes note of bytes that leave; each counts once, however often a part of the file is sent again."""
        if self._attempt.stop.is_set():
            raise stopped()
        self._take(size)
        self._attempt.progress.advance(max(0, position - self._counted))
        self._attempt.progress.alive()
        self._counted = max(self._counted, position)

    def finish(self) -> None:
        """Counts the rest: what travelled inside the commit's request, or was on the hub already."""
        self._attempt.progress.advance(self.file.local.size - self._counted)
        self._attempt.progress.finish_file()

    @property
    def is_ignored(self) -> bool:
        """Whether the repository's `.gitignore` keeps the hub from taking the file."""
        return bool(self._should_ignore)


def _open(local: LocalFile) -> IO[bytes]:
    try:
        return open(os.open(local.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise changed(local.name) from error


class _CountingReader(io.BufferedIOBase):
    """A file as the HTTP client reads it, telling its addition about every byte."""

    def __init__(self, stream: IO[bytes], addition: Addition) -> None:
        self._stream, self._addition = stream, addition

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._stream.read(-1 if size is None else size)
        self._addition.passed(len(data), self._stream.tell())
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def fileno(self) -> int:
        return self._stream.fileno()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
