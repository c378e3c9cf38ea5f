"""The HTTP client that `huggingface_hub` works with inside an attempt: patient within bounds, careful where it goes.

It decides on retries itself and raises TransferError when they are used up, so that the library's own loops (which
sleep as long as a server asks) never start. No file is read or written here.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from datacube_flows import __version__
from datacube_flows.api.reasons import Reason
from datacube_flows.core.extra_args import flag_values
from datacube_flows.errors import TransferError
from datacube_flows.transfers.hf_crew import stopped
from datacube_flows.transfers.hf_errors import Repository, by_status, unreachable
from datacube_flows.transfers.hf_library import (
    OFFICIAL,
    HfApi,
    default_client_factory,
    errors,
    filter_repo_objects,
    httpx2,
    parse_ratelimit_headers,
    set_client_factory,
    validate_repo_id,
)
from datacube_flows.transfers.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from datacube_flows.transfers.base import Attempt

CONNECT_SECONDS = 15.0
READ_SECONDS = 30.0
"""A request without a byte for this long is given up."""
PAUSES: Final = (0.5, 1.0, 2.0)
"""Seconds between the tries of one request."""
MAX_WAIT_SECONDS = 300.0
"""Longest pause that a hub may ask for (its rate limits work in windows of five minutes)."""
CONNECTIONS = 16
TYPES: Final = ("model", "dataset", "space")
_UNCERTAIN: Final = ("/commit/", "/api/repos/create")
"""Requests that may have worked although no answer came: never sent twice."""
_BUSY: Final = frozenset({429, 503})
_FAILED: Final = frozenset({500, 502, 504})


class PatientClient(httpx2.Client):
    """Sends a request again where that is safe, waits as long as a rate limit asks, and goes nowhere it must not."""

    def __init__(self, attempt: Attempt, endpoint: str) -> None:
        self._attempt = attempt
        self._endpoint = httpx2.URL(endpoint)
        self._lock = threading.Lock()
        self._free_at = 0.0
        bundle = attempt.settings.ca_bundle
        super().__init__(
            verify=ssl.create_default_context(cafile=str(bundle)) if bundle else True,
            event_hooks={"request": [self._admit]},
            follow_redirects=True,
            limits=httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        )

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Sends a request, again where that is safe.

        Raises:
            TransferError: it cannot be sent, or the server keeps failing.
        """
        request.extensions["timeout"] = httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS).as_dict()
        for pause in (*PAUSES, None):
            self._wait_until_free()
            try:
                response = super().send(request, **options)
            except httpx2.TransportError as error:
                self._after_error(request, error, pause)
                continue
            if response.status_code not in _BUSY | _FAILED:
                return response
            if not self._after_failure(request, response, pause):
                return response
        raise AssertionError("the last try returns or raises")

    def _after_error(self, request: httpx2.Request, error: httpx2.TransportError, pause: float | None) -> None:
        """Waits if the request may be sent again, else raises."""
        if not _has_whole_body(request):
            raise error  # an upload's stream: whoever owns it rewinds it and sends again
        is_early = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
        is_slow = isinstance(error, httpx2.TimeoutException) and pause != PAUSES[0]
        failure = unreachable(error, _address(request.url))
        is_final = is_slow or failure.reason is Reason.TLS_ERROR
        if pause is None or is_final or not (is_early or _is_repeatable(request)):
            raise failure from error
        self.pause(pause)

    def _after_failure(self, request: httpx2.Request, response: httpx2.Response, pause: float | None) -> bool:
        """Waits and returns whether the request is to be sent again."""
        status, busy = response.status_code, response.status_code in _BUSY
        if not busy and not _is_repeatable(request):
            return False
        asked = _asked_wait(response)
        response.close()
        message = f"{_address(request.url)} answered {status} ({response.reason_phrase})"
        if pause is None:
            raise by_status(status, f"{message}, also after {len(PAUSES)} more tries: try again later")
        if asked is not None and asked > MAX_WAIT_SECONDS:
            raise by_status(status, f"{message} and asks to wait {asked:.0f} s: try again later")
        self._hold(status, asked if asked is not None else pause)
        if _has_whole_body(request):
            return True
        self._wait_until_free()
        for name in ("retry-after", "ratelimit"):  # it has been waited for: the library must not do it again
            response.headers.pop(name, None)
        return False

    def _hold(self, status: int, seconds: float) -> None:
        """Makes every request of this client wait, since a limit is the token's, not one request's."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic() + seconds)
        if status == httpx2.codes.TOO_MANY_REQUESTS:
            until = datetime.now(UTC) + timedelta(seconds=seconds)
            self._attempt.progress.notice(f"rate limited until {until:%H:%M:%S} UTC")

    def _wait_until_free(self) -> None:
        while (left := self._free_at - time.monotonic()) > 0:
            self.pause(min(left, 1.0))

    def pause(self, seconds: float) -> None:
        """Waits, and says that this is no stall.

        Raises:
            TransferError: the attempt was told to end.
        """
        self._attempt.progress.alive()
        if self._attempt.stop.wait(seconds):
            raise stopped()

    def _admit(self, request: httpx2.Request) -> None:
        """Lets a request (each hop of a redirect too) leave only to where it may go (SECURITY S19)."""
        if self._attempt.stop.is_set():
            raise stopped()
        url = request.url
        allowed = self._attempt.settings.allowed_schemes
        if url.scheme not in allowed:
            raise TransferError(
                Reason.INVALID_SPEC, f"{_address(url)} was not asked: only {' and '.join(allowed)} may be spoken"
            )
        if url.host == self._endpoint.host:
            return
        if _is_internal(url.host) and not _is_internal(self._endpoint.host):
            raise TransferError(
                Reason.ACCESS_DENIED, f"the hub sent us to {_address(url)}, an internal address: not followed"
            )


def _has_whole_body(request: httpx2.Request) -> bool:
    return isinstance(request.stream, httpx2.ByteStream)


def _is_repeatable(request: httpx2.Request) -> bool:
    return not any(part in request.url.path for part in _UNCERTAIN)


def _address(url: httpx2.URL) -> str:
    """Scheme, host and port: the rest of a signed URL is a credential."""
    return f"{url.scheme}://{url.netloc.decode()}"


def _asked_wait(response: httpx2.Response) -> float | None:
    """Returns the seconds that `RateLimit` or `Retry-After` (seconds or a date, RFC 9110) ask for."""
    limit = parse_ratelimit_headers(response.headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    text = response.headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


@lru_cache(maxsize=64)
def _is_internal(host: str) -> bool:
    """Whether a host is, or resolves to, an address that is not on the public internet."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return False  # behind a proxy names need not resolve here
    return any(not ipaddress.ip_address(str(address).partition("%")[0]).is_global for address in found)


