"""Attempts as pods, made and watched from anywhere that may make pods: what a flow of a user's own does its work with.

The operator makes its pods itself. Nothing here retries an attempt: whoever asks for the next one decides that.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.cluster.errors import (
    AlreadyExists,
    ApiError,
    Invalid,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from datacube_flows.cluster.follow import Follower
from datacube_flows.cluster.patience import Patience, insist, see_through
from datacube_flows.cluster.refusals import explain, is_over_quota, is_without_right, told_to_a_person
from datacube_flows.cluster.resource import CLAIMS, PODS
from datacube_flows.core import labels
from datacube_flows.core.attempt_log import parse_lines, parse_log
from datacube_flows.core.manifests import CONTAINER, make_attempt_pod, require_claim
from datacube_flows.core.observation import ENDED, AttemptSeen, PodPhase
from datacube_flows.core.observe_pod import observe_pod
from datacube_flows.core.pod_waiting import waiting_reason
from datacube_flows.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from datacube_flows.cluster.client import Client, Object
    from datacube_flows.cluster.follow import Sight
    from datacube_flows.core.manifests import Installation
    from datacube_flows.core.plan import TransferPlan

PROGRESS_SECONDS: Final = 10.0
TAIL_LINES: Final = 10
SAID_LINES: Final = 50
LIMIT_BYTES: Final = 65_536
ENDING: Final = Patience(seconds=10.0)
"""With an API server that is away while somebody waits for the pod of a cancelled attempt to be deleted."""

_BORNE_LABELS: Final = (labels.UID, labels.RUN, labels.PLAN)


@dataclass(frozen=True)
class PodSettings:
    """How pods are made and watched.

    Attributes:
        installation: what the installation decides.
        patience: with an API server that is away.
        progress_seconds: between two looks at the log.
        on_waiting: is called with each other reason for which nothing starts.
    """

    installation: Installation
    patience: Patience = field(default_factory=Patience)
    progress_seconds: float = PROGRESS_SECONDS
    on_waiting: Callable[[Reason, str], object] = lambda _reason, _message: None


class PodWork:
    """The work of one run: its claim and its attempts, each a pod.

    Args:
        client: asks the API server.
        plan: what is to be done.
        settings: see there.
        attempts: those that are known, oldest first.
    """

    def __init__(
        self, client: Client, plan: TransferPlan, settings: PodSettings, attempts: Sequence[AttemptSeen] = ()
    ) -> None:
        self.plan = plan
        self._client, self._settings = client, settings
        self._attempts = {seen.number: seen for seen in attempts}
        self._counters: dict[str, Any] = {}
        self._told: tuple[Reason, str] | None = None

    @property
    def attempts(self) -> list[AttemptSeen]:
        """All that are known, oldest first."""
        return [self._attempts[number] for number in sorted(self._attempts)]

    def progress(self) -> dict[str, Any]:
        """The counters of the attempt that runs, as `status.progress` has them."""
        return self._counters

    async def lines(self, seen: AttemptSeen) -> list[str]:
        """What an attempt that ended said that is of use to a person; nothing where its log cannot be read any more."""
        return parse_lines(await self._log(seen, SAID_LINES)) if seen.uid else []

    async def provision(self) -> str:
        """Has the claim there, and returns what was done, "" for nothing. An existing claim is never touched.

        Raises:
            WaitingError: there is no claim, and no template to make it from.
            TransferError: the cluster does not take the claim.
        """
        name = f"claim '{self.plan.namespace}/{self.plan.claim.name}'"
        return await self._until_taken(self._ensure_claim, name, rejected=Reason.INVALID_SPEC)

    async def run_attempt(self, number: int) -> AttemptSeen:
        """Makes an attempt, or finds the one of that number that was made, and returns it after its end.

        Whoever is cancelled while waiting for that leaves no pod behind.

        Raises:
            TransferError: it cannot be made.
            Refused: the cluster does not let it be watched.
        """
        pod = make_attempt_pod(self.plan, self._settings.installation, number)
        name, self._counters = str(pod["metadata"]["name"]), {}
        try:
            await self._until_taken(lambda: self._ensure_pod(pod), f"pod '{name}'", rejected=Reason.POD_REJECTED)
            with told_to_a_person(f"watch pod '{self.plan.namespace}/{name}'"):
                return await self._watch(self._attempts[number])
        except BaseException:
            await see_through(self._remove(pod))
            raise

    async def _until_taken(self, make: Callable[[], Coroutine[Any, Any, str]], what: str, *, rejected: Reason) -> str:
        """Has something made, however long the cluster is away or has no room; once begun, a try is not broken off."""
        failures = 0
        while True:
            try:
                return await see_through(make())
            except ApiError as error:
                text = f"cannot make {what}: {explain(error)}"
                if (waits_for := _what_helps(error)) is None:
                    raise TransferError(_reason_of(error, rejected), text) from None
                failures += 1
                self._tell(waits_for, text)
                pause = max(self._settings.patience.pause(failures), error.retry_after)
            await asyncio.sleep(pause)

    async def _ensure_claim(self) -> str:
        name, namespace = self.plan.claim.name, self.plan.namespace
        try:
            await self._client.get(CLAIMS, namespace, name)
        except NotFound:
            claim = require_claim(self.plan)
            with suppress(AlreadyExists):
                await self._client.create(CLAIMS, namespace, claim)
                return f"made claim {name}"
        return ""

    async def _ensure_pod(self, pod: Object) -> str:
        """Has the attempt's pod; one of its name that is there is its own, or somebody else's."""
        namespace, name = self.plan.namespace, pod["metadata"]["name"]
        try:
            made = await self._client.create(PODS, namespace, pod)
        except AlreadyExists:
            made = await self._client.get(PODS, namespace, name)
        if not _is_same_attempt(made, pod):
            text = f"there is a pod '{namespace}/{name}' that is not of this run: delete it"
            raise TransferError(Reason.NAME_CONFLICT, text)
        self._note(observe_pod(made))
        return ""

    async def _watch(self, seen: AttemptSeen) -> AttemptSeen:
        """Returns the attempt after its end; reads its counters meanwhile."""
        follower = Follower(
            self._client, PODS, self.plan.namespace, seen.pod, patience=self._settings.patience, on_trouble=self._lost
        )
        reading: asyncio.Task[None] | None = None
        try:
            async with aclosing(follower.sights()) as sights:
                async for sight in sights:
                    seen = self._note(_attempt_in(sight, seen))
                    if seen.phase in ENDED:
                        return seen
                    if seen.phase is PodPhase.RUNNING and reading is None:
                        reading = asyncio.create_task(self._read_counters(seen))
                    self._tell_of(sight.object or {})
        finally:
            if reading is not None:
                reading.cancel()
        raise AssertionError("a follower ends with an object that is gone")

    async def _read_counters(self, seen: AttemptSeen) -> None:
        while True:
            await asyncio.sleep(self._settings.progress_seconds)
            self._counters = parse_log(await self._log(seen, TAIL_LINES)).counters or self._counters

    async def _log(self, seen: AttemptSeen, lines: int) -> str:
        """The end of an attempt's log; "" where it cannot be read."""
        with suppress(ApiError):
            return await self._client.read_log(
                self.plan.namespace, seen.pod, CONTAINER, tail_lines=lines, limit_bytes=LIMIT_BYTES
            )
        return ""

    async def _remove(self, pod: Object) -> None:
        """Has the attempt's pod deleted, also one whose making nobody confirmed.

        Where that cannot be said to the API server, its owner or a person does it later.
        """
        namespace, name = self.plan.namespace, pod["metadata"]["name"]
        with suppress(ApiError):
            there = await insist(lambda: self._client.get(PODS, namespace, name), ENDING)
            if _is_same_attempt(there, pod):
                uid = there["metadata"]["uid"]
                await insist(lambda: self._client.delete(PODS, namespace, name, uid=uid), ENDING)

    def _note(self, seen: AttemptSeen) -> AttemptSeen:
        self._attempts[seen.number] = seen
        return seen

    def _lost(self, error: ApiError) -> None:
        self._tell(Reason.ENGINE_UNAVAILABLE, explain(error))

    def _tell_of(self, pod: Object) -> None:
        if found := waiting_reason(pod):
            self._tell(*found)

    def _tell(self, reason: Reason, message: str) -> None:
        """Says why nothing starts, once."""
        if self._told != (reason, message):
            self._told = reason, message
            self._settings.on_waiting(reason, message)


