"""Reads a CRD as the API server does: drops nulls, fills defaults, checks list maps, evaluates CEL rules in place."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import cel

from datacube_flows.core.crd import make_schema

Schema = dict[str, Any]

KUBERNETES_STRINGS = {"upperAscii": str.upper, "replace": str.replace}
"""Kubernetes' string functions that the rules use and the engine has not, for ASCII as the names here are."""


@dataclass(frozen=True)
class Refusal:
    """What the API server would refuse.

    Attributes:
        at: place in the schema of the rule, `[]` for items.
        rule: its expression, or the keyword that stands for one.
        path: place in the document.
    """

    at: str
    rule: str
    path: str
    message: str


@cache
def schema() -> Schema:
    """The schema under test, made once."""
    return make_schema()


@cache
def program(expression: str) -> cel.Program:
    """A compiled expression."""
    return cel.compile(expression)


def admitted(document: Any) -> Any:
    """The document as the API server stores it: without nulls, with defaults."""
    return _admit(copy.deepcopy(document), schema())


def _admit(value: Any, node: Schema) -> Any:
    if isinstance(value, list):
        return [_admit(item, node.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    fields = node.get("properties", {})
    defaults = {name: part["default"] for name, part in fields.items() if "default" in part}
    kept = {name: item for name, item in value.items() if item is not None}
    inner = node.get("additionalProperties", {})
    return defaults | {name: _admit(item, fields.get(name, inner)) for name, item in kept.items()}


def refusals(document: Any, stored: Any = None) -> list[Refusal]:
    """Everything that the rules of the CRD say of a document, given the stored object for an update."""
    return list(_refusals(admitted(document), admitted(stored), schema(), ""))


def _refusals(value: Any, old: Any, node: Schema, path: str) -> Iterator[Refusal]:
    if rules := node.get("x-kubernetes-validations", ()):
        yield from _evaluated(rules, value, old, path)
    if isinstance(value, list):
        yield from _repeated(value, node, path)
        for i, item in enumerate(value):
            yield from _refusals(item, None, node.get("items", {}), f"{path}[{i}]")
    elif isinstance(value, dict):
        for name, part in node.get("properties", {}).items():
            if name in value:
                before = old.get(name) if isinstance(old, dict) else None
                yield from _refusals(value[name], before, part, f"{path}.{name}".lstrip("."))


def _evaluated(rules: list[Schema], value: Any, old: Any, path: str) -> Iterator[Refusal]:
    context = cel.Context({"self": value, "oldSelf": old}, KUBERNETES_STRINGS)
    for rule in rules:
        if "oldSelf" in rule["rule"] and old is None:
            continue  # a transition rule waits for an update
        if program(rule["rule"]).execute(context) is not True:
            place = re.sub(r"\[\d+\]", "[]", path)
            yield Refusal(place, rule["rule"], path + rule.get("fieldPath", ""), _message(rule, context))


def _message(rule: Schema, context: cel.Context) -> str:
    if "messageExpression" not in rule:
        return str(rule["message"])
    return str(program(rule["messageExpression"]).execute(context))


def _repeated(value: list[Any], node: Schema, path: str) -> Iterator[Refusal]:
    keys = node.get("x-kubernetes-list-map-keys", ())
    seen = [tuple(item.get(key) for key in keys) for item in value if isinstance(item, dict)] if keys else []
    for i, key in enumerate(seen):
        if key in seen[:i]:
            yield Refusal(path, "x-kubernetes-list-map-keys", path, f"Duplicate value at {i}")
