"""Says why a hub refused or failed: every error of `huggingface_hub` and of its HTTP client becomes a reason."""

from __future__ import annotations

import json
import ssl
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.hf_library import errors, httpx2

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SERVER_TEXT = 200
_PREFIXES = {"model": "", "dataset": "datasets/", "space": "spaces/"}
_BY_STATUS = {
    401: Reason.ACCESS_DENIED,
    402: Reason.ACCESS_DENIED,
    403: Reason.ACCESS_DENIED,
    404: Reason.NOT_FOUND,
    400: Reason.INVALID_SPEC,
    413: Reason.INVALID_SPEC,
    422: Reason.INVALID_SPEC,
    429: Reason.SERVER_ERROR,
}


@dataclass(frozen=True, slots=True)
class Repository:
    """Where on which hub a transfer works; the token is never shown."""

    endpoint: str
    id: str
    type: str
    revision: str
    token: str = field(default="", repr=False)

    @property
    def page(self) -> str:
        """Address of the repository's page, where a person asks for access."""
        return f"{self.endpoint}/{_PREFIXES[self.type]}{self.id}"

    def __str__(self) -> str:
        return f"{self.type} repository '{self.id}'"


@contextmanager
def hub_errors(repository: Repository) -> Iterator[None]:
    """Turns every error of the hub's client into the TransferError that fits; others pass through."""
    try:
        yield
    except TransferError:
        raise
    except Exception as error:
        failure = translate(error, repository)
        if failure is None:
            raise
        raise failure from error


def translate(error: BaseException, repository: Repository) -> TransferError | None:
    """Returns what an error means for a transfer of `repository`, None where it is none of the hub's."""
    for cause in _causes(error):
        if isinstance(cause, TransferError):
            return cause
        if isinstance(cause, errors.HfHubHTTPError):
            return _refused(cause, repository)
        if isinstance(cause, httpx2.HTTPError | httpx2.InvalidURL):
            return unreachable(cause, repository.endpoint)
        if isinstance(cause, json.JSONDecodeError):
            return TransferError(
                Reason.SERVER_ERROR,
                f"{repository.endpoint} does not answer as a hub does: check HF_ENDPOINT and the proxy",
            )
        if isinstance(cause, errors.HFValidationError):
            return TransferError(Reason.INVALID_SPEC, f"option repo: {cause}")
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from: the client wraps what happened to one file in a RuntimeError."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _refused(error: errors.HfHubHTTPError, repository: Repository) -> TransferError:
    if known := next((make for kind, make in _BY_ERROR if isinstance(error, kind)), None):
        return known(error, repository)
    status = error.response.status_code
    if status == httpx2.codes.UNAUTHORIZED and repository.token:
        return TransferError(
            Reason.ACCESS_DENIED, f"{repository.endpoint} does not accept the token: renew it in option token's Secret"
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status == httpx2.codes.UNAUTHORIZED:
        return TransferError(Reason.NOT_FOUND, _missing(repository))
    if error.response.request.method == "PUT" and status == httpx2.codes.BAD_REQUEST:
        text = f"the storage of {repository.endpoint} refuses what arrived as damaged{_server_says(error)}"
        return TransferError(Reason.INTEGRITY_MISMATCH, text)
    return by_status(status, f"{repository.endpoint} answered {status} for {repository}{_server_says(error)}")


def _gated(_error: errors.HfHubHTTPError, repository: Repository) -> TransferError:
    if not repository.token:
        text = f"{repository} is gated: ask for access at {repository.page}, then give option token"
    else:
        text = f"{repository} is gated and the token's user has no access: ask for it at {repository.page}"
    return TransferError(Reason.GATED_REPO, text)


def _disabled(_error: errors.HfHubHTTPError, repository: Repository) -> TransferError:
    return TransferError(Reason.ACCESS_DENIED, f"the hub has disabled {repository}")


def _no_revision(_error: errors.HfHubHTTPError, repository: Repository) -> TransferError:
    text = f"{repository} has no revision '{repository.revision}': check option revision"
    return TransferError(Reason.REF_NOT_FOUND, text)


def _no_entry(error: errors.HfHubHTTPError, repository: Repository) -> TransferError:
    return TransferError(Reason.NOT_FOUND, f"{repository} lacks a file that was asked for{_server_says(error)}")


_BY_ERROR: Final = (
    (errors.GatedRepoError, _gated),
    (errors.DisabledRepoError, _disabled),
    (errors.RevisionNotFoundError, _no_revision),
    (errors.RemoteEntryNotFoundError, _no_entry),
)
"""What the library tells apart -> what it means; the first that fits counts."""


def _missing(repository: Repository) -> str:
    if repository.token:
        return f"{repository} does not exist at {repository.endpoint}, or the token has no access to it"
    return (
        f"{repository} does not exist at {repository.endpoint}, or is private: check option repo, or give option token"
    )


def by_status(status: int, message: str) -> TransferError:
    """Returns the failure that an HTTP status stands for."""
    fallback = Reason.SERVER_ERROR if status >= httpx2.codes.INTERNAL_SERVER_ERROR else Reason.TRANSFER_ERROR
    return TransferError(_BY_STATUS.get(status, fallback), message)


def _server_says(error: errors.HfHubHTTPError) -> str:
    text = " ".join((error.server_message or "").split())
    return f": {text[:MAX_SERVER_TEXT]}" if text else ""


def unreachable(error: Exception, address: str) -> TransferError:
    """Returns the failure of a connection: TLSError for a certificate, else EndpointUnreachable."""
    if any(isinstance(cause, ssl.SSLError) for cause in _contexts(error)) or "CERTIFICATE_VERIFY" in str(error):
        return TransferError(
            Reason.TLS_ERROR, f"no trusted TLS connection to {address}: {error}; check the address and the CA bundle"
        )
    what = "does not answer" if isinstance(error, httpx2.TimeoutException) else "cannot be reached"
    detail = str(error) or type(error).__name__
    return TransferError(
        Reason.ENDPOINT_UNREACHABLE, f"{address} {what} ({detail}): check HF_ENDPOINT, the proxy and the network"
    )


def _contexts(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