def _is_same_attempt(there: Object, pod: Object) -> bool:
    """Whether a pod of an attempt's name is that attempt's."""
    borne, wanted = there["metadata"].get("labels") or {}, pod["metadata"]["labels"]
    return all(borne.get(label) == wanted.get(label) for label in _BORNE_LABELS)


def _attempt_in(sight: Sight, before: AttemptSeen) -> AttemptSeen:
    """The attempt as a pod shows it that was seen; one whose pod is gone before its end has failed."""
    found = sight.object
    if found is not None and found["metadata"]["uid"] == before.uid:
        seen = observe_pod(found)
        if not sight.is_gone or seen.phase in ENDED:
            return seen
    gone = datetime.now(UTC)
    return replace(
        before,
        phase=PodPhase.FAILED,
        status="Terminating",
        finished=gone,
        reason=Reason.POD_DELETED,
        message="the pod was deleted while it ran",
    )


def _what_helps(error: ApiError) -> Reason | None:
    """What is waited for where a request fails that may be taken later; None where waiting does not help."""
    if is_over_quota(error):
        return Reason.QUOTA_EXCEEDED
    return Reason.ENGINE_UNAVAILABLE if isinstance(error, Unavailable | TooManyRequests) else None


def _reason_of(error: ApiError, rejected: Reason) -> Reason:
    if isinstance(error, Invalid):
        return Reason.INVALID_SPEC
    return Reason.ACCESS_DENIED if is_without_right(error) else rejected
