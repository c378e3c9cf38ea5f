"""A replica in a process of its own, which writes a config map twice a second while it leads, and says so.

`python -m tests.controller.writer KUBECONFIG NAMESPACE NAME`; ends with code 3 when it lost the lease.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import NoReturn

from datacube_operator.client import Client, connect
from datacube_operator.clock import SystemClock
from datacube_operator.election import Election
from datacube_operator.errors import LeadershipLost
from datacube_operator.fence import Fence
from datacube_operator.lease import LeaseTiming
from datacube_operator.metrics import Metrics
from datacube_operator.resource import Resource

from datacube_flows.errors import DataCubeError

CONFIG_MAPS = Resource("", "v1", "configmaps")
TIMING = LeaseTiming(duration_seconds=4, write_seconds=3, retry_seconds=0.3)
LOST = 3


async def write(client: Client, namespace: str, name: str) -> NoReturn:
    number = 0
    while True:
        try:
            await client.create(CONFIG_MAPS, namespace, {"metadata": {"name": f"{name}-{number}"}})
            number += 1
            print(f"{name} wrote", flush=True)
        except DataCubeError as error:
            print(f"{name}: {type(error).__name__}", flush=True)
        await asyncio.sleep(0.5)


async def main(kubeconfig: Path, namespace: str, name: str) -> None:
    clock, metrics = SystemClock(), Metrics()
    fence = Fence(clock)
    async with connect(kubeconfig) as api, asyncio.TaskGroup() as group:
        unfenced = Client(api, Fence.none(clock), metrics)
        election = Election(
            unfenced,
            fence,
            namespace=namespace,
            name="leader",
            identity=name,
            clock=clock,
            metrics=metrics,
            timing=TIMING,
        )
        group.create_task(election.run())
        group.create_task(write(Client(api, fence, metrics), namespace, name))


if __name__ == "__main__":
    try:
        asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
    except* LeadershipLost:
        sys.exit(LOST)
