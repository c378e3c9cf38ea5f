"""Whether what a DataCube's status tells is the end of the run that is waited for. Pure.

One run is one hash of uid and re-run annotation, and ends the name of what runs it (SPEC section 5). A DataCube that
has ended is run again for a new value of the annotation; until the operator takes that up, its status still speaks of
the run of before, and nothing else in the object tells: an annotation moves no generation. So a final status counts

- where no value asks for another run: the annotation is empty, or the DataCube is held, so that nothing begins;
- where it names no run: the document was refused, whatever the annotation says;
- where the run that it names is the one that was asked for, or the one that is asked for by now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from datacube_flows.api.status import DataCubeStatus
from datacube_flows.cluster.errors import ClusterError
from datacube_flows.core import labels
from datacube_flows.core.fold import FINAL_PHASES
from datacube_flows.core.plan import run_id

if TYPE_CHECKING:
    from collections.abc import Mapping


def is_run_over(document: Mapping[str, Any], status: DataCubeStatus, *, wanted: str = "") -> bool:
    """Returns whether a DataCube's status is the end of the wanted run, or of a later one.

    Args:
        document: the DataCube as the API shows it.
        status: its status.
        wanted: id of a run; "" is the one that the document asks for.
    """
    if status.phase not in FINAL_PHASES:
        return False
    rerun, run = rerun_of(document), (status.workflow and status.workflow.name) or ""
    if not rerun or not run or document["spec"].get("suspend") is True:
        return True
    return run.rpartition("-")[2] in {run_id(document["metadata"]["uid"], rerun), wanted}


def rerun_of(document: Mapping[str, Any]) -> str:
    """Returns the value of a DataCube's re-run annotation, "" where it has none."""
    return str((document["metadata"].get("annotations") or {}).get(labels.RERUN, ""))


def read_status(document: Mapping[str, Any]) -> DataCubeStatus:
    """Returns the status of a DataCube; an empty one where nobody has looked at it yet.

    Raises:
        ClusterError: it was written by a version that this one does not know.
    """
    try:
        return DataCubeStatus.model_validate(document.get("status") or {})
    except ValidationError:
        name = document["metadata"]["name"]
        raise ClusterError(f"the status of DataCube '{name}' is of a newer version: update this library") from None
