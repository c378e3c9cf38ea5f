"""The two clients of one store: s3fs's for listing, checks and parts of uploads, obstore for bytes; one retry for both.

Neither follows the machine's settings: no profile, no identity of the node (IMDS), no proxy that the document does not
name.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import obstore
import s3fs
from aiobotocore.credentials import AioAssumeRoleWithWebIdentityProvider, AioCredentialResolver
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from obstore.store import S3Store

from datacube_flows.transfers.s3_errors import (
    CLIENT_ERRORS,
    Failure,
    NotS3,
    StalledRequest,
    WrongBytes,
    explain,
)
from datacube_flows.transfers.s3_send import count_bodies
from datacube_flows.transfers.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from datacube_flows.transfers.base import Attempt
    from datacube_flows.transfers.s3_target import S3Target

T = TypeVar("T")

CONNECT_SECONDS = 15
STALL_SECONDS = 30
"""A request in which nothing arrives for so long is broken off and made again."""

PUT_SECONDS = 60
"""Limit of a small write; one that takes longer is made again by the other client, which sees whether bytes leave."""

_NO_LIMIT = timedelta(days=1)
TRIES = 6
PAUSE_SECONDS = 0.4
PAUSE_CAP_SECONDS = 20.0
LIMITED_PAUSE_SECONDS = 2.0
"""First pause where the store limits the rate and does not say for how long."""

RETRY_AFTER_CAP_SECONDS = 300.0
CONCURRENCY: Final = 16
BYTES_IN_FLIGHT: Final = 64 * 1024 * 1024
CHUNK: Final = 256 * 1024
CREDENTIALS_SECONDS: Final = 300
"""How long the byte client keeps credentials that the other client renews."""


class _NoRedirects(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore carries no types
    """aiobotocore follows redirects, also to other hosts and with the session token; S3 knows none that we want."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        return _Requester(partial(session.request, allow_redirects=False))


@dataclass(frozen=True)
class _Requester:
    request: Callable[..., Awaitable[Any]]


