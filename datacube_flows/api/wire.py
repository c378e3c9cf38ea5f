"""What all models of the wire are made of: the base class, bounded texts, numbers, lists and maps.

Every text, list and map is bounded: the API server refuses a CRD whose rules could cost too much, and estimates the
cost by these bounds. A null means what an absent field means, everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from datacube_flows.api import quantity

MAX_VALUE = 32_768
"""Characters of one variable's value. Linux takes 128 KiB for one; this leaves room for four bytes a character."""

SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""A lower-case RFC 1123 subdomain: what Kubernetes names its objects by."""

ENV_NAME = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"
"""What Kubernetes takes as the name of an environment variable."""

KEY = r"^[-._a-zA-Z0-9]+$"


def without_nulls(data: Any) -> Any:
    """Returns a mapping without the entries that are null; anything else as it is."""
    return {k: v for k, v in data.items() if v is not None} if isinstance(data, Mapping) else data


class WireModel(BaseModel):
    """Base of all models: frozen, snake_case in Python and camelCase on the wire, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """Charts send `subPath:` and `env:` with nothing behind them; the API server drops such nulls too.

        It refuses an unknown field even when it is null, so that stays to be refused.
        """
        if not isinstance(data, Mapping):
            return data
        return {k: v for k, v in data.items() if v is not None or k not in _names(cls)}


@cache
def _names(model: type[BaseModel]) -> frozenset[str]:
    """The fields of a model, by the names of Python and of the wire."""
    return frozenset(name for field, info in model.model_fields.items() for name in (field, info.alias or field))


Text = Annotated[str, Strict()]
Int = Annotated[int, Strict()]
Int32 = Annotated[Int, Field(le=2_147_483_647, json_schema_extra={"format": "int32"})]
Int64 = Annotated[Int, Field(json_schema_extra={"format": "int64"})]
Bool = Annotated[bool, Strict()]

Word = Annotated[Text, Field(max_length=63)]
Line = Annotated[Text, Field(max_length=253)]
Name = Annotated[Text, Field(min_length=1, max_length=253, pattern=SUBDOMAIN)]
LabelKey = Annotated[Text, Field(min_length=1, max_length=317)]
LabelValue = Annotated[Text, Field(max_length=63)]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=64), BeforeValidator(without_nulls)]
Annotations = Annotated[
    dict[LabelKey, Annotated[Text, Field(max_length=4096)]], Field(max_length=64), BeforeValidator(without_nulls)
]


def _once_each(items: Any) -> Any:
    names = [item.name for item in items]
    if len(set(names)) < len(names):
        raise ValueError("a name stands here twice")
    return items


ONCE_EACH = AfterValidator(_once_each)
"""For a list whose entries the API server tells apart by their names: no two have the same."""

ATOMIC = {"x-kubernetes-list-type": "atomic"}
BY_NAME = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


def _quantity(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("expected a quantity such as 500M, 10Mi or 1e6")
    quantity.parse(value)
    return value


Quantity = Annotated[
    int | str,
    PlainValidator(_quantity),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "pattern": quantity.PATTERN,
            "maxLength": quantity.MAX_LENGTH,
        }
    ),
]
"""A number with an optional suffix; read it with `quantity.parse` or `quantity.whole`."""

Quantities = Annotated[dict[LabelKey, Quantity], Field(max_length=32), BeforeValidator(without_nulls)]
