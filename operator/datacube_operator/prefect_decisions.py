"""What is to become of a flow run, from what the server has of it and how its DataCube stands. Pure."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from datacube_flows.api.status import Phase

if TYPE_CHECKING:
    from datetime import datetime

    from datacube_flows.engines.prefect_server import RunSeen
    from datacube_operator.cube import Cube

FRESH_SECONDS: Final = 120.0
"""So long may a flow run be there before its DataCube's status names it."""

RETRY: Final = "prefect"
"""A re-run annotation begins so where somebody retries a flow run: the run goes on in that one."""

EXACT_PLACES: Final = 10

CANCELLED: Final = ("CANCELLING", "CANCELLED")
HELD: Final = "PAUSED"


class Deed(Enum):
    """What is done about a flow run."""

    NOTHING = "nothing"
    CANCEL = "cancel"
    """Somebody asked for it: the transfer ends."""

    RUN_AGAIN = "run again"
    """Somebody retries it: the DataCube is run once more."""

    WAKE = "wake"
    """Its DataCube has to be looked at."""

    COMPLETE = "complete"
    """Its transfer has ended, and it does not say so."""

    DROP = "drop"
    """Nothing stands behind it any more."""

    REFUSE = "refuse"
    """Somebody made it who made no DataCube."""

    HOLD = "hold"
    """Its DataCube is suspended."""


def decide(seen: RunSeen, cube: Cube | None, now: datetime, *, is_ours: bool) -> Deed:
    """Returns what to do about a flow run.

    Args:
        seen: the flow run.
        cube: the DataCube that it was made for; None where that is gone, or another has its name.
        now: on whichever clock.
        is_ours: whether this process executes it, or is about to.
    """
    if cube is not None and not cube.is_going and (is_ours or (cube.is_active and _is_of(seen, cube))):
        otherwise = Deed.NOTHING if is_ours else Deed.WAKE
        return Deed.CANCEL if seen.state in CANCELLED else otherwise
    if not seen.is_open:
        return Deed.NOTHING
    if not seen.uid:
        return Deed.REFUSE
    if cube is None or cube.is_going:
        return Deed.NOTHING if _is_fresh(seen, now, cube) else Deed.DROP
    if cube.is_final and _is_of(seen, cube):
        return Deed.RUN_AGAIN if seen.is_retry else Deed.COMPLETE
    return _of_other(seen, cube, now)


def _of_other(seen: RunSeen, cube: Cube, now: datetime) -> Deed:
    """Of a flow run that its DataCube's status does not speak of."""
    if asks_for(cube.rerun) == seen.id:
        return Deed.WAKE
    if cube.status.phase is Phase.SUSPENDED:
        return Deed.NOTHING if seen.state == HELD else Deed.HOLD
    return Deed.NOTHING if _is_fresh(seen, now, cube) else Deed.DROP


def asks_for(rerun: str) -> str:
    """Returns the flow run that a re-run annotation asks to go on in; empty where it asks for none."""
    word, _, rest = rerun.partition("/")
    return rest.partition("/")[0] if word == RETRY else ""


def place_told(number: int) -> str:
    """Returns what is said of a place in the queue: roughly but for the first ones, lest each end change them all."""
    return f"place {number}" if number < EXACT_PLACES else f"about place {round(number, 1 - len(str(number)))}"


def rerun_for(seen: RunSeen) -> str:
    """Returns the re-run annotation for a flow run that somebody retries; another one each time."""
    return f"{RETRY}/{seen.id}/{seen.count}"


def _is_of(seen: RunSeen, cube: Cube) -> bool:
    return cube.run_uid == seen.id if cube.run_uid else cube.run == seen.run


def _is_fresh(seen: RunSeen, now: datetime, cube: Cube | None) -> bool:
    """Whether a cache may not show yet what it was made for."""
    if cube is not None and cube.is_going:
        return False
    return abs((now - seen.created).total_seconds()) < FRESH_SECONDS