class ByteBudget:
    """Bounds the bytes held in memory; whoever came first is served first, so that no one waits for ever."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    async def take(self, size: int) -> int:
        """Returns how much was taken (at most all there is) once it is there; only who holds nothing may wait."""
        size = min(size, self._size)
        async with self._turn:
            while self._left < size:
                self._freed.clear()
                await self._freed.wait()
            self._left -= size
        return size

    def take_now(self, size: int) -> bool:
        """Whether `size` was there, nobody waiting, and was taken. Who holds some already must not wait for more."""
        if self._turn.locked() or self._left < size:
            return False
        self._left -= size
        return True

    def give(self, size: int) -> None:
        """Gives back what was taken."""
        self._left += size
        self._freed.set()


@dataclass
class S3Client:
    """An open connection to the store of one attempt."""

    attempt: Attempt
    target: S3Target
    api: Any
    """s3fs's client: every S3 operation by its own name, raising botocore's errors."""

    store: S3Store
    """For reading: a stall ends a request."""

    put_store: S3Store
    """For small writes: the whole request has a limit."""

    throttle: Throttle
    budget: ByteBudget = field(default_factory=lambda: ByteBudget(BYTES_IN_FLIGHT))

    @property
    def concurrency(self) -> int:
        """How many requests run at once; few where the bandwidth is small, so that none of them starves."""
        rate = self.throttle.rate
        return CONCURRENCY if rate is None else max(1, min(CONCURRENCY, rate // (512 * 1024)))

    async def call(self, what: str, operation: Callable[[], Awaitable[T]], *, of_listed: bool = False) -> T:
        """Runs a request until it succeeds, fails for good, or has failed too often.

        Args:
            what: the beginning of the message of a failure.
            operation: makes the request.
            of_listed: whether it is about an object that was listed a moment ago.

        Raises:
            TransferError: with the reason of the last failure.
        """
        for number in range(1, TRIES + 1):
            try:
                return await operation()
            except (*CLIENT_ERRORS, NotS3, StalledRequest, WrongBytes) as error:
                failure = explain(error)
                if number == TRIES or not failure.is_passing:
                    raise (failure.of_listed() if of_listed else failure).error(what) from error
                await self._pause(failure, number)
        raise AssertionError

    async def _pause(self, failure: Failure, number: int) -> None:
        if failure.is_limited:
            self.attempt.progress.notice("the store limits the rate of requests: the transfer waits as it is told")
        await asyncio.sleep(pause_seconds(failure, number, jitter=random.random()))  # noqa: S311 - no secret

    async def read(self, key: str, etag: str, start: int, end: int, *, size: int) -> bytearray:
        """Returns the bytes `start` to `end` of an object that still is the one with this ETag.

        A request that was refused for its rate is made again by the other client, which sees for how long the store
        wants to be left alone.

        Raises:
            TransferError: as `call`; SourceChanged where the object is another one by now.
        """
        limited = False

        async def once() -> bytearray:
            nonlocal limited
            ask = self._ask_api if limited or not self.is_for_obstore(key) else self._ask_store
            content, at = bytearray(end - start), 0
            try:
                async for chunk in ask(key, etag, start, end, size):
                    await self.throttle.pause(len(chunk), self.attempt.progress.alive)
                    self.attempt.progress.advance(len(chunk))
                    content[at : at + len(chunk)] = chunk
                    at += len(chunk)
                if at != end - start:
                    raise WrongBytes(f"{at} bytes came where {end - start} were asked for")
            except BaseException as error:
                self.attempt.progress.advance(-at)
                limited = (
                    isinstance(error, CLIENT_ERRORS) and not getattr(error, "errno", 0) and explain(error).is_limited
                )
                raise
            return content

        return await self.call(f"'{key}' cannot be read", once, of_listed=True)

    def is_for_obstore(self, key: str) -> bool:
        """Keys with control characters cannot be named to obstore; and it would carry a token along a redirect."""
        return key.isprintable() and (self.target.is_aws or not self.target.has_token)

    async def _ask_store(self, key: str, etag: str, start: int, end: int, size: int) -> AsyncIterator[memoryview]:
        whole = start == 0 and end == size
        options: dict[str, Any] = {"if_match": etag} if whole else {"if_match": etag, "range": (start, end)}
        answer = await obstore.get_async(self.store, key, options=options)  # type: ignore[arg-type]
        _check_answer(answer.meta["e_tag"], etag)
        if end - start <= CHUNK and self.throttle.rate is None:
            yield memoryview(await answer.bytes_async())
            return
        async for chunk in answer.stream(min_chunk_size=CHUNK):
            yield memoryview(chunk)

    async def _ask_api(self, key: str, etag: str, start: int, end: int, size: int) -> AsyncIterator[memoryview]:
        ranged = {} if start == 0 and end == size else {"Range": f"bytes={start}-{end - 1}"}
        answer = await self.api.get_object(Bucket=self.target.uri.bucket, Key=key, IfMatch=etag, **ranged)
        _check_answer(answer.get("ETag"), etag)
        async with answer["Body"] as body:
            while chunk := await body.read(CHUNK):
                yield memoryview(chunk)


def _check_answer(found: str | None, wanted: str) -> None:
    if (found or "").strip('"') != wanted.strip('"'):
        raise NotS3("the answer is not the object: it lacks its ETag (a login page or a proxy's own answer?)")


def pause_seconds(failure: Failure, number: int, *, jitter: float) -> float:
    """Returns the pause after the `number`-th failure: what the store asks for, else doubled each time and spread.

    Args:
        failure: what happened.
        number: failures so far, at least 1.
        jitter: a random number in [0, 1).
    """
    if failure.retry_after is not None:
        return min(failure.retry_after, RETRY_AFTER_CAP_SECONDS) + jitter * PAUSE_SECONDS
    first = LIMITED_PAUSE_SECONDS if failure.is_limited else PAUSE_SECONDS
    return float(min(first * 2 ** (number - 1), PAUSE_CAP_SECONDS) * (0.5 + jitter / 2))


@asynccontextmanager
async def open_client(attempt: Attempt, target: S3Target) -> AsyncIterator[S3Client]:
    """Gives clients of the target's store, closed afterwards."""
    session = AioSession()
    session.set_config_variable("config_file", os.devnull)
    session.set_config_variable("credentials_file", os.devnull)
    if target.role:
        _use_role(session)
    api = await _file_system(attempt, target, session).set_session()
    count_bodies(api)
    try:
        yield S3Client(
            attempt,
            target,
            api,
            _byte_store(attempt, target, session, read_timeout=timedelta(seconds=STALL_SECONDS), timeout=_NO_LIMIT),
            _byte_store(attempt, target, session, timeout=timedelta(seconds=PUT_SECONDS)),
            Throttle(attempt.settings.bandwidth_limit),
        )
    finally:
        await api.close()


