"""How long to wait after the n-th failure in a row. Pure: randomness comes in as an argument."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_DOUBLINGS = 32


@dataclass(frozen=True)
class Backoff:
    """Exponential: `first` seconds, doubled each time, at most `cap`, spread by `jitter` of itself."""

    first: float = 0.5
    cap: float = 300.0
    jitter: float = 0.25

    def seconds(self, failures: int, random_number: float) -> float:
        """Returns the pause after so many failures (at least 1), with a random number in [0, 1)."""
        pause = min(self.first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), self.cap)
        return pause * (1 + self.jitter * (2 * random_number - 1))


class Failures:
    """Counts failures in a row, and says how long to wait after each."""

    def __init__(self, backoff: Backoff, randomness: Callable[[], float] = random.random) -> None:
        self._backoff, self._random, self.count = backoff, randomness, 0

    def pause(self) -> float:
        """Counts one more failure and returns the seconds to wait."""
        self.count += 1
        return self._backoff.seconds(self.count, self._random())

    def reset(self) -> None:
        """Forgets them."""
        self.count = 0
