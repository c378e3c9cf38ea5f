"""What went wrong with a request to a store, from either client, by one table: reason, remedy, whether to try again."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from obstore.exceptions import BaseError

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Mapping

CLIENT_ERRORS: Final = (BaseError, boto.BotoCoreError, boto.ClientError, ResponseParserError, OSError, ValueError)
"""What the two clients raise; an OSError with an errno is the volume's."""

_KEYS = "check options 's3-access-key-id' and 's3-secret-access-key'"
_RIGHTS = "check what these keys may do with the bucket"
_ADDRESS = "check option 's3-endpoint' and the network"
_TABLE: Final[Mapping[str, tuple[Reason, str]]] = {
    "AccessDenied": (Reason.ACCESS_DENIED, _RIGHTS),
    "AllAccessDisabled": (Reason.ACCESS_DENIED, _RIGHTS),
    "AccountProblem": (Reason.ACCESS_DENIED, "look at the account of these keys"),
    "InvalidAccessKeyId": (Reason.ACCESS_DENIED, f"the store does not know the access key: {_KEYS}"),
    "SignatureDoesNotMatch": (Reason.ACCESS_DENIED, f"the secret does not belong to the access key: {_KEYS}"),
    "InvalidToken": (Reason.ACCESS_DENIED, "check option 's3-session-token'"),
    "ExpiredToken": (Reason.ACCESS_DENIED, "the session token has expired: renew it"),
    "RequestTimeTooSkewed": (Reason.CLOCK_SKEW, "set the clock of this machine, or of the store"),
    "RequestExpired": (Reason.CLOCK_SKEW, "set the clock of this machine, or of the store"),
    "NoSuchBucket": (Reason.NOT_FOUND, "check the bucket's name in option 's3-uri'"),
    "NoSuchKey": (Reason.NOT_FOUND, "check option 's3-uri'"),
    "NoSuchUpload": (Reason.TRANSFER_ERROR, "somebody ended the upload: run again"),
    "PreconditionFailed": (Reason.SOURCE_CHANGED, "it changed while it was read: run again when it is at rest"),
    "InvalidRange": (Reason.SOURCE_CHANGED, "it changed while it was read: run again when it is at rest"),
    "InvalidObjectState": (Reason.ACCESS_DENIED, "the object is archived: restore it first"),
    "KeyTooLongError": (Reason.INVALID_SPEC, "shorten the path: a key has at most 1024 bytes"),
    "InvalidBucketName": (Reason.INVALID_SPEC, "check the bucket's name in option 's3-uri'"),
    "PermanentRedirect": (Reason.INVALID_SPEC, "the bucket is in another region: set option 's3-region'"),
    "AuthorizationHeaderMalformed": (Reason.INVALID_SPEC, "the bucket is in another region: set option 's3-region'"),
    "EntityTooLarge": (Reason.INVALID_SPEC, "the store does not take objects of this size"),
    "QuotaExceeded": (Reason.ACCESS_DENIED, "the store's quota is used up: free space in the bucket or raise it"),
    "SlowDown": (Reason.SERVER_ERROR, "the store limits the rate of requests: try later"),
    "RequestTimeout": (Reason.SERVER_ERROR, "the network to the store is slow"),
    "BadDigest": (Reason.INTEGRITY_MISMATCH, "the bytes changed on their way: look at proxies and the network"),
    "XAmzContentSHA256Mismatch": (
        Reason.INTEGRITY_MISMATCH,
        "the bytes changed on their way: look at proxies and the network",
    ),
}
_BY_STATUS: Final[Mapping[int, str]] = {
    401: "AccessDenied",
    403: "AccessDenied",
    404: "NoSuchKey",
    408: "RequestTimeout",
    412: "PreconditionFailed",
    416: "InvalidRange",
    429: "SlowDown",
    503: "SlowDown",
}
_RETRIED_CODES: Final = frozenset({"SlowDown", "RequestTimeout", "BadDigest", "XAmzContentSHA256Mismatch"})
_LIMITED: Final = frozenset({429, 503})
_HTTP_ERROR: Final = 400
_SERVER_ERROR: Final = 500
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_TLS = re.compile(r"certificate|UnknownIssuer|InvalidMessage|HandshakeFailure|AlertReceived", re.IGNORECASE)
_CONNECT = re.compile(r"kind: (Connect|Request)\b|dns error|tcp connect error")
_NAME = re.compile(r"dns error|Name or service not known|nodename nor servname|Temporary failure in name")


_WORD = re.compile(r"\b[A-Z][A-Za-z0-9]+\b")
_TOOL_STATUS = re.compile(r"StatusCode: (\d{3})")
_TOOL_TEXTS: Final = (
    (
        re.compile(r"no space left on device|file too big for remaining disk|disk quota exceeded"),
        Reason.DISK_FULL,
        "the volume is full: free space on it or use a larger claim",
    ),
    (
        re.compile(r"permission denied|read-only file system|operation not permitted"),
        Reason.VOLUME_NOT_WRITABLE,
        "the volume cannot be written: check its mode and executor.securityContext (runAsUser, fsGroup)",
    ),
    (re.compile(r"x509:|tls: "), Reason.TLS_ERROR, "no trusted TLS connection: check 's3-endpoint' and the caBundle"),
    (re.compile(r"max-delete"), Reason.TOO_MANY_DELETES, "the sync would delete more than maxDelete allows"),
    (re.compile(r"corrupted on transfer|unexpected EOF"), Reason.INTEGRITY_MISMATCH, "the bytes changed on their way"),
    (
        re.compile(r"connection refused|no such host|i/o timeout|connection reset|network is unreachable"),
        Reason.ENDPOINT_UNREACHABLE,
        _ADDRESS,
    ),
)


