"""The CustomResourceDefinition: schema of the models, with every rule that CEL can state, and kubectl's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.datacube import GROUP, KIND, VERSION, DataCube, DataCubeSpec
from datacube_flows.api.schema import Schema, structural_schema
from datacube_flows.api.status import DataCubeStatus
from datacube_flows.core.kinds import KINDS
from datacube_flows.core.rule import DIRECTION_AT, cel_string
from datacube_flows.core.rules import RULES

if TYPE_CHECKING:
    from datacube_flows.core.kinds import Direction, Option
    from datacube_flows.core.rule import Rule

PLURAL: Final = "datacubes"
WIDE: Final = 1
"""Priority of the columns that only `kubectl get -o wide` shows."""

COLUMNS: Final = (
    ("From", "string", ".spec.source.type", "What the data comes from.", 0),
    ("To", "string", ".spec.sink.type", "What the data goes to.", 0),
    ("Phase", "string", ".status.phase", "Where the DataCube stands.", 0),
    ("Progress", "integer", ".status.progress.percent", "Share of the bytes that are done, in percent.", 0),
    ("Attempts", "integer", ".status.attempts[-1:].number", "How many attempts there were.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "How old the DataCube is.", 0),
    ("Engine", "string", ".status.workflow.engine", "What executes the transfer.", WIDE),
    ("Rate", "integer", ".status.progress.bytesPerSecond", "Bytes per second.", WIDE),
    ("Reason", "string", ".status.conditions[*].reason", "Why it stands there.", WIDE),
)


def make_crd() -> dict[str, Any]:
    """Returns the CustomResourceDefinition as a plain object, ready to be written as YAML."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["dcube"],
                "categories": ["datacube"],
            },
            "scope": "Namespaced",
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(*column) for column in COLUMNS],
        "schema": {"openAPIV3Schema": make_schema()},
    }


def _column(name: str, kind: str, path: str, description: str, priority: int) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | ({"priority": priority} if priority else {})


def make_schema() -> Schema:
    """Returns the schema of a DataCube, rules included."""
    schema: Schema = {
        "type": "object",
        "description": DataCube.__doc__,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "tensorstack.dev/v1beta1."},
            "kind": {"type": "string", "description": "DataCube."},
            "metadata": {"type": "object"},
            "spec": structural_schema(DataCubeSpec),
            "status": structural_schema(DataCubeStatus),
        },
    }
    for end, direction in DIRECTION_AT.items():
        schema_at(schema, f"{end}.options")["description"] += f"\n{_options_help(direction)}"
    for rule in RULES:
        for at in rule.at if rule.cel else ():
            schema_at(schema, at).setdefault("x-kubernetes-validations", []).append(_validation(rule))
    return schema


def _options_help(direction: Direction) -> str:
    """The options that a store has at the end where it stands for this direction, for `kubectl explain`."""
    kinds = [kind for kind in KINDS if kind.direction is direction]
    return "\n".join(f"{kind.store}:\n" + "\n".join(map(_option_help, kind.options)) for kind in kinds)


def _option_help(option: Option) -> str:
    return f"- {option.name}{' (required)' if option.required else ''}: {option.help}"


def schema_at(schema: Schema, path: str) -> Schema:
    """Returns the part of a schema that describes a path such as `spec.source.options[].value`.

    Raises:
        KeyError: there is no such field.
    """
    node = schema
    for part in path.replace("[]", ".[]").split("."):
        node = node["items"] if part == "[]" else node["properties"][part]
    return node


def _validation(rule: Rule) -> Schema:
    validation: Schema = {"rule": rule.cel, "message": rule.text}
    if rule.values:
        validation["message"] = rule.text.format_map(dict.fromkeys(rule.values, "..."))
        validation["messageExpression"] = _message_expression(rule)
    if rule.field_path:
        validation["fieldPath"] = rule.field_path
    return validation


def _message_expression(rule: Rule) -> str:
    """The message as a CEL expression: its text, with the one value in its place."""
    ((name, expression),) = rule.values.items()
    before, _, after = rule.text.partition(f"{{{name}}}")
    return f"{cel_string(before)} + {expression} + {cel_string(after)}"
