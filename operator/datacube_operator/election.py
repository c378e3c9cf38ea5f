"""Holds a Lease, so that one replica writes; the fence closes before another can hold it.

The transport's own leader election does not stop a leader that cannot renew, so this is ours.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from datacube_operator.clock import sleep
from datacube_operator.errors import AlreadyExists, ApiError, Conflict, LeadershipLost, NotFound
from datacube_operator.lease import LeaseTiming, Seen, look, make_lease, release, take
from datacube_operator.logs import log
from datacube_operator.resource import LEASES

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from datacube_operator.client import Client, Object
    from datacube_operator.clock import Clock
    from datacube_operator.fence import Fence
    from datacube_operator.metrics import Metrics


class Election:
    """One replica's part in the election.

    Args:
        client: for the lease; its own fence must be `Fence.none`.
        fence: what is opened while the lease is held.
        namespace: where the lease stands.
        name: of the lease.
        identity: this process's own, never used by another one before or after it.
        clock: decides; its `utc` is written for people.
        metrics: tells who leads.
        timing: see there.
    """

    def __init__(
        self,
        client: Client,
        fence: Fence,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Clock,
        metrics: Metrics,
        timing: LeaseTiming | None = None,
    ) -> None:
        self._client, self._fence, self._clock, self._metrics = client, fence, clock, metrics
        self._namespace, self._name, self._identity = namespace, name, identity
        self._timing = timing or LeaseTiming()
        self._seen: Seen | None = None
        self.acquired = asyncio.Event()

    async def run(self) -> None:
        """Stands for election, then holds the lease, until cancelled.

        Raises:
            LeadershipLost: The lease was held and is no longer; the fence is closed, and the process should end.
        """
        while True:
            await self._try()
            if self.acquired.is_set() and not self._fence.is_open:
                self._lose("it could not be renewed in time")
            await sleep(self._clock, self._timing.retry_seconds)

    async def release(self) -> None:
        """Gives the lease back if it is held, so that another replica starts at once; when all writes have ended."""
        self._fence.close()
        self._metrics.leader.set(0)
        if not self.acquired.is_set():
            return
        try:
            lease = await self._client.get(LEASES, self._namespace, self._name)  # a renewal may have been cut short
            if Seen(lease, self._clock.now()).holder == self._identity:
                await self._client.replace(LEASES, self._namespace, release(lease, self._clock.utc()))
                log.info("lease released", lease=self._name, identity=self._identity)
        except ApiError as error:
            log.warning("lease not released; it runs out by itself", lease=self._name, error=str(error))

    async def _try(self) -> None:
        try:
            if self._seen is not None and self.acquired.is_set():
                await self._renew(self._seen.lease)
            else:
                await self._stand()
        except ApiError as error:
            log.warning("lease not reached", lease=self._name, error=str(error))

    async def _stand(self) -> None:
        """Takes the lease if it is free, or if it is ours since a request whose answer was lost."""
        try:
            lease = await self._client.get(LEASES, self._namespace, self._name)
        except NotFound:
            lease = make_lease(self._namespace, self._name, self._identity, self._timing, self._clock.utc())
            with suppress(AlreadyExists):  # another was quicker
                await self._hold(self._client.create(LEASES, self._namespace, lease))
            return
        now = self._clock.now()
        self._seen = look(self._seen, lease, now)
        if self._seen.holder == self._identity or self._seen.is_free(now):
            with suppress(Conflict):  # another was quicker
                await self._hold(self._update(lease))

    async def _renew(self, lease: Object) -> None:
        """Renews the lease; where it changed meanwhile, by a lost request of ours or by others, looks whose it is."""
        try:
            await self._hold(self._update(lease))
        except NotFound:
            self._lose("it was deleted")
        except Conflict:
            lease = await self._client.get(LEASES, self._namespace, self._name)
            self._seen = look(self._seen, lease, self._clock.now())
            if self._seen.holder != self._identity:
                self._lose(f"{self._seen.holder or 'nobody'} holds it")
            await self._hold(self._update(lease))

    async def _hold(self, request: Awaitable[Object]) -> None:
        """Makes the request that takes or renews the lease; the time to write counts from before it is sent."""
        sent = self._clock.now()
        lease = await request
        self._seen = Seen(lease, self._clock.now())
        self._fence.extend(sent + self._timing.write_seconds)
        self._metrics.leader.set(1)
        if not self.acquired.is_set():
            log.info("lease acquired", lease=self._name, identity=self._identity)
            self.acquired.set()

    def _update(self, lease: Object) -> Awaitable[Object]:
        mine = take(lease, self._identity, self._timing, self._clock.utc())
        return self._client.replace(LEASES, self._namespace, mine)

    def _lose(self, why: str) -> NoReturn:
        self._fence.close()
        self._metrics.leader.set(0)
        log.warning("lease lost", lease=self._name, identity=self._identity, why=why)
        raise LeadershipLost(f"the lease {self._name} was lost: {why}")
