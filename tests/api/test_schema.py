"""The converter from models to structural schemas loses nothing unseen."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from datacube_flows.api.schema import UnknownKeyword, structural_schema
from datacube_flows.api.wire import BY_NAME, Labels, Name, Quantity, WireModel

pytestmark = pytest.mark.t0


class Inner(WireModel):
    """What is inside."""

    name: Name


class Outer(WireModel):
    """All shapes that models use."""

    one: Annotated[Inner | None, Field(description="One of them.")] = None
    many: Annotated[tuple[Inner, ...], Field(max_length=3, json_schema_extra=BY_NAME)] = ()
    size: Annotated[Quantity | None, Field(description="A size.")] = None
    labels: Labels | None = None
    word: Literal["a", "b"] = "a"
    only: Literal["x"]


class Exclusive(WireModel):
    value: Annotated[int, Field(gt=3)]


class Mixed(WireModel):
    value: int | str


class Stray(WireModel):
    value: Annotated[str, Field(json_schema_extra={"maxItems": 3})]


class Nested(WireModel):
    inner: Annotated[dict[str, str | None], Field(default_factory=dict)]
    default: Annotated[dict[str, str | None], Field(json_schema_extra={"default": {"a": None, "b": "c"}})]


def test_schema_is_written_out() -> None:
    schema = structural_schema(Outer)
    assert set(schema) == {"description", "properties", "required", "type"}
    assert schema["required"] == ["only"]
    fields = schema["properties"]
    inner = {"type": "object", "required": ["name"]}
    assert {k: fields["one"][k] for k in inner} == inner
    assert fields["one"]["description"] == "One of them."
    assert fields["many"]["items"]["description"] == "What is inside."
    assert (fields["many"]["maxItems"], fields["many"]["x-kubernetes-list-type"]) == (3, "map")
    assert fields["only"] == {"type": "string", "enum": ["x"]}
    assert fields["word"] == {"type": "string", "enum": ["a", "b"], "default": "a"}
    assert fields["labels"]["additionalProperties"] == {"type": "string", "maxLength": 63}


def test_schema_makes_quantities_int_or_string() -> None:
    size = structural_schema(Outer)["properties"]["size"]
    assert size["x-kubernetes-int-or-string"] is True
    assert "type" not in size
    assert size["anyOf"] == [{"type": "integer"}, {"type": "string"}]


def test_schema_drops_null_inside_a_default() -> None:
    assert structural_schema(Nested)["properties"]["default"]["default"] == {"b": "c"}
    assert "default" not in structural_schema(Nested)["properties"]["inner"]


@pytest.mark.parametrize(("model", "keyword"), [(Exclusive, "exclusiveMinimum"), (Mixed, "anyOf"), (Stray, "maxItems")])
def test_schema_raises_on_what_it_does_not_know(model: type[WireModel], keyword: str) -> None:
    with pytest.raises(UnknownKeyword, match=keyword):
        structural_schema(model)
