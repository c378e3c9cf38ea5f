"""Which failures are retried, after how long, and the exit codes that carry this between processes (SPEC section 5).

Pure: randomness and time come in as arguments.
"""

from __future__ import annotations

from typing import Final

from datacube_flows.api.reasons import PERMANENT, SUCCEEDED, Reason

EXIT_OK: Final = 0
EXIT_PERMANENT: Final = 65
"""The attempt failed in a way that cannot get better by itself; engines do not retry it (sysexits.h EX_DATAERR)."""
EXIT_RETRYABLE: Final = 75
"""The attempt failed and another may succeed (sysexits.h EX_TEMPFAIL)."""
EXIT_TERMINATED: Final = 143
"""The attempt was ended by SIGTERM."""

BACKOFF_FIRST_SECONDS: Final = 10.0
BACKOFF_FACTOR: Final = 2.0
BACKOFF_CAP_SECONDS: Final = 360.0
BACKOFF_JITTER: Final = 0.2


def exit_code(reason: Reason) -> int:
    """Returns the code with which an attempt that ended for `reason` exits."""
    if reason in SUCCEEDED:
        return EXIT_OK
    return EXIT_PERMANENT if reason in PERMANENT else EXIT_RETRYABLE


def is_retried(reason: Reason, *, attempts: int, backoff_limit: int) -> bool:
    """Whether another attempt follows after `attempts` of them, the last of which failed for `reason`."""
    return reason not in PERMANENT and attempts <= backoff_limit


def backoff_seconds(failures: int, *, jitter: float) -> float:
    """Returns the pause before the next attempt: 10 s, doubled each time, at most 6 minutes, spread by 20 %.

    Args:
        failures: attempts that failed so far, at least 1.
        jitter: a random number in [0, 1).
    """
    exponent = min(failures - 1, 16)
    pause = min(BACKOFF_FIRST_SECONDS * BACKOFF_FACTOR**exponent, BACKOFF_CAP_SECONDS)
    return pause * (1 + BACKOFF_JITTER * (2 * jitter - 1))
