"""Fetches files of a commit into their places: in parallel, large ones in parts, each hashed while it arrives.

The library's own downloads accept wrong bytes of the right length and leave a cache folder beside the data; here a file
reaches its name only after its hash was right. Resuming within an attempt is by Range; a commit never changes.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.hf_client import PAUSES
from datacube_flows.transfers.hf_crew import stopped
from datacube_flows.transfers.hf_errors import hub_errors, unreachable
from datacube_flows.transfers.hf_library import (
    build_hf_headers,
    get_session,
    hf_hub_url,
    hf_raise_for_status,
    httpx2,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datacube_flows.transfers.base import Attempt
    from datacube_flows.transfers.hf_crew import Crew
    from datacube_flows.transfers.hf_errors import Repository
    from datacube_flows.transfers.hf_files import RemoteFile
    from datacube_flows.transfers.paths import WorkFolder

PART = 32 * 1024 * 1024
"""Size of the ranges that large files are fetched in, several at a time."""
HASH_CHUNK = 1 << 20
MAX_RESTARTS = 2
"""How often a file whose hash is wrong is fetched again from its first byte."""


class Broken(Exception):
    """A body ended early or was not the file; it may be asked for again."""


@dataclass(frozen=True)
class Fetcher:
    """What all files of one download share."""

    attempt: Attempt
    repository: Repository
    commit: str
    work: WorkFolder
    crew: Crew
    take: Callable[[int], None]
    files: list[FileFetch] = field(default_factory=list)

    def close(self) -> None:
        """Closes what a failure left open, after the crew has ended."""
        for file in self.files:
            file.close()

    def check(self) -> None:
        """Ends a thread whose work nobody waits for any more."""
        if self.attempt.stop.is_set() or self.crew.given_up.is_set():
            raise stopped()

    def add(self, remote: RemoteFile, number: int) -> None:
        """Queues one file."""
        file = FileFetch(self, remote, number)
        self.files.append(file)
        self.crew.submit(file.start)

    def url(self, name: str) -> str:
        """Where the hub serves a file of the commit."""
        at = self.repository
        return hf_hub_url(at.id, name, repo_type=at.type, revision=self.commit, endpoint=at.endpoint)

    def headers(self) -> dict[str, str]:
        """Headers of a request to the hub itself; the client drops the token when it is sent to another host."""
        return build_hf_headers(token=self.repository.token or False, library_name="datacube")


class FileFetch:
    """One file on its way: parts that arrived, how far they are hashed, and the descriptor that they are written to."""

    def __init__(self, shared: Fetcher, remote: RemoteFile, number: int) -> None:
        self.shared, self.remote = shared, remote
        self._part_file = shared.work.part(number)
        self._url = shared.url(remote.name)
        self._location = ""
        self._descriptor = -1
        self._restarts = 0
        self._hashing = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        size = self.remote.size
        self._bounds = [(start, min(start + PART, size)) for start in range(0, size, PART)] or [(0, 0)]
        self._done: set[int] = set()
        self._hashed = 0
        self._digest = self.remote.new_digest()

    def start(self) -> None:
        """Fetches the first part, and hands out the others once the server has shown that it serves ranges."""
        self.shared.check()
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._part_file, flags, 0o666)
        self._fetch(0)

    def _fetch(self, index: int) -> None:
        with hub_errors(self.shared.repository):
            _PartFetch(self, *self._bounds[index], is_first=index == 0).run()
        self._arrived(index)

    def spread(self) -> None:
        """Queues all parts but the first before any other file, so that few files are open at a time."""
        self.shared.crew.submit_next(partial(self._fetch, index) for index in range(1, len(self._bounds)))

    def widen(self) -> int:
        """Makes the first part the whole file, since the server ignores ranges; returns its end."""
        self._bounds = [(0, self.remote.size)]
        return self.remote.size

    @contextmanager
    def response(self, start: int, end: int) -> Iterator[httpx2.Response]:
        """Opens an answer that begins at byte `start`; a place that the hub named once is asked directly."""
        direct = self._location
        headers = {} if direct else self.shared.headers()
        headers |= {"Accept-Encoding": "identity", "Range": f"bytes={start}-{end - 1}"}
        with get_session().stream("GET", direct or self._url, headers=headers) as answer:
            if direct and answer.is_client_error:
                self._location = ""
                raise Broken(f"{answer.status_code} at a place that was valid before")
            hf_raise_for_status(answer)
            self._look_at(answer)
            if not direct and answer.url.origin != httpx2.URL(self._url).origin:
                self._location = str(answer.url)  # signed for a while: the other parts spare the hub a request
            yield answer

    def _look_at(self, answer: httpx2.Response) -> None:
        """A proxy's login page comes with status 200; it must not be taken for a file."""
        is_page = answer.headers.get("content-type", "").startswith("text/html")
        if is_page and not self.remote.name.endswith((".html", ".htm")):
            raise Broken("a web page was answered in place of the file (a login page of a proxy?)")

    def write(self, chunk: bytes, position: int) -> None:
        """Puts bytes where they belong and counts them."""
        self.shared.check()
        self.shared.take(len(chunk))
        os.pwrite(self._descriptor, chunk, position)
        self.shared.attempt.progress.advance(len(chunk))

    def _arrived(self, index: int) -> None:
        self._done.add(index)
        while self._hashed in self._done and self._hashing.acquire(blocking=False):
            try:
                while self._hashed in self._done:
                    self._hash(*self._bounds[self._hashed])
                    self._hashed += 1
                if self._hashed == len(self._bounds):
                    self._finish()
                    return
            finally:
                self._hashing.release()

    def _hash(self, start: int, end: int) -> None:
        """Hashes a part, which is still in the page cache."""
        if self.shared.attempt.settings.verify != "checksum":
            return
        while start < end:
            self.shared.check()
            chunk = os.pread(self._descriptor, min(HASH_CHUNK, end - start), start)
            self._digest.update(chunk)
            start += len(chunk)

    def _finish(self) -> None:
        self.close()
        checked = self.shared.attempt.settings.verify == "checksum"
        if checked and self._digest.hexdigest() != self.remote.checksum:
            self._restart()
            return
        self.shared.check()
        self.shared.work.place(self._part_file, self.remote.name)
        self.shared.attempt.progress.finish_file()

    def _restart(self) -> None:
        name = self.remote.name
        self.shared.attempt.progress.advance(-self.remote.size)
        if self._restarts == MAX_RESTARTS:
            raise TransferError(
                Reason.INTEGRITY_MISMATCH,
                f"'{name}' arrived {MAX_RESTARTS + 1} times with a wrong hash: something between here and "
                f"{self.shared.repository.endpoint} changes it, or the hub's copy is damaged",
            )
        self._restarts += 1
        self._location = ""
        self.shared.attempt.progress.notice(f"'{name}' arrived with a wrong hash and is fetched again")
        self._begin()
        self.shared.crew.submit_next([self.start])

    def close(self) -> None:
        """Closes the part; only when no thread writes to it any more, since its number may be given away at once."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class _PartFetch:
    """A range of a file, asked for again from where it broke."""

    def __init__(self, file: FileFetch, start: int, end: int, *, is_first: bool) -> None:
        self._file, self._start, self._position, self._end = file, start, start, end
        self._is_first = is_first
        self._failures = 0

    def run(self) -> None:
        """Returns when every byte of the range is written."""
        while self._position < self._end:
            try:
                self._read()
            except (Broken, httpx2.TransportError) as error:
                self._failed(error)

    def _read(self) -> None:
        with self._file.response(self._position, self._end) as answer:
            self._align(answer)
            for chunk in answer.iter_raw():
                wanted = chunk[: self._end - self._position]
                self._file.write(wanted, self._position)
                self._position += len(wanted)
                self._failures = 0
                if len(wanted) < len(chunk):
                    break  # a server without ranges sends all that follows too
        if self._position < self._end:
            raise Broken(f"the body ended {self._end - self._position} bytes early")

    def _align(self, answer: httpx2.Response) -> None:
        """Makes sure that the body begins at our position."""
        if answer.status_code == httpx2.codes.PARTIAL_CONTENT:
            if not answer.headers.get("content-range", "").startswith(f"bytes {self._position}-"):
                raise Broken("another range was answered than the one asked for")
            if self._is_first:
                self._is_first = False
                self._file.spread()
        elif self._start == 0:
            self._file.shared.attempt.progress.advance(-self._position)
            self._position = 0
            self._end = self._file.widen() if self._is_first else self._end
        else:
            raise Broken("the server stopped serving ranges")

    def _failed(self, error: Exception) -> None:
        self._failures += 2 if isinstance(error, httpx2.TimeoutException) else 1
        if self._failures > len(PAUSES):
            raise _given_up(error, self._file.remote.name, self._file.shared.repository.endpoint) from error
        self._file.shared.attempt.progress.alive()
        if self._file.shared.attempt.stop.wait(PAUSES[self._failures - 1]):
            raise stopped()


def _given_up(error: Exception, name: str, endpoint: str) -> TransferError:
    if isinstance(error, Broken):
        return TransferError(Reason.SERVER_ERROR, f"'{name}' could not be fetched: {error}")
    return unreachable(error, endpoint)
