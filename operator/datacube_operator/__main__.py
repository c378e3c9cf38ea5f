"""Runs one replica of the operator: `python -m datacube_operator`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import tempfile
from typing import TYPE_CHECKING

from datacube_flows.engines.prefect_env import remote
from datacube_flows.errors import DataCubeError
from datacube_operator.client import connect
from datacube_operator.clock import SystemClock
from datacube_operator.errors import LeadershipLost
from datacube_operator.health import serve_health
from datacube_operator.logs import log, log_libraries
from datacube_operator.metrics import Metrics
from datacube_operator.replica import make_replica
from datacube_operator.settings import find_own_namespace, make_identity, read_settings

if TYPE_CHECKING:
    from datacube_operator.runtime import Runtime
    from datacube_operator.settings import Settings

EXIT_OK = 0
EXIT_LEADERSHIP_LOST = 1
EXIT_BROKEN = 70
"""EX_SOFTWARE of sysexits.h: a part of the operator failed in a way that nobody foresaw."""


async def run(settings: Settings) -> int:
    """Runs a replica until a signal asks it to end, and returns the process's exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock, metrics = SystemClock(), Metrics()
    async with connect(settings.kubeconfig) as api:
        replica = make_replica(api, settings, clock, metrics)
        async with serve_health(settings.host, settings.port, replica.checks, metrics) as port:
            log.info("started", identity=settings.identity, namespace=settings.namespace or "*", port=port)
            code = await _run(replica, stop)
            log.info("ended", code=code)
            return code


async def _run(replica: Runtime, stop: asyncio.Event) -> int:
    code = EXIT_OK
    try:
        await replica.run(stop)
    except* LeadershipLost:
        code = EXIT_LEADERSHIP_LOST
    except* Exception as group:  # noqa: BLE001 - the process's last line
        for error in group.exceptions:
            log.bug("the operator ends", error)
        code = EXIT_BROKEN
    return code


def _say_why(error: Exception) -> None:
    match error:
        case DataCubeError():
            log.write("error", "cannot start", {"error": str(error)})
        case OSError(errno=int(number)):
            log.write("error", "cannot start", {"error": os.strerror(number)})
        case _:
            log.bug("the operator ends", error)


def main() -> None:
    """Reads flags and variables, runs, and ends the process at once: no thread of a library may hold it."""
    settings = read_settings(sys.argv[1:], os.environ, identity=make_identity(), own_namespace=find_own_namespace())
    log_libraries(log)
    if settings.prefect_url:
        logging.raiseExceptions = False  # Prefect would print each log that its server does not take
        for name, value in remote(settings.prefect_url, home=tempfile.mkdtemp(prefix="datacube-prefect-")).items():
            os.environ.setdefault(name, value)
    try:
        code = asyncio.run(run(settings))
    except Exception as error:  # noqa: BLE001 - the text of a foreign one may quote a credential, and is not shown
        code = EXIT_BROKEN
        _say_why(error)
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
