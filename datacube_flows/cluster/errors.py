"""Every error of whoever speaks to a cluster, in one tree.

::

    DataCubeError
    └── ClusterError
        ├── NoConnection              what says where the API server is cannot be used
        ├── ApiError                  the API server refused, or could not be asked
        │   ├── Unauthorized          401: the token is stale or wrong
        │   ├── Forbidden             403: not allowed, over quota, or refused by admission
        │   ├── NotFound              404
        │   ├── Conflict              409: somebody else changed the object
        │   ├── AlreadyExists         409: the name is taken
        │   ├── Gone                  410: the version is no longer known; list again
        │   ├── Invalid               422: the object breaks its schema
        │   ├── TooManyRequests       429: come again after `retry_after`
        │   └── Unavailable           5xx, no connection, no answer in time
        │       └── Silent            an open watch said nothing for long: nothing happened, or it is dead
        ├── Refused                   the same as an ApiError, told to a person: what to do
        ├── NameTaken                 something else has the name
        ├── CubeGone                  a DataCube was deleted or replaced before its end
        └── WaitTimeout               a DataCube did not end in time

The text of an error names the request and never repeats the server's own message, which may quote what a user wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from datacube_flows.errors import DataCubeError

if TYPE_CHECKING:
    from collections.abc import Mapping


class ClusterError(DataCubeError):
    """Root of the tree."""


class NoConnection(ClusterError):
    """What says where the API server is cannot be used."""


class ApiError(ClusterError):
    """A request failed.

    Attributes:
        code: HTTP status, 0 where there was no answer.
        reason: the server's word for it, such as `Conflict`.
        message: the server's text; may quote fields of the object: for a status, not for a log.
        retry_after: seconds that the server asks to wait, else 0.
        details: what the server says the error is about: kind, name, and fields of the object.
    """

    def __init__(
        self,
        request: str,
        code: int,
        reason: str,
        message: str = "",
        retry_after: float = 0.0,
        *,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.request, self.code, self.reason = request, code, reason
        self.message, self.retry_after, self.details = message, retry_after, details or {}
        super().__init__(f"{request}: {code} {reason}" if code else f"{request}: {reason}")


class Unauthorized(ApiError):
    """401."""


class Forbidden(ApiError):
    """403."""


class NotFound(ApiError):
    """404."""


class Conflict(ApiError):
    """409: somebody else changed the object."""


class AlreadyExists(ApiError):
    """409: the name is taken."""


class Gone(ApiError):
    """410: the version is no longer known."""


class Invalid(ApiError):
    """422."""


class TooManyRequests(ApiError):
    """429."""


class Unavailable(ApiError):
    """5xx, no connection, or no answer in time: nothing is known about what became of the request."""


class Silent(Unavailable):
    """An open watch said nothing for long."""


class Refused(ClusterError):
    """The cluster does not do what was asked; the text says why, and what to do."""


class NameTaken(ClusterError):
    """An object exists and is another one; the text says which, and what to do."""


class CubeGone(ClusterError):
    """A DataCube was deleted or replaced before its end was seen."""


class WaitTimeout(ClusterError):
    """A DataCube did not end in time; nothing was done to it."""


# The server's reasons tell two kinds of 409 and two names of 410 apart; codes are for answers that are no Status.
_BY_REASON: Final[Mapping[str, type[ApiError]]] = {
    "AlreadyExists": AlreadyExists,
    "Conflict": Conflict,
    "Expired": Gone,
    "Gone": Gone,
}
_BY_CODE: Final[Mapping[int, type[ApiError]]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}
_FIRST_SERVER_ERROR: Final = 500


def error_from_status(request: str, status: Mapping[str, Any], *, code: int = 0, retry_after: float = 0.0) -> ApiError:
    """Returns the error that a `Status` object tells of, whether it came as an answer or within a watch.

    Args:
        request: what was asked, for the error's text.
        status: the object; may be empty where the answer was none.
        code: the answer's own code, which stands where the object has none.
        retry_after: what the answer's header asks for; the object's details stand where it is 0.
    """
    code = int(status.get("code") or code)
    reason = str(status.get("reason") or "")
    otherwise = Unavailable if code >= _FIRST_SERVER_ERROR else ApiError
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, otherwise)
    details = status.get("details") or {}
    wait = retry_after or float(details.get("retryAfterSeconds") or 0)
    return kind(request, code, reason or kind.__name__, str(status.get("message") or ""), wait, details=details)
