"""The CRD is what kubectl and the API server expect, complete, current and small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from datacube_flows.api.datacube import DataCubeSpec
from datacube_flows.api.ends import EndType
from datacube_flows.api.status import DataCubeStatus
from datacube_flows.core.crd import make_crd, make_schema, schema_at
from datacube_flows.core.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.t0

ROOT = Path(__file__).parents[2]
APPLY_LIMIT = 262_144
"""What `kubectl apply` may keep of an object in its annotation (apimachinery, TotalAnnotationSizeLimitB)."""


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}".lstrip("."))
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            yield from nodes(schema[keyword], f"{path}[]")


def test_crd_has_the_names_of_the_specification() -> None:
    spec = make_crd()["spec"]
    assert make_crd()["metadata"]["name"] == "datacubes.tensorstack.dev"
    assert (spec["group"], spec["scope"]) == ("tensorstack.dev", "Namespaced")
    names = spec["names"]
    assert (names["kind"], names["plural"], names["shortNames"]) == ("DataCube", "datacubes", ["dcube"])
    assert names["categories"] == ["datacube"]
    (version,) = spec["versions"]
    assert (version["name"], version["served"], version["storage"]) == ("v1beta1", True, True)
    assert version["subresources"] == {"status": {}}


def test_crd_has_the_columns_of_the_specification() -> None:
    columns = make_crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    shown = [c["name"] for c in columns if not c.get("priority")]
    assert shown == ["From", "To", "Phase", "Progress", "Attempts", "Age"]
    assert [c["name"] for c in columns if c.get("priority") == 1] == ["Engine", "Rate", "Reason"]


def test_crd_file_holds_the_crd_without_aliases() -> None:
    text = (ROOT / "operator/deploy/crd.yaml").read_text()
    assert yaml.safe_load(text) == make_crd()
    assert not [t for t in yaml.scan(text) if isinstance(t, yaml.AnchorToken | yaml.AliasToken)]


def test_crd_fits_into_what_kubectl_apply_keeps() -> None:
    assert len(json.dumps(make_crd())) < APPLY_LIMIT / 2


def test_schema_describes_every_field() -> None:
    bare = [path for path, node in nodes(make_schema()) if "description" not in node and not path.endswith("[]")]
    assert bare == ["metadata"]  # the API server refuses a description there


def test_schema_is_structural() -> None:
    """https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/, structural."""
    for path, node in nodes(make_schema()):
        assert ("type" in node) != node.get("x-kubernetes-int-or-string", False), path
        assert "$ref" not in node
        assert "nullable" not in node
        if node.get("type") == "array":
            assert "items" in node, path
            assert "x-kubernetes-list-type" in node, path
        for key in node.get("x-kubernetes-list-map-keys", ()):
            assert key in node["items"]["required"], path


def test_schema_bounds_everything_that_a_rule_may_walk_through() -> None:
    for path, node in nodes(make_schema()["properties"]["spec"], "spec"):
        bound = {"array": "maxItems", "string": "maxLength"}.get(node.get("type", ""))
        if "additionalProperties" in node:
            bound = "maxProperties"
        if bound and "enum" not in node and "format" not in node:
            assert bound in node, path


def test_schema_has_the_fields_of_the_models() -> None:
    schema = make_schema()
    for name, model in (("spec", DataCubeSpec), ("status", DataCubeStatus)):
        assert set(schema["properties"][name]["properties"]) == {f.alias for f in model.model_fields.values()}


def test_schema_offers_the_ends_that_there_are() -> None:
    assert schema_at(make_schema(), "spec.sink.type")["enum"] == [str(t) for t in EndType]


def test_every_rule_of_the_crd_stands_where_it_says() -> None:
    schema = make_schema()
    for rule in RULES:
        for at in rule.at:
            node = schema_at(schema, at)
            if rule.schema:
                assert rule.schema in node, rule.id
                continue
            (found,) = [v for v in node["x-kubernetes-validations"] if v["rule"] == rule.cel]
            assert len(found["message"]) < 2048
            if rule.field_path:
                assert schema_at(node, rule.field_path.removeprefix(".")), rule.id
