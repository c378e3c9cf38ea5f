"""Who waits for a path, by claim, so that a path that gets free is told to those alone.

Held in memory only: whoever begins looks at every DataCube, and whoever waits looks again by itself after a while.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class PathQueue:
    """Remembers keys of DataCubes that wait, until their claim is told of.

    Args:
        add: has a DataCube looked at.
    """

    def __init__(self, add: Callable[[str], None]) -> None:
        self._add = add
        self._waiting: defaultdict[str, set[str]] = defaultdict(set)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def wait(self, claim: str, key: str) -> None:
        """Has a DataCube looked at when a path on the claim may have got free; once."""
        self._waiting[claim].add(key)

    def wake(self, claim: str) -> None:
        """Has everybody looked at who waits for a path on the claim."""
        for key in self._waiting.pop(claim, ()):
            self._add(key)
