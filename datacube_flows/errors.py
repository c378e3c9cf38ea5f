"""Every error that DataCube raises on purpose, in one tree.

::

    DataCubeError
    ├── InvalidDataCube      the document breaks rules; carries all of them
    ├── DocumentError        a file is not readable as documents at all
    ├── EngineMissing        what runs documents cannot be used on this machine; nothing was started
    ├── WaitingError         something that the run needs is not there yet; nothing was spent
    ├── TransferError        an attempt failed; its reason decides whether it is retried
    ├── TransferFailed       a DataCube failed that a pipeline waited for (`pipelines/results.py`)
    ├── ClusterError         a cluster did not do what was asked (`cluster/errors.py`)
    └── OperatorError        of the operator alone (`datacube_operator/errors.py`)

Messages are for the person who reads `kubectl describe` or a terminal: what happened, to what, what to do.
Anything else that escapes is a bug.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datacube_flows.api.reasons import Reason


class DataCubeError(Exception):
    """Root of the tree."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule.

    Attributes:
        path: where in the document, as `kubectl` writes it: `spec.source.options[1].value`.
        message: what is wrong.
        remedy: what to do about it; may be empty where the message already says it.
    """

    path: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        return f"{text} ({self.remedy})" if self.remedy else text


class InvalidDataCube(DataCubeError):
    """The document breaks rules; `violations` holds every one that could be found, in the order of the document."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("\n".join(str(v) for v in self.violations))


class DocumentError(DataCubeError):
    """A file cannot be read as YAML documents, or holds none that can be used."""


class EngineMissing(DataCubeError):
    """The engine that was asked for is not installed, or does not start."""


class WaitingError(DataCubeError):
    """The run needs something that is not there yet (a claim, a Secret's key, a free path)."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason, self.message = reason, message
        super().__init__(message)


class TransferError(DataCubeError):
    """An attempt failed. Whether another follows is decided by the reason alone (`core/retry.py`)."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason, self.message = reason, message
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"
