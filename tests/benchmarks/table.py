"""A table of measurements: one line a number, beside its peer's and what is wished for. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEAD: Final = ("name", "value", "peer", "ratio", "wished", "ok")
OK: Final = "ok"
MISSED: Final = "MISSED"
GAP: Final = "  "


class Of(Enum):
    """What of a row a wish is about."""

    VALUE = "value"
    RATIO = "ratio"


@dataclass(frozen=True)
class Wish:
    """What a number, or its ratio to the peer's, should be at most."""

    of: Of
    limit: float


@dataclass(frozen=True)
class Peer:
    """What a number is compared with: the same measure of something else, in the same run."""

    name: str
    value: float


@dataclass(frozen=True)
class Row:
    """A number.

    Attributes:
        name: what was measured.
        value: of it, in the unit.
        unit: of the value and its peer's; empty for counts.
        peer: where there is one.
        wish: where there is one.
    """

    name: str
    value: float
    unit: str = ""
    peer: Peer | None = None
    wish: Wish | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the peer's the value is; None without a peer."""
        if self.peer is None:
            return None
        return self.value / self.peer.value if self.peer.value else math.inf

    @property
    def verdict(self) -> str:
        """Whether the wish holds; empty without a wish."""
        if self.wish is None:
            return ""
        measured = self.value if self.wish.of is Of.VALUE else self.ratio
        if measured is None:
            raise ValueError(f"'{self.name}' is wished a ratio, and has no peer")
        return OK if measured <= self.wish.limit else MISSED

    @property
    def cells(self) -> tuple[str, ...]:
        """Its line, in parts."""
        peer = "" if self.peer is None else f"{_amount(self.peer.value, self.unit)} ({self.peer.name})"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return self.name, _amount(self.value, self.unit), peer, ratio, self._wished(), self.verdict

    def _wished(self) -> str:
        if self.wish is None:
            return ""
        if self.wish.of is Of.RATIO:
            return f"ratio <= {_number(self.wish.limit)}"
        return f"<= {_amount(self.wish.limit, self.unit)}"


def compare(
    name: str, values: Sequence[float], unit: str, peer: tuple[str, Sequence[float]], wish: Wish | None = None
) -> Row:
    """Returns the row of a median beside the median of a peer."""
    return Row(name, median(values), unit, Peer(peer[0], median(peer[1])), wish)


def at_most(limit: float) -> Wish:
    """Wishes a value."""
    return Wish(Of.VALUE, limit)


def times_at_most(limit: float) -> Wish:
    """Wishes a ratio."""
    return Wish(Of.RATIO, limit)


def render(rows: Iterable[Row]) -> str:
    """Returns the table as plain text, its columns aligned."""
    lines = [HEAD, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join(
        GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _amount(value: float, unit: str) -> str:
    return f"{_number(value)} {unit}".rstrip()


def _number(value: float) -> str:
    """Three digits that count, and no zeros after them."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
