"""A Lease as the API server keeps it, with optimistic locking, and lines to it that break.

Kept honest by test_election_server.py, which has the same elections before a real API server.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datacube_operator.clock import sleep
from datacube_operator.errors import AlreadyExists, Conflict, NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from datacube_operator.resource import Resource

    from tests.controller.fake_clock import FakeClock

TIMEOUT = 5.0


@dataclass
class LeaseServer:
    lease: dict[str, Any] | None = None
    version: int = 0

    def write(self, lease: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.lease = copy.deepcopy(lease)
        self.lease["metadata"] |= {"uid": "the-lease", "resourceVersion": str(self.version)}
        return copy.deepcopy(self.lease)

    def get(self) -> dict[str, Any]:
        if self.lease is None:
            raise NotFound("get", 404, "NotFound")
        return copy.deepcopy(self.lease)

    def create(self, lease: dict[str, Any]) -> dict[str, Any]:
        if self.lease is not None:
            raise AlreadyExists("create", 409, "AlreadyExists")
        return self.write(lease)

    def replace(self, lease: dict[str, Any]) -> dict[str, Any]:
        if self.lease is None:
            raise NotFound("update", 404, "NotFound")
        if self.lease["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"]:
            raise Conflict("update", 409, "Conflict")
        return self.write(lease)


@dataclass
class Line:
    """One replica's way to the server; stands for its client.

    `cut`: requests do not arrive. `mute`: they arrive, and their answers get lost. `slow`: they take so many seconds.
    """

    server: LeaseServer
    clock: FakeClock
    cut: bool = False
    mute: bool = False
    slow: float = 0.0

    async def get(self, resource: Resource, namespace: str | None, name: str) -> dict[str, Any]:
        del resource, namespace, name
        return await self._send(self.server.get)

    async def create(self, resource: Resource, namespace: str | None, body: dict[str, Any]) -> dict[str, Any]:
        del resource, namespace
        return await self._send(lambda: self.server.create(body))

    async def replace(self, resource: Resource, namespace: str | None, body: dict[str, Any]) -> dict[str, Any]:
        del resource, namespace
        return await self._send(lambda: self.server.replace(body))

    async def _send(self, request: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if self.slow:
            await sleep(self.clock, self.slow / 2)
        answer = None if self.cut else request()
        if answer is None or self.mute:
            await sleep(self.clock, TIMEOUT)
            raise Unavailable("request", 0, "TimeoutError")
        if self.slow:
            await sleep(self.clock, self.slow / 2)
        return answer