class NotS3(Exception):
    """The answer has status 200 and is not what an S3 service says: a login page, a captive portal, a web server."""


class StalledRequest(Exception):
    """Nothing of a request's body left for too long."""


class WrongBytes(Exception):
    """The answer is whole and is not what was asked for: another length, or another content."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that failed.

    Attributes:
        status: of the answer, 0 when there was none.
        code: S3's own word, or "" .
        retry_after: seconds that the store asks to wait for; None when it does not say.
        is_passing: whether the same request may succeed in a moment.
    """

    reason: Reason
    message: str
    status: int = 0
    code: str = ""
    retry_after: float | None = None
    is_passing: bool = False

    @property
    def is_limited(self) -> bool:
        """Whether the store limits the rate."""
        return self.status in _LIMITED or self.code == "SlowDown"

    def of_listed(self) -> Failure:
        """The same failure for an object that was listed a moment ago: if it is gone, the source has changed."""
        if self.code != "NoSuchKey":
            return self
        message = "it was deleted while it was read: run again when the source is at rest"
        return replace(self, reason=Reason.SOURCE_CHANGED, message=message)

    def error(self, what: str) -> TransferError:
        """The error that ends the attempt; `what` is said first: what was tried, with what."""
        return TransferError(self.reason, f"{what}: {self.message}")


def explain(error: Exception) -> Failure:
    """Returns what an error of one of the clients means; an OSError of the volume itself is raised again."""
    if isinstance(error, NotS3):
        return Failure(Reason.SERVER_ERROR, str(error), is_passing=True)
    if isinstance(error, StalledRequest):
        return Failure(Reason.ENDPOINT_UNREACHABLE, f"the upload stalled: {_ADDRESS}", is_passing=True)
    if isinstance(error, WrongBytes):
        return Failure(Reason.INTEGRITY_MISMATCH, str(error), is_passing=True)
    if isinstance(error, boto.ClientError):
        return _of_client_error(error)
    if isinstance(error, OSError) and error.errno:
        raise error
    text = str(error)
    if status := _STATUS.search(text):
        code = _CODE.search(text)
        return _of_answer(int(status[1]), code[1] if code else "", None)
    return _of_connection(error, text)


def explain_text(text: str) -> Failure:
    """Returns what the last lines of a tool that speaks S3 mean: the last of S3's words in them, else the system's."""
    for pattern, reason, remedy in _TOOL_TEXTS:
        if pattern.search(text):
            return Failure(reason, remedy)
    codes = [c for c in _WORD.findall(text) if c in _TABLE]
    status = _TOOL_STATUS.findall(text)
    if codes or status:
        return _of_answer(int(status[-1]) if status else 0, codes[-1] if codes else "", None)
    return Failure(Reason.TRANSFER_ERROR, text.strip().splitlines()[-1][:300] if text.strip() else "it said nothing")


def _of_client_error(error: boto.ClientError) -> Failure:
    answer = error.response.get("ResponseMetadata", {})
    headers = answer.get("HTTPHeaders", {})
    wait = str(headers.get("retry-after", ""))
    status = answer.get("HTTPStatusCode", 0)
    return _of_answer(status, error.response["Error"].get("Code", ""), float(wait) if wait.isdigit() else None)


def _of_answer(status: int, code: str, retry_after: float | None) -> Failure:
    code = code if code in _TABLE else _BY_STATUS.get(status, code)
    passing = status >= _SERVER_ERROR or code in _RETRIED_CODES
    if code in _TABLE:
        reason, remedy = _TABLE[code]
        return Failure(reason, f"{code} ({status}): {remedy}", status, code, retry_after, passing)
    if status >= _SERVER_ERROR:
        return Failure(Reason.SERVER_ERROR, f"the store failed ({status} {code})", status, code, retry_after, passing)
    if status < _HTTP_ERROR:
        message = (
            f"the store redirects elsewhere ({status}), which is not followed: set option 's3-endpoint' to its own URL"
        )
        return Failure(Reason.INVALID_SPEC, message, status, code)
    return Failure(Reason.INVALID_SPEC, f"the store refuses the request ({status} {code})", status, code)


def _of_connection(error: Exception, text: str) -> Failure:
    if isinstance(error, boto.SSLError) or _TLS.search(text):
        message = (
            "no trusted TLS connection: check option 's3-endpoint' and the authority (caBundle) of its certificate"
        )
        return Failure(Reason.TLS_ERROR, message)
    if isinstance(error, ResponseParserError):
        return Failure(Reason.SERVER_ERROR, f"the answer is not S3's: {_ADDRESS}", is_passing=True)
    if isinstance(error, ValueError):
        return Failure(Reason.INVALID_SPEC, f"the request cannot be made: {text.splitlines()[0][:200]}")
    if isinstance(error, boto.ConnectionError | boto.ProxyConnectionError) or _CONNECT.search(text):
        cause = "its name is not known" if _NAME.search(text) else "no connection to it"
        return Failure(Reason.ENDPOINT_UNREACHABLE, f"{cause}: {_ADDRESS}", is_passing=True)
    return Failure(Reason.ENDPOINT_UNREACHABLE, "the connection broke or stalled: " + _ADDRESS, is_passing=True)
