"""Kubernetes quantities (`100Gi`, `1.5e3`, `500m`) as numbers."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

_NUMBER = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)"
PATTERN: Final = rf"^[+-]?{_NUMBER}(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]+))?$"
"""Grammar of https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/."""

MAX_LENGTH: Final = 64
MAX_EXPONENT: Final = 30
"""Far above what Kubernetes keeps (2**63), and low enough that no text makes a number of a million digits."""

_PARTS: Final = re.compile(rf"(?P<number>[+-]?{_NUMBER})(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?")
_FACTORS: Final = {
    "": Decimal(1),
    **{unit: Decimal(10) ** power for unit, power in {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9}.items()},
    **{unit: Decimal(10) ** power for unit, power in {"T": 12, "P": 15, "E": 18}.items()},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def parse(text: int | str) -> Decimal:
    """Returns the number that a quantity stands for.

    Raises:
        ValueError: it is none.
    """
    match = _PARTS.fullmatch(str(text)) if len(str(text)) <= MAX_LENGTH else None
    if match is None:
        raise ValueError(f"'{str(text)[:MAX_LENGTH]}' is not a quantity such as 500M, 10Mi or 1e6")
    number, suffix = Decimal(match["number"]), match["suffix"] or ""
    if suffix in _FACTORS:
        return number * _FACTORS[suffix]
    exponent = int(suffix[1:])
    if abs(exponent) > MAX_EXPONENT:
        raise ValueError(f"'{text}' is out of range")
    return number * Decimal(10) ** exponent


def whole(text: int | str) -> int:
    """Returns the number rounded up to a whole one, as Kubernetes' `Quantity.Value` does: bytes, for instance.

    Raises:
        ValueError: it is no quantity.
    """
    return int(parse(text).to_integral_value(ROUND_CEILING))
