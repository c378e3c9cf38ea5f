"""Has the service accounts there that the pods of workflows run under, in each namespace in which a run begins."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.engines.argo_accounts import render_accounts
from datacube_operator.errors import AlreadyExists
from datacube_operator.resource import ROLE_BINDINGS, SERVICE_ACCOUNTS

if TYPE_CHECKING:
    from datacube_flows.engines.argo_accounts import ArgoSettings
    from datacube_operator.client import Client
    from datacube_operator.clock import Clock

_PLACES: Final = {"ServiceAccount": SERVICE_ACCOUNTS, "RoleBinding": ROLE_BINDINGS}
AGAIN_SECONDS: Final = 600.0
"""After so long they are made again where somebody removed them; one that is there is never changed."""


class Accounts:
    """Makes the accounts of a namespace, and remembers for a while that they are there.

    Args:
        client: writes.
        clock: for how long is remembered.
        settings: their names.
        is_on: whether they are made at all; whoever says no makes them by other means.
    """

    def __init__(self, client: Client, clock: Clock, settings: ArgoSettings, *, is_on: bool = True) -> None:
        self._client, self._clock, self._settings, self._is_on = client, clock, settings, is_on
        self._made: dict[str, float] = {}
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ensure(self, namespace: str) -> None:
        """Has the accounts of the namespace there."""
        if not self._is_on:
            return
        async with self._making[namespace]:
            if self._clock.now() - self._made.get(namespace, float("-inf")) < AGAIN_SECONDS:
                return
            for body in render_accounts(namespace, self._settings):
                await self._create(namespace, body)
            self._made[namespace] = self._clock.now()

    def forget(self, namespace: str) -> None:
        """Forgets a namespace that has no DataCube any more: it may be gone, and made anew without the accounts."""
        self._made.pop(namespace, None)
        if namespace in self._making and not self._making[namespace].locked():
            del self._making[namespace]

    async def _create(self, namespace: str, body: dict[str, Any]) -> None:
        with suppress(AlreadyExists):
            await self._client.create(_PLACES[body["kind"]], namespace, body)
