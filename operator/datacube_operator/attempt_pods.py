"""Makes the pods of attempts, owned by their DataCube, and waits for their ends: where no engine in the cluster does.

A pod has a name that says which attempt of which run it is. So it is made once, whoever makes it, and found again after
a restart.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.core import labels
from datacube_flows.core.attempt_log import parse_lines
from datacube_flows.core.manifests import CONTAINER, Installation, make_attempt_pod, make_claim
from datacube_flows.core.observation import ENDED, AttemptSeen, PodPhase
from datacube_flows.core.observe_pod import observe_pod
from datacube_flows.engines.prefect_observe import attempt_lost
from datacube_flows.errors import TransferError
from datacube_operator.backoff import Backoff, Failures
from datacube_operator.claims import claim_problem
from datacube_operator.clock import sleep
from datacube_operator.cube import BY_UID, claim_key, uid_key
from datacube_operator.errors import AlreadyExists, ApiError, Conflict, Forbidden, Invalid, NotFound
from datacube_operator.logs import log
from datacube_operator.refusals import explain_refusal, is_of_ending_namespace, refuses_pod
from datacube_operator.resource import CLAIMS, PODS
from datacube_operator.store import object_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from datacube_flows.core.plan import TransferPlan
    from datacube_operator.client import Client
    from datacube_operator.clock import Clock
    from datacube_operator.informer import Informer

    Object = dict[str, Any]
    Said = tuple[Reason, str]
    Say = Callable[[Said | None], None]
    """Takes why nothing goes on, or that it does."""

SEEN_SECONDS: Final = 30.0
"""So long may the cache lack a pod that was made; one that never came to be seen there was deleted at once."""

QUOTA_SECONDS: Final = 15.0
LOG_LINES: Final = 60
LOG_BYTES: Final = 65_536
PAUSES: Final = Backoff(first=1.0, cap=30.0, jitter=0.5)


@dataclass
class News:
    """What the cache tells of an attempt's pod while somebody waits for its end.

    Attributes:
        changed: set with each change.
        last: the pod as it was when it was last there; it may end and be gone before anybody comes to look.
    """

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    last: Object | None = None


@dataclass(frozen=True)
class PodParts:
    """What attempts are made with.

    Attributes:
        client: writes.
        pods: informer of pods that bear the operator's labels.
        claims: informer of claims.
        clock: for pauses.
        installation: what the installation decides about pods.
        has_logs: whether logs may be read.
    """

    client: Client
    pods: Informer
    claims: Informer
    clock: Clock
    installation: Installation
    has_logs: bool


class AttemptPods:
    """Makes attempts. Its coroutines belong to the operator's loop."""

    def __init__(self, parts: PodParts) -> None:
        self._parts, self._client = parts, parts.client
        self._news: dict[str, News] = {}
        parts.pods.subscribe(self._notice)

    def of_run(self, plan: TransferPlan) -> tuple[Object, ...]:
        """The pods of a run's attempts, as the cache has them."""
        pods = self._parts.pods.store.find(BY_UID, uid_key(plan.namespace, plan.uid))
        return tuple(pod for pod in pods if _is_of_run(pod, plan))

    async def provision(self, plan: TransferPlan, say: Say) -> str:
        """Has the claim there, once the cluster lets it be made; returns what was done.

        Raises:
            TransferError: the claim is refused as it is described.
        """
        claim, failures = make_claim(plan), Failures(PAUSES)
        while True:
            there = self._parts.claims.store.get(claim_key(plan.namespace, plan.claim.name))
            if there is not None:
                say(None)
                return ""
            if claim is None:
                say(claim_problem(plan, None))
                await sleep(self._parts.clock, failures.pause())
                continue
            try:
                await self._client.create(CLAIMS, plan.namespace, claim)
            except AlreadyExists:
                return ""
            except ApiError as error:
                await self._explain(error, plan, say, failures)
                if isinstance(error, Invalid):
                    said = explain_refusal(error, plan)[1]
                    raise TransferError(Reason.INVALID_SPEC, f"the claim cannot be made: {said}") from error
            else:
                say(None)
                return f"made claim {plan.claim.name}"

    async def run(self, plan: TransferPlan, number: int, say: Say) -> AttemptSeen:
        """Makes an attempt, or finds it made, and returns it after its end; that it was refused is an end too.

        Raises:
            TransferError: something else has its name.
        """
        key = f"{plan.namespace}/{plan.attempt_name(number)}"
        with self._hearing(key) as news:
            refused = await self._have(plan, number, key, say)
            return refused or await self._end_of(plan, number, key, news)

    async def remove(self, plan: TransferPlan) -> None:
        """Deletes the pods of a run."""
        for pod in self.of_run(plan):
            about = pod["metadata"]
            if not about.get("deletionTimestamp"):
                with suppress(NotFound, Conflict):
                    await self._client.delete(PODS, plan.namespace, about["name"], uid=about["uid"])

    async def lines(self, plan: TransferPlan, seen: AttemptSeen) -> Sequence[str]:
        """What an attempt wrote that is of use to a person; nothing where its log cannot be read."""
        if not self._parts.has_logs or not seen.uid:
            return ()
        with suppress(ApiError):
            text: str = await self._client.read_log(
                plan.namespace, seen.pod, CONTAINER, tail_lines=LOG_LINES, limit_bytes=LOG_BYTES
            )
            return parse_lines(text)
        return ()

    async def _have(self, plan: TransferPlan, number: int, key: str, say: Say) -> AttemptSeen | None:
        """Has the attempt's pod there; returns the attempt where the cluster does not admit it."""
        began, failures = self._parts.clock.now(), Failures(PAUSES)
        while self._pod(key, plan) is None:
            try:
                await self._client.create(
                    PODS, plan.namespace, make_attempt_pod(plan, self._parts.installation, number)
                )
                break
            except AlreadyExists as error:  # the cache is a moment behind, or the pod of before is on its way out
                if key not in self._parts.pods.store and self._parts.clock.now() - began > SEEN_SECONDS:
                    raise TransferError(Reason.NAME_CONFLICT, _taken(key)) from error
                await sleep(self._parts.clock, failures.pause())
            except ApiError as error:
                if said := refuses_pod(error, plan):
                    return _refused(number, said, self._parts.clock)
                await self._explain(error, plan, say, failures)
        say(None)
        return None

    async def _explain(self, error: ApiError, plan: TransferPlan, say: Say, failures: Failures) -> None:
        """Says why something cannot be made now, and waits."""
        log.warning("attempt waits", namespace=plan.namespace, datacube=plan.name, error=str(error))
        if isinstance(error, Forbidden | Invalid) and not is_of_ending_namespace(error):
            say(explain_refusal(error, plan))
            await sleep(self._parts.clock, QUOTA_SECONDS)
            return
        await sleep(self._parts.clock, max(failures.pause(), error.retry_after))

    async def _end_of(self, plan: TransferPlan, number: int, key: str, news: News) -> AttemptSeen:
        """Returns the attempt once its pod has ended, or is gone."""
        while True:
            news.changed.clear()
            if (pod := self._pod(key, plan)) is not None:
                news.last = pod
            last = news.last if news.last is not None and _is_of_run(news.last, plan) else None
            if last is not None and (seen := observe_pod(last)).phase in ENDED:
                return seen
            if last is not None and pod is None:
                return attempt_lost(plan, number, last, self._parts.clock.utc())
            try:
                async with asyncio.timeout(SEEN_SECONDS if last is None else None):
                    await news.changed.wait()
            except TimeoutError:
                if await self._is_gone(key, plan):
                    return attempt_lost(plan, number, None, self._parts.clock.utc())

    async def _is_gone(self, key: str, plan: TransferPlan) -> bool:
        """Whether a pod that the cache never showed is not there: the API server is asked, since a watch may hang."""
        with suppress(ApiError):
            page = await self._client.list(PODS, plan.namespace, labels=f"{labels.UID}={plan.uid}")
            return all(object_key(pod) != key for pod in page.items)
        return False

    def _pod(self, key: str, plan: TransferPlan) -> Object | None:
        """The pod of that name, if it is the run's and not on its way out before it was looked at."""
        pod = self._parts.pods.store.get(key)
        return pod if pod is not None and _is_of_run(pod, plan) else None

    @contextmanager
    def _hearing(self, key: str) -> Iterator[News]:
        self._news[key] = News()
        try:
            yield self._news[key]
        finally:
            del self._news[key]

    def _notice(self, key: str) -> None:
        if news := self._news.get(key):
            news.last = self._parts.pods.store.get(key) or news.last
            news.changed.set()


def _is_of_run(pod: Object, plan: TransferPlan) -> bool:
    about = pod["metadata"]
    found = about.get("labels") or {}
    owners = [owner["uid"] for owner in about.get("ownerReferences") or ()]
    return found.get(labels.RUN) == plan.run_id and plan.uid in owners


def _refused(number: int, said: Said, clock: Clock) -> AttemptSeen:
    """An attempt that was spent though there never was a pod."""
    return AttemptSeen(number, "", PodPhase.FAILED, "Error", finished=clock.utc(), reason=said[0], message=said[1])


def _taken(key: str) -> str:
    name = key.partition("/")[2]
    return f"there is a pod '{name}' that is not this DataCube's: delete it and set a new re-run annotation"
