"""Exit codes of the `datacube` command, one per class of outcome; the README's table is made from `MEANINGS`."""

from __future__ import annotations

from typing import Final

from datacube_flows.api.reasons import PERMANENT, SUCCEEDED, WAITING, Reason

OK: Final = 0
BUG: Final = 1
USAGE: Final = 2
INVALID: Final = 3
PERMANENT_FAILURE: Final = 4
RETRIES_EXHAUSTED: Final = 5
NOT_STARTED: Final = 6
INTERRUPTED: Final = 130
TERMINATED: Final = 143

MEANINGS: Final = {
    OK: "every document succeeded",
    BUG: "a bug in DataCube; please report it",
    USAGE: "wrong arguments, or a file that cannot be read",
    INVALID: "a document breaks rules; nothing was started",
    PERMANENT_FAILURE: "a transfer failed in a way that another attempt cannot mend",
    RETRIES_EXHAUSTED: "a transfer failed and its retries are used up",
    NOT_STARTED: "something is missing (a Secret, a claim, a free path, an engine); nothing was spent",
    INTERRUPTED: "ended by Ctrl-C; nothing half-written is in place",
    TERMINATED: "ended by SIGTERM; nothing half-written is in place",
}


def code_of(reason: Reason) -> int:
    """Returns the exit code for the final reason of a run."""
    if reason in SUCCEEDED:
        return OK
    if reason in WAITING:
        return NOT_STARTED
    return PERMANENT_FAILURE if reason in PERMANENT else RETRIES_EXHAUSTED


def worst(codes: list[int]) -> int:
    """Returns the code of the first document that did not succeed, OK when all did."""
    return next((code for code in codes if code != OK), OK)
