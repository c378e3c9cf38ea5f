"""Kubernetes quantities as numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest

from datacube_flows.api import quantity

pytestmark = pytest.mark.t0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (5, 5),
        ("0", 0),
        ("100Gi", 100 * 1024**3),
        ("1Ei", 1024**6),
        ("50M", 50_000_000),
        ("1.5k", 1500),
        (".5Ki", 512),
        ("1e3", 1000),
        ("1E3", 1000),
        ("2E", 2 * 10**18),
        ("+1", 1),
        ("-1Ki", -1024),
        ("1.", 1),
        ("500m", Decimal("0.5")),
        ("1n", Decimal("1e-9")),
    ],
)
def test_quantity_is_read(text: int | str, number: Decimal) -> None:
    assert quantity.parse(text) == number


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1GB", "1gi", "0x10", "1e", "1e1.5", "1\n", "9" * 65, "1e999999"])
def test_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"quantity|range"):
        quantity.parse(text)


def test_whole_rounds_up() -> None:
    assert [quantity.whole(q) for q in ("500m", "1001m", "1Ki", 0)] == [1, 2, 1024, 0]
