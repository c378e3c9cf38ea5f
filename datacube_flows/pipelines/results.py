"""What a pipeline gets of a DataCube that has ended: its result, or an error with the typed reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from datacube_flows.api.reasons import Reason
from datacube_flows.api.status import Phase
from datacube_flows.errors import DataCubeError
from datacube_flows.words import outcome

if TYPE_CHECKING:
    from datacube_flows.api.status import DataCubeStatus


@dataclass(frozen=True, slots=True)
class TransferResult:
    """What was moved, and where it is.

    Attributes:
        path: where the data is, from the root of the claim; "" is the root itself, and of a dry run.
        revision: commit that was moved; "" for S3.
        files: files that were moved; none where all were there already.
        bytes: bytes of these files.
        claim: name of the PersistentVolumeClaim.
    """

    path: str
    revision: str
    files: int
    bytes: int
    claim: str


class TransferFailed(DataCubeError):
    """A DataCube has failed; nothing follows by itself.

    Attributes:
        name: `namespace/name` of the DataCube.
        reason: why, as its condition Failed has it; `RetriesExhausted` where no attempt is left.
        message: what happened, to what, and what to do; holds no secret.
        attempt_reason: why the last attempt failed; None where there was none.
    """

    def __init__(self, name: str, reason: Reason, message: str, attempt_reason: Reason | None = None) -> None:
        self.name, self.reason, self.message, self.attempt_reason = name, reason, message, attempt_reason
        super().__init__(name, reason, message, attempt_reason)  # as they are, so that it can be pickled

    def __str__(self) -> str:
        return f"DataCube '{self.name}' failed: {self.reason}: {self.message}"


def result_of(name: str, claim: str, status: DataCubeStatus) -> TransferResult:
    """Returns the result that the status of a DataCube tells which has ended.

    Args:
        name: `namespace/name` of the DataCube.
        claim: name of its claim.
        status: its status: Succeeded or Failed.

    Raises:
        TransferFailed: it has failed.
    """
    if status.phase is not Phase.SUCCEEDED:
        raise _failure(name, status)
    done = status.result
    return TransferResult(
        path=(done and done.path) or "",
        revision=(done and done.revision) or "",
        files=(done and done.files) or 0,
        bytes=(done and done.bytes) or 0,
        claim=claim,
    )


def _failure(name: str, status: DataCubeStatus) -> TransferFailed:
    word, message = outcome(status)
    last = status.attempts[-1].reason if status.attempts else None
    return TransferFailed(name, _reason(word), message, _reason(last) if last else None)


def _reason(word: str) -> Reason:
    """A reason of the closed list; one that a newer operator knows is told by its class at least."""
    try:
        return Reason(word)
    except ValueError:
        return Reason.TRANSFER_ERROR
