"""`datacube run --engine prefect`: Prefect's settings, its server, and its silence. Imports Prefect on demand."""

from __future__ import annotations

import importlib.util
import logging
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from datacube_flows.engines.prefect_embedded import HOST, start_embedded
from datacube_flows.engines.prefect_env import CLIENT
from datacube_flows.errors import EngineMissing

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from datacube_flows.engines.machine import Listener, Machine
    from datacube_flows.engines.prefect_local import PrefectEngine

SETTINGS: Final = CLIENT | {"PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false"}
"""What holds where the environment says nothing else."""

MISSING: Final = "--engine prefect needs Prefect: pip install 'datacube-flows[prefect]'"
LAST_SECONDS: Final = 5.0
"""How long the last logs and events may take, each; with a server that is away they get no more than a try."""


@contextmanager
def prefect_engine(machine: Machine, environ: MutableMapping[str, str]) -> Iterator[PrefectEngine]:
    """Has an engine that runs plans as flow runs, at the server that Prefect's settings name, or at one of its own.

    Args:
        machine: what the runs have in common.
        environ: this process's environment, where Prefect looks for its settings.

    Raises:
        EngineMissing: Prefect is not installed, or its own server does not start.
    """
    if importlib.util.find_spec("prefect") is None:
        raise EngineMissing(MISSING)
    for name, value in SETTINGS.items():
        environ.setdefault(name, value)
    logging.raiseExceptions = False  # Prefect would print each log that its server does not take
    with ExitStack() as stack:
        has_pages = _is_named(environ, stack, machine.listener)
        from datacube_flows.engines.prefect_local import PrefectEngine, write_down
        from datacube_flows.engines.prefect_thread import FlowThread

        engine = PrefectEngine(machine, FlowThread(), has_pages)
        try:
            yield engine
        finally:
            seconds = LAST_SECONDS / 10 if engine.holds_exit else LAST_SECONDS
            write_down(seconds)
            engine.thread.stop(seconds)


def where_history_is(environ: MutableMapping[str, str]) -> str:
    """Returns how the runs of an embedded server are looked at later."""
    home = f"PREFECT_HOME={environ['PREFECT_HOME']} " if "PREFECT_HOME" in environ else ""
    return f"history: {home}prefect server start"


def _is_named(environ: MutableMapping[str, str], stack: ExitStack, listener: Listener) -> bool:
    """Whether a server is named; where none is, one is started, and is the one that is named from then on."""
    from datacube_flows.engines.prefect_settings import read_settings

    url, settings = read_settings()
    if url:
        return True
    listener.line("starting a Prefect server for this command; the first one makes its database")
    server = stack.enter_context(start_embedded({**environ, **settings}))
    environ.update(server.client_settings)
    environ["NO_PROXY"] = ",".join(filter(None, [environ.get("NO_PROXY"), HOST]))
    read_settings()
    return False