def _use_role(session: AioSession) -> None:
    """Leaves the session one way to credentials: the service account's web identity, never the node's own."""
    provider = AioAssumeRoleWithWebIdentityProvider(
        load_config=lambda: session.full_config,
        client_creator=session.create_client,
        profile_name="default",
        cache={},
    )
    session.register_component("credential_provider", AioCredentialResolver(providers=[provider]))


def _file_system(attempt: Attempt, target: S3Target, session: AioSession) -> s3fs.S3FileSystem:
    keys = {"key": target.access_key, "secret": target.secret_key, "token": target.session_token or None}
    bundle = attempt.settings.ca_bundle
    return s3fs.S3FileSystem(
        asynchronous=True,
        skip_instance_cache=True,
        use_listings_cache=False,
        session=session,
        anon=not target.access_key and not target.role,
        **(keys if target.access_key else {}),
        endpoint_url=target.endpoint,
        client_kwargs={"region_name": target.region, "verify": str(bundle) if bundle else None},
        config_kwargs={
            "s3": {"addressing_style": "virtual" if target.virtual else "path"},
            "proxies": dict.fromkeys(("http", "https"), target.proxy) if target.proxy else {},
            "retries": {"max_attempts": 0},
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": STALL_SECONDS,
            "max_pool_connections": CONCURRENCY,
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "http_session_cls": _NoRedirects,
        },
    )


def _byte_store(attempt: Attempt, target: S3Target, session: AioSession, **timeouts: timedelta) -> S3Store:
    options: dict[str, Any] = {
        "allow_http": target.is_plain,
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        **timeouts,
    }
    if target.proxy:
        options["proxy_url"] = target.proxy
    if bundle := attempt.settings.ca_bundle:
        options["root_certificate"] = bundle.read_bytes()
    return S3Store(
        target.uri.bucket,
        endpoint=target.host_style_endpoint,
        aws_endpoint_url_s3=target.host_style_endpoint,
        region=target.region,
        virtual_hosted_style_request=target.virtual,
        client_options=options,  # type: ignore[arg-type]
        retry_config={"max_retries": 0},
        **_identity(target, session),
    )


def _identity(target: S3Target, session: AioSession) -> dict[str, Any]:
    if target.role:
        return {"credential_provider": partial(_renewed, session)}
    if not target.access_key:
        return {"skip_signature": True}
    token = {"session_token": target.session_token} if target.session_token else {}
    return {"access_key_id": target.access_key, "secret_access_key": target.secret_key, **token}


async def _renewed(session: AioSession) -> dict[str, Any]:
    credentials = await (await session.get_credentials()).get_frozen_credentials()
    return {
        "access_key_id": credentials.access_key,
        "secret_access_key": credentials.secret_key,
        "token": credentials.token or None,
        "expires_at": datetime.now(UTC) + timedelta(seconds=CREDENTIALS_SECONDS),
    }
