"""Models into the structural OpenAPI v3 schema of a CustomResourceDefinition.

Structural schemas know no `$ref`, no `additionalProperties: false` and no null type. Optional fields come out as plain
ones and **not** as `nullable`: the API server then drops a null where it reads one, so that null and absent are the
same to rules, to `self == oldSelf` and to whoever reads the object. (With `nullable` it would keep the null.)

The converter raises on a keyword that it does not know, so that a new pydantic cannot lose a constraint unseen.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic import BaseModel

Schema = dict[str, Any]

_COPIED: Final = (
    "description",
    "type",
    "anyOf",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "required",
)
"""Keywords that mean the same on both sides, in the order in which they are written out, before all others."""

_DROPPED: Final = frozenset({"title", "propertyNames"})
"""`propertyNames` has no counterpart in a structural schema; the models check the keys of maps."""


_BOUNDS: Final = {
    "array": {"minItems", "maxItems"},
    "integer": {"minimum", "maximum"},
    "object": {"minProperties", "maxProperties"},
    "string": {"minLength", "maxLength", "pattern"},
}


class UnknownKeyword(Exception):
    """A JSON schema keyword that has no known meaning in a structural schema, or none for this type."""


def structural_schema(model: type[BaseModel]) -> Schema:
    """Returns the structural schema of a model, everything in it written out.

    Raises:
        UnknownKeyword: the model uses what the converter does not know.
    """
    document = model.model_json_schema(by_alias=True)
    return _convert(document, document.get("$defs", {}))


def _convert(node: Schema, definitions: Schema) -> Schema:
    node = _without_null_branch(_without_reference(node, definitions), definitions)
    if "anyOf" in node:
        _check_int_or_string(node)
    _check_bounds(node)
    result: Schema = {}
    for keyword, value in node.items():
        if keyword in _DROPPED or keyword == "$defs":
            continue
        result |= _convert_keyword(keyword, value, definitions)
    ordered = [keyword for keyword in _COPIED if keyword in result]
    return {keyword: result[keyword] for keyword in (*ordered, *(k for k in result if k not in ordered))}


def _convert_keyword(keyword: str, value: Any, definitions: Schema) -> Schema:
    result: Schema = {keyword: copy.deepcopy(value)}
    match keyword:
        case "properties":
            result = {keyword: {name: _convert(node, definitions) for name, node in value.items()}}
        case "items":
            result = {keyword: _convert(value, definitions)}
        case "additionalProperties":
            result = {keyword: _convert(value, definitions)} if value else {}
        case "const":
            result = {"enum": [value]}
        case "default":
            result = _default(value)
        case _ if keyword not in _COPIED:
            raise UnknownKeyword(f"'{keyword}' is not known to the schema converter")
    return result


def _without_reference(node: Schema, definitions: Schema) -> Schema:
    """The node with what it refers to; what stands beside the reference (a description) wins."""
    if "$ref" not in node:
        return node
    target = definitions[node["$ref"].removeprefix("#/$defs/")]
    beside = {k: v for k, v in node.items() if k != "$ref"}
    return _without_reference(target, definitions) | beside


def _without_null_branch(node: Schema, definitions: Schema) -> Schema:
    """`X or null` as X."""
    branches = [b for b in node.get("anyOf", ()) if b.get("type") != "null"]
    if len(branches) != 1:
        return node
    beside = {k: v for k, v in node.items() if k != "anyOf"}
    return _without_null_branch(_without_reference(branches[0], definitions), definitions) | beside


def _check_int_or_string(node: Schema) -> None:
    branches = [{"type": "integer"}, {"type": "string"}]
    if node["anyOf"] != branches or "x-kubernetes-int-or-string" not in node:
        raise UnknownKeyword("'anyOf' is known only as an integer or a string, and as something or null")


def _check_bounds(node: Schema) -> None:
    """A bound that does not fit the type would silently bound nothing."""
    for kind, keywords in _BOUNDS.items():
        if node.get("type", kind) != kind and (stray := keywords & node.keys()):
            raise UnknownKeyword(f"{sorted(stray)} of a {node['type']}")


def _default(value: Any) -> Schema:
    """A default that says something; null and empty are what absence means anyway."""
    value = _without_nulls(value)
    return {} if value in (None, [], {}, "") else {"default": value}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value
