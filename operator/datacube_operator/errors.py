"""Every error of the controller runtime, in one tree; those of requests are the library's.

::

    DataCubeError
    ├── ClusterError                  see `datacube_flows/cluster/errors.py`
    │   ├── NoConnection
    │   └── ApiError
    └── OperatorError
        ├── NotLeader                 a write was stopped: another replica may be writing
        ├── LeadershipLost            the lease could not be held; the process ends
        ├── PermanentError            this object cannot be reconciled until it changes
        └── TemporaryError            this object cannot be reconciled now; come again after `delay`
"""

from __future__ import annotations

from datacube_flows.cluster.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NoConnection,
    NotFound,
    Silent,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    error_from_status,
)
from datacube_flows.errors import DataCubeError

__all__ = [
    "AlreadyExists",
    "ApiError",
    "Conflict",
    "Forbidden",
    "Gone",
    "Invalid",
    "LeadershipLost",
    "NoConnection",
    "NotFound",
    "NotLeader",
    "OperatorError",
    "PermanentError",
    "Silent",
    "TemporaryError",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "error_from_status",
]


class OperatorError(DataCubeError):
    """Root of the tree."""


class NotLeader(OperatorError):
    """A write was stopped, since another replica may be writing."""


class LeadershipLost(OperatorError):
    """The lease could not be held."""


class PermanentError(OperatorError):
    """An object cannot be reconciled until it changes."""


class TemporaryError(OperatorError):
    """An object cannot be reconciled now; `delay` is when to come again, in seconds."""

    def __init__(self, message: str, delay: float) -> None:
        self.delay = delay
        super().__init__(message)
