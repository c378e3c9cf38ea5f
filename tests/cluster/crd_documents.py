"""Documents made from the models themselves, so that a field that is added is tested without being named here."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from datacube_flows.api.datacube import KIND, DataCubeSpec
from datacube_flows.api.status import DataCubeStatus
from tests.core.rule_documents import document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

Document = dict[str, Any]
Schema = dict[str, Any]

EXAMPLES = Path(__file__).parents[2] / "examples"
MOMENT = "2026-01-01T12:00:00Z"
LARGE = 2**53 + 1
"""No floating-point number of 64 bits holds it."""


def example_documents() -> dict[str, Document]:
    """Returns file name -> DataCube of every example."""
    found = {f.name: list(yaml.safe_load_all(f.read_text())) for f in sorted(EXAMPLES.glob("*.yaml"))}
    return {name: part for name, parts in found.items() for part in parts if part and part["kind"] == KIND}


def full_documents() -> tuple[Document, Document]:
    """Returns a download and an upload which together set every field that may be set."""
    spec = full_value(DataCubeSpec)
    executor = spec["executor"] | {"env": _entries(spec["executor"]["env"][0], "A", "B", "C")}
    executor["options"] |= {"extraArgs": ["--transfers=8"]}
    download = document("s3-download")
    download["spec"] = spec | {"source": _store(spec["source"]), "sink": _claim(spec["sink"]), "executor": executor}
    upload = document("s3-upload")
    source = _claim(spec["source"])
    del source["pvc"]["template"]
    upload["spec"] = {"source": source, "sink": _store(spec["sink"])}
    return download, upload


NEVER_SET = "spec.source.pvc.template"
"""The one field that no document may set: it acts on a sink only."""


def full_status() -> Document:
    """Returns a status with every field set."""
    status: Document = full_value(DataCubeStatus)
    return status


def full_value(model: type[BaseModel]) -> Any:
    """Returns a value of a model in which every field is set."""
    schema = model.model_json_schema(by_alias=True)
    return _full(schema, schema.get("$defs", {}))


def _full(node: Schema, definitions: Schema) -> Any:
    node = _resolved(node, definitions)
    if "enum" in node or "const" in node:
        return node["const"] if "const" in node else node["enum"][0]
    if "properties" in node:
        return {name: _full(part, definitions) for name, part in node["properties"].items()}
    if "items" in node:
        return [_full(node["items"], definitions)]
    if "additionalProperties" in node:
        return {"storage": _full(node["additionalProperties"], definitions)}
    return _full_scalar(node)


def _full_scalar(node: Schema) -> Any:
    if node.get("format") == "date-time":
        return MOMENT
    values = {"boolean": True, "integer": node.get("maximum", LARGE), "string": "text"}
    return values[node["type"]] if "type" in node else "10Gi"  # without one: a whole number or a text, a quantity


def _resolved(node: Schema, definitions: Schema) -> Schema:
    """The node that is meant: behind references, and without the branch that is null."""
    if "$ref" in node:
        return _resolved(definitions[node["$ref"].removeprefix("#/$defs/")], definitions)
    branches = [b for b in node.get("anyOf", ()) if b.get("type") != "null"]
    return _resolved(branches[0], definitions) if len(branches) == 1 else node


def _store(end: Document) -> Document:
    """The end as a store, with an entry for each way in which an option gets its value."""
    names = ("s3-uri", "s3-access-key-id", "s3-secret-access-key")
    entries = _entries(end["options"][0], *names)
    entries[0]["value"] = "s3://bucket/path"
    return {name: part for name, part in end.items() if name != "pvc"} | {"type": "s3", "options": entries}


def _claim(end: Document) -> Document:
    return copy.deepcopy({name: part for name, part in end.items() if name != "options"} | {"type": "pvc"})


def _entries(entry: Document, plain: str, *referring: str) -> list[Document]:
    """An entry that sets too much as several of which each is right."""
    rest = {name: part for name, part in entry.items() if name != "valueFrom"}
    without_value = {name: part for name, part in rest.items() if name != "value"}
    sources = [{name: part} for name, part in entry["valueFrom"].items()]
    assert len(sources) == len(referring)
    more = [without_value | {"name": n, "valueFrom": s} for n, s in zip(referring, sources, strict=True)]
    return copy.deepcopy([rest | {"name": plain}, *more])


def model_paths(model: type[BaseModel], root: str) -> set[str]:
    """Returns the paths of all fields of a model, `[]` for the items of a list."""
    schema = model.model_json_schema(by_alias=True)
    return set(_schema_paths(schema, schema.get("$defs", {}), root))


def _schema_paths(node: Schema, definitions: Schema, path: str) -> Iterator[str]:
    node = _resolved(node, definitions)
    if "items" in node:
        yield from _schema_paths(node["items"], definitions, f"{path}[]")
    for name, part in node.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from _schema_paths(part, definitions, f"{path}.{name}")


def set_paths(value: Any, path: str, known: set[str]) -> set[str]:
    """Returns which of the known paths a value sets."""
    found = {path} & known
    if isinstance(value, dict):
        return found.union(*(set_paths(part, f"{path}.{name}", known) for name, part in value.items()))
    if isinstance(value, list):
        return found.union(*(set_paths(part, f"{path}[]", known) for part in value))
    return found


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yields the place of everything inside a value, and what stands there."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield (*path, name), part
        yield from places(part, (*path, name))


def changed(document: Document, place: tuple[str | int, ...], value: Any) -> Document:
    """Returns a copy in which something else stands at a place."""
    copied = copy.deepcopy(document)
    here: Any = copied
    for part in place[:-1]:
        here = here[part]
    here[place[-1]] = copy.deepcopy(value)
    return copied
