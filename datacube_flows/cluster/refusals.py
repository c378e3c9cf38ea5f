"""What a person is told where the cluster does not do what was asked: what happened, and what to do. Pure.

Nothing of what the server quotes is repeated, since it may be a secret that stands in the wrong place.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from datacube_flows.cluster.errors import (
    ApiError,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

EDITOR: Final = "datacube-editor"
"""The role of an installation that lets people make DataCubes (`rights.py` of the operator)."""

MAX_FIELDS: Final = 5

_NOT_ALLOWED: Final = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>[a-z]+) resource "(?P<what>[a-z/]+)" in API group "[^"]*"'
)


@contextmanager
def told_to_a_person(what: str) -> Iterator[None]:
    """Raises `Refused` in place of an `ApiError`.

    Args:
        what: was to be done, such as "apply DataCube 'team/x'".
    """
    try:
        yield
    except ApiError as error:
        raise Refused(f"cannot {what}: {explain(error)}") from None


def explain(error: ApiError) -> str:
    """Returns what an error means and what to do about it."""
    match error:
        case Unauthorized():
            return "the cluster does not take these credentials: they may be out of date, log in again"
        case Forbidden():
            return _explain_forbidden(error)
        case NotFound():
            return _explain_absence(error)
        case Invalid():
            return f"the cluster refuses {_fields(error)}: is its CRD of another version than this library?"
        case Unavailable() | TooManyRequests():
            said = f"it says {error.code} {error.reason}" if error.code else error.reason
            return f"the API server does not answer as it should ({said}): look at the server and the way to it"
    return f"the API server says {error.code} {error.reason}"


def is_over_quota(error: ApiError) -> bool:
    """Whether a quota of the namespace is used up: what was asked for may be had later."""
    return isinstance(error, Forbidden) and "exceeded quota" in error.message


def is_without_right(error: ApiError) -> bool:
    """Whether whoever asks has no right to, or is not known at all."""
    return isinstance(error, Unauthorized) or (
        isinstance(error, Forbidden) and _NOT_ALLOWED.search(error.message) is not None
    )


def _explain_forbidden(error: Forbidden) -> str:
    if found := _NOT_ALLOWED.search(error.message):
        role = f"bind it to ClusterRole '{EDITOR}'" if found["what"] == "datacubes" else "give it a role that may"
        return f"'{found['user']}' may not {found['verb']} {found['what']} there: {role}"
    if is_over_quota(error):
        return "a quota of the namespace is used up: raise it, or free something"
    return "a rule of the cluster refuses it: `kubectl apply --dry-run=server` of the same shows which"


def _explain_absence(error: NotFound) -> str:
    if error.details.get("kind") == "namespaces":
        return f"there is no namespace '{error.details.get('name')}': create it, or name another"
    if error.details.get("name"):
        return "it is not there"
    return "the cluster does not know this kind of object: install the operator and its CRD first"


def _fields(error: Invalid) -> str:
    """Names the fields that are refused."""
    causes = error.details.get("causes") or ()
    named = list(dict.fromkeys(str(cause.get("field")) for cause in causes if cause.get("field")))
    return ", ".join(named[:MAX_FIELDS]) or "what was sent"