def limiter(attempt: Attempt) -> Callable[[int], None]:
    """Returns what blocks until so many bytes may move, within the attempt's bandwidth limit."""
    throttle = Throttle(attempt.settings.bandwidth_limit)
    return lambda size: throttle.wait(size, attempt.stop, attempt.progress.alive)


def make_repository(attempt: Attempt) -> Repository:
    """Returns which repository the options name.

    Raises:
        TransferError: InvalidSpec for a name, type or endpoint that cannot be.
    """
    repo, repo_type = attempt.option("repo"), _said(attempt, "--repo-type") or attempt.option("repo-type")
    if repo_type not in TYPES:
        raise TransferError(Reason.INVALID_SPEC, f"option repo-type is '{repo_type}': use {', '.join(TYPES)}")
    try:
        validate_repo_id(repo)
    except errors.HFValidationError as error:
        raise TransferError(Reason.INVALID_SPEC, f"option repo: {error}") from error
    revision = _said(attempt, "--revision") or attempt.option("revision")
    if revision.startswith("-"):
        raise TransferError(Reason.INVALID_SPEC, f"option revision '{revision}' must not start with '-'")
    return Repository(_endpoint(attempt), repo, repo_type, revision, attempt.option("token"))


def _said(attempt: Attempt, flag: str) -> str:
    """What `extraArgs` say in place of an option; as for the tool, the last one counts."""
    return (_flag_values(attempt, flag) or ("",))[-1]


def _flag_values(attempt: Attempt, flag: str) -> tuple[str, ...]:
    return flag_values(f"hf {attempt.kind.direction}", attempt.extra_args, flag)


def matching(attempt: Attempt, names: Sequence[str]) -> set[str]:
    """Returns those of the names that `--include` and `--exclude` of `extraArgs` select, all where there are none."""
    include, exclude = list(_flag_values(attempt, "--include")), list(_flag_values(attempt, "--exclude"))
    return set(filter_repo_objects(names, allow_patterns=include or None, ignore_patterns=exclude or None))


def _endpoint(attempt: Attempt) -> str:
    endpoint = (attempt.env.get("HF_ENDPOINT") or OFFICIAL).rstrip("/")
    scheme = endpoint.partition("://")[0] if "://" in endpoint else ""
    if scheme not in attempt.settings.allowed_schemes or "@" in endpoint:
        allowed = " or ".join(f"{s}://host" for s in attempt.settings.allowed_schemes)
        raise TransferError(Reason.INVALID_SPEC, f"HF_ENDPOINT must be {allowed}")
    return endpoint


@contextmanager
def connect(attempt: Attempt, repository: Repository) -> Iterator[HfApi]:
    """Gives the library our client for one transfer; the token goes into its requests and nowhere else."""
    set_client_factory(lambda: PatientClient(attempt, repository.endpoint))
    try:
        yield HfApi(
            endpoint=repository.endpoint,
            token=repository.token or False,
            library_name="datacube",
            library_version=__version__,
        )
    finally:
        set_client_factory(default_client_factory)  # closes ours
