"""Flows that move data themselves, as users write them: `python -m tests.pipelines.moving SCENE`, told by its input.

The input is one JSON object: `document`; `volumes` and `secrets`, or `namespace`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Any

from prefect import flow

from datacube_flows.core.manifests import Installation
from datacube_flows.pipelines.prefect import InCluster, ThisMachine, TransferFailed, transfer, transfer_async

TOLD: dict[str, Any] = {}


def here() -> ThisMachine:
    return ThisMachine(TOLD["volumes"], secrets=TOLD["secrets"], allow_http=True)


@flow
def sync_flow() -> dict[str, Any]:
    return asdict(transfer(TOLD["document"], on=here()))


@flow
async def async_flow() -> dict[str, Any]:
    return asdict(await transfer_async(TOLD["document"], on=here()))


@flow
def failing() -> dict[str, Any]:
    document = json.loads(json.dumps(TOLD["document"]).replace("s3://bucket/", "s3://absent/"))
    try:
        transfer(document, on=here())
    except TransferFailed as error:
        return {"reason": error.reason, "attempt": error.attempt_reason, "name": error.name, "message": error.message}
    return {}


@flow
def without_secret() -> dict[str, Any]:
    try:
        transfer(TOLD["document"], on=ThisMachine(TOLD["volumes"], allow_http=True))
    except TransferFailed as error:
        return {"reason": error.reason}
    return {}


@flow
async def in_cluster() -> dict[str, Any]:
    cluster = InCluster(TOLD["namespace"], installation=Installation(image="transfer"))
    try:
        return asdict(await transfer_async(TOLD["document"], on=cluster))
    except TransferFailed as error:
        return {"reason": error.reason, "attempt": error.attempt_reason}


def alone() -> dict[str, Any]:
    return asdict(transfer(json.dumps(TOLD["document"]), on=here()))


def everything() -> dict[str, Any]:
    """All of them, in one process."""
    return {
        "sync": sync_flow(),
        "async": asyncio.run(async_flow()),
        "alone": alone(),
        "failing": failing(),
        "without_secret": without_secret(),
    }


if __name__ == "__main__":
    TOLD.update(json.load(sys.stdin))
    scenes = {"everything": everything, "sync_flow": sync_flow, "in_cluster": lambda: asyncio.run(in_cluster())}
    print(json.dumps(scenes[sys.argv[1]]()))
