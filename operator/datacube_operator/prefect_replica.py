"""Assembles the Prefect engine of a replica. Imported only where a Prefect server is named: Prefect takes its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datacube_flows.engines.prefect_server import FlowRuns
from datacube_flows.engines.prefect_thread import FlowThread
from datacube_operator.attempt_pods import AttemptPods
from datacube_operator.prefect_engine import PrefectEngine, PrefectParts
from datacube_operator.prefect_history import History

if TYPE_CHECKING:
    from collections.abc import Callable

    from datacube_operator.attempt_pods import PodParts
    from datacube_operator.cube import Cube
    from datacube_operator.informer import Informer
    from datacube_operator.progress import ProgressReader
    from datacube_operator.settings import Settings
    from datacube_operator.status_book import StatusBook


def make_prefect(
    making: PodParts,
    cubes: Informer,
    book: StatusBook,
    reader: ProgressReader | None,
    *,
    settings: Settings,
    wake: Callable[[str], None],
) -> tuple[PrefectEngine, History]:
    """Returns the engine, and what keeps its history while this replica leads."""

    def cube_of(key: str) -> Cube | None:
        document = cubes.store.get(key)
        return book.read(document) if document is not None else None

    thread, runs = FlowThread(), FlowRuns()
    history = History(thread, runs, making.client, cube_of=cube_of, clock=making.clock, wake=wake)
    parts = PrefectParts(
        thread,
        runs,
        history,
        AttemptPods(making),
        cubes,
        reader,
        making.clock,
        wake,
        limit=settings.prefect_runs,
        keep_seconds=settings.keep_seconds,
        ui_url=settings.prefect_ui_url,
    )
    engine = PrefectEngine(parts)
    history.serve(engine)
    return engine, history
