"""Argo's own schemas, from its CRDs, read strictly: a field that they do not know is an error, as are wrong types.

What only an API server knows is left to it: rules in CEL, defaults, and whether a list's entries are unique.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.argo_build import ArgoParts

Schema = dict[str, Any]

TYPES = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "array": list, "object": dict}
CHECKED = {
    "type",
    "properties",
    "required",
    "items",
    "additionalProperties",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
}
LEFT_OUT = {
    "anyOf",  # stands only beside int-or-string, and says the same
    "default",
    "description",
    "format",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
}
METADATA = {"name", "namespace", "labels", "annotations", "ownerReferences"}


def read_schemas(parts: ArgoParts) -> dict[str, Schema]:
    """Returns kind -> schema, of the two kinds that are rendered."""
    found = {}
    for name in ("workflows", "workflowtemplates"):
        crd = yaml.load((parts.crds / f"argoproj.io_{name}.yaml").read_text(), yaml.CSafeLoader)
        found[crd["spec"]["names"]["kind"]] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def find_errors(document: dict[str, Any], schemas: dict[str, Schema]) -> list[str]:
    """Returns what is wrong with an object, each with its path."""
    unknown = [f"metadata.{name}: unknown" for name in document["metadata"] if name not in METADATA]
    rest = {name: value for name, value in document.items() if name != "metadata"} | {"metadata": {}}
    return unknown + list(_errors(rest, schemas[document["kind"]], ""))


def _errors(value: Any, schema: Schema, path: str) -> Iterator[str]:
    if surprising := schema.keys() - CHECKED - LEFT_OUT:
        raise NotImplementedError(f"{path}: the schema says {surprising}")
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield f"{path}: neither number nor text"
    elif "type" in schema and not _has_type(value, schema["type"]):
        yield f"{path}: not of type {schema['type']}"
    else:
        yield from _limits(value, schema, path)
        if isinstance(value, dict):
            yield from _object_errors(value, schema, path)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from _errors(item, schema.get("items", {}), f"{path}[{index}]")


def _has_type(value: Any, name: str) -> bool:
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _object_errors(value: dict[str, Any], schema: Schema, path: str) -> Iterator[str]:
    known, more = schema.get("properties", {}), schema.get("additionalProperties")
    yield from (f"{path}.{name}: required" for name in schema.get("required", ()) if name not in value)
    for name, inner in value.items():
        where = f"{path}.{name}".removeprefix(".")
        if name in known:
            yield from _errors(inner, known[name], where)
        elif isinstance(more, dict):
            yield from _errors(inner, more, where)
        elif not (more or schema.get("x-kubernetes-preserve-unknown-fields")):
            yield f"{where}: unknown"


def _limits(value: Any, schema: Schema, path: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: not one of {schema['enum']}"
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        yield f"{path}: does not match {schema['pattern']}"
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{path}: too small or too large"
    for kind, least, most in ((str, "minLength", "maxLength"), (list, "minItems", "maxItems")):
        if isinstance(value, kind) and not schema.get(least, 0) <= len(value) <= schema.get(most, len(value)):
            yield f"{path}: too short or too long"
