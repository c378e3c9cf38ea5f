"""The closed list of reasons (SPEC section 5) and the class of each. Nothing else may invent a reason."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a DataCube is in the state it is in; stable words that people may match on."""

    # waiting: phase Pending, nothing is spent
    WAITING_FOR_VOLUME = "WaitingForVolume"
    WAITING_FOR_SECRET = "WaitingForSecret"  # noqa: S105 - a reason, no password
    PATH_BUSY = "PathBusy"
    QUEUED = "Queued"
    SUSPENDED = "Suspended"
    ENGINE_UNAVAILABLE = "EngineUnavailable"
    IMAGE_PULL_ERROR = "ImagePullError"
    UNSCHEDULABLE = "Unschedulable"
    QUOTA_EXCEEDED = "QuotaExceeded"
    VOLUME_BUSY = "VolumeBusy"
    # running
    TRANSFERRING = "Transferring"
    RATE_LIMITED = "RateLimited"
    ENGINE_UNRESPONSIVE = "EngineUnresponsive"
    # an attempt failed; retried within backoffLimit
    TRANSFER_ERROR = "TransferError"
    STALLED = "Stalled"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    OOM_KILLED = "OOMKilled"
    EVICTED = "Evicted"
    POD_DELETED = "PodDeleted"
    NODE_LOST = "NodeLost"
    SOURCE_CHANGED = "SourceChanged"
    INTEGRITY_MISMATCH = "IntegrityMismatch"
    ENDPOINT_UNREACHABLE = "EndpointUnreachable"
    SERVER_ERROR = "ServerError"
    # permanent: ends the run at once
    INVALID_SPEC = "InvalidSpec"
    ACCESS_DENIED = "AccessDenied"
    GATED_REPO = "GatedRepo"
    NOT_FOUND = "NotFound"
    REF_NOT_FOUND = "RefNotFound"
    NON_FAST_FORWARD = "NonFastForward"
    DIRTY_REPOSITORY = "DirtyRepository"
    SOURCE_EMPTY = "SourceEmpty"
    TOO_MANY_DELETES = "TooManyDeletes"
    DISK_FULL = "DiskFull"
    VOLUME_NOT_WRITABLE = "VolumeNotWritable"
    VOLUME_LOST = "VolumeLost"
    PATH_COLLISION = "PathCollision"
    TLS_ERROR = "TLSError"
    CLOCK_SKEW = "ClockSkew"
    POD_REJECTED = "PodRejected"
    NAME_CONFLICT = "NameConflict"
    RUN_DELETED = "RunDeleted"
    CANCELLED = "Cancelled"
    # final
    RETRIES_EXHAUSTED = "RetriesExhausted"
    UP_TO_DATE = "UpToDate"
    TRANSFER_COMPLETE = "TransferComplete"


WAITING = frozenset(
    {
        Reason.WAITING_FOR_VOLUME,
        Reason.WAITING_FOR_SECRET,
        Reason.PATH_BUSY,
        Reason.QUEUED,
        Reason.SUSPENDED,
        Reason.ENGINE_UNAVAILABLE,
        Reason.IMAGE_PULL_ERROR,
        Reason.UNSCHEDULABLE,
        Reason.QUOTA_EXCEEDED,
        Reason.VOLUME_BUSY,
    }
)
PERMANENT = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.ACCESS_DENIED,
        Reason.GATED_REPO,
        Reason.NOT_FOUND,
        Reason.REF_NOT_FOUND,
        Reason.NON_FAST_FORWARD,
        Reason.DIRTY_REPOSITORY,
        Reason.SOURCE_EMPTY,
        Reason.TOO_MANY_DELETES,
        Reason.DISK_FULL,
        Reason.VOLUME_NOT_WRITABLE,
        Reason.VOLUME_LOST,
        Reason.PATH_COLLISION,
        Reason.TLS_ERROR,
        Reason.CLOCK_SKEW,
        Reason.POD_REJECTED,
        Reason.NAME_CONFLICT,
        Reason.RUN_DELETED,
        Reason.CANCELLED,
    }
)
RETRIED = frozenset(
    {
        Reason.TRANSFER_ERROR,
        Reason.STALLED,
        Reason.DEADLINE_EXCEEDED,
        Reason.OOM_KILLED,
        Reason.EVICTED,
        Reason.POD_DELETED,
        Reason.NODE_LOST,
        Reason.SOURCE_CHANGED,
        Reason.INTEGRITY_MISMATCH,
        Reason.ENDPOINT_UNREACHABLE,
        Reason.SERVER_ERROR,
    }
)
SUCCEEDED = frozenset({Reason.UP_TO_DATE, Reason.TRANSFER_COMPLETE})
