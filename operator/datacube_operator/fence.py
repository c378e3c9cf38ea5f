"""What every write asks first: may this process still write?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from datacube_operator.errors import NotLeader

if TYPE_CHECKING:
    from datacube_operator.clock import Clock


class Fence:
    """Open until a moment of the clock; closed from the start unless told otherwise."""

    def __init__(self, clock: Clock, until: float = -math.inf) -> None:
        self._clock, self._until = clock, until

    @classmethod
    def none(cls, clock: Clock) -> Fence:
        """Returns one that never closes by itself: for a process that is alone, and for the lease itself."""
        return cls(clock, math.inf)

    @property
    def is_open(self) -> bool:
        """Whether a write may be sent now."""
        return self._clock.now() < self._until

    def extend(self, until: float) -> None:
        """Lets writes pass until then."""
        self._until = until

    def close(self) -> None:
        """Stops all writes."""
        self._until = -math.inf

    def remaining(self) -> float:
        """Returns for how many seconds writes may be under way.

        Raises:
            NotLeader: For none.
        """
        left = self._until - self._clock.now()
        if left <= 0:
            raise NotLeader("a write was stopped: this replica does not hold the lease")
        return left
