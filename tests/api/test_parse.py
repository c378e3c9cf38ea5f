"""Documents into models: all that does not fit is told at once, with its path and a remedy, and without a value."""

from __future__ import annotations

import copy
import datetime
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from datacube_flows.api.datacube import DataCube
from datacube_flows.api.parse import parse_datacube
from datacube_flows.errors import InvalidDataCube, Violation
from tests.canary import CANARY
from tests.core.rule_documents import document
from tests.core.rule_table import GOOD

pytestmark = pytest.mark.t0


def violations(cube: Any) -> dict[str, Violation]:
    with pytest.raises(InvalidDataCube) as caught:
        parse_datacube(cube)
    return {v.path: v for v in caught.value.violations}


def changed(path: str, value: Any, kind: str = "git-download") -> dict[str, Any]:
    """A good document with a value at a path such as `spec.source.options.0.name`."""
    cube = copy.deepcopy(document(kind, env={"TZ": "UTC"}, manner={"backoffLimit": 1}))
    node: Any = cube
    *parents, last = [int(p) if p.isdecimal() else p for p in path.split(".")]
    for part in parents:
        node = node[part]
    node[last] = value
    return cube


@pytest.mark.parametrize("name", GOOD)
def test_parse_accepts_a_good_document(name: str) -> None:
    assert isinstance(parse_datacube(GOOD[name]), DataCube)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("spec.sink.pvc.subpath", "subPath"),
        ("spec.sink.pvc.sub_path", "subPath"),
        ("spec.source.option", "options"),
        ("spec.executor.options.backofLimit", "backoffLimit"),
        ("spec.executor.securitycontext", "securityContext"),
        ("spec.executer", "executor"),
        ("metdata", "metadata"),
        ("spec.source.options.0.valuefrom", "valueFrom"),
    ],
)
def test_parse_names_the_field_that_was_meant(path: str, meant: str) -> None:
    (found,) = violations(changed(path, {})).values()
    assert found.path == path.replace(".0.", "[0].")
    assert (found.message, found.remedy) == ("unknown field", f"did you mean {meant}?")


def test_parse_lists_the_fields_when_none_is_close() -> None:
    found = violations(changed("spec.sink.pvc.zzz", 1))["spec.sink.pvc.zzz"]
    assert found.remedy == "the fields here are name, subPath, template"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec.source.options.0.name", True, "found a boolean (quote it"),
        ("spec.source.options.0.value", 1, "found a number (quote it"),
        ("spec.source.options.0.value", 1.5, "found a number (quote it"),
        ("spec.source.options.0.value", datetime.date(2026, 1, 1), "found a date (quote it"),
        ("spec.executor.env.0.name", False, "found a boolean (quote it"),
        ("spec.executor.env.0.value", False, "found a boolean (quote it"),
        ("spec.executor.options.backoffLimit", "2", "a whole number, found a text (write it without quotes)"),
        ("spec.executor.options.backoffLimit", True, "a whole number, found a boolean"),
        ("spec.executor.options.sync", "yes", "true or false, found a text (write it without quotes)"),
        ("spec.executor.options.sync", 1, "true or false, found a number"),
        ("spec.executor.options.extraArgs", "--x", "a list, found a text"),
        ("spec.source.options", {}, "a list, found an object"),
        ("spec.source", "git", "an object, found a text"),
        ("spec.executor.env.0", "A=b", "an object, found a text"),
    ],
)
def test_parse_says_what_was_expected_and_found(path: str, value: object, words: str) -> None:
    expected = ".".join(path.split(".")).replace(".0", "[0]")
    assert words in str(violations(changed(path, value))[expected])


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("metadata.name", "Git_Download", "lower-case RFC 1123"),
        ("metadata.name", "", "give it a value"),
        ("metadata.name", "a" * 254, "at most 253 characters"),
        ("metadata.namespace", "../kube-system", "lower-case RFC 1123"),
        ("spec.sink.pvc.name", "other/claim", "lower-case RFC 1123"),
        ("spec.source.options.0.valueFrom.secretKeyRef.name", "ns/secret", "lower-case RFC 1123"),
        ("spec.source.options.0.valueFrom.secretKeyRef.key", "../x", "key of a Secret"),
        ("spec.executor.env.0.name", "A=B", "variable"),
        ("spec.source.type", "gti", "'pvc', 'git', 'huggingface' or 's3'"),
        ("apiVersion", "v1", "tensorstack.dev/v1beta1"),
        ("kind", "Datacube", "DataCube"),
        ("spec.executor.options.backoffLimit", -1, "at least 0"),
        ("spec.executor.options.activeDeadlineSeconds", 0, "at least 1"),
        ("spec.executor.options.stallTimeoutSeconds", 2**31, "at most 2147483647"),
        ("spec.executor.options.verify", "md5", "'checksum', 'size' or 'none'"),
        ("spec.executor.options.bandwidthLimit", "fast", "not a quantity such as 500M"),
        ("spec.executor.options.bandwidthLimit", True, "expected a quantity"),
        ("spec.executor.engine", "airflow", "'argo' or 'prefect'"),
        ("spec.sink.pvc.subPath", "x" * 1025, "at most 1024 characters"),
        ("spec.executor.options.extraArgs", ["-x"] * 65, "at most 64 entries"),
    ],
)
def test_parse_refuses_what_a_field_cannot_be(path: str, value: object, words: str) -> None:
    assert words in str(violations(changed(path, value))[path.replace(".0", "[0]")])


def test_parse_refuses_to_reach_into_another_namespace() -> None:
    source = {"kind": "PersistentVolumeClaim", "name": "x", "namespace": "other"}
    template = {"spec": {"dataSourceRef": source}}
    (found,) = violations(document("git-download", template=template)).values()
    assert found.path == "spec.sink.pvc.template.spec.dataSourceRef.namespace"
    assert found.message == "unknown field"


def test_parse_reports_everything_at_once() -> None:
    cube = changed("spec.executor.options.backoffLimit", "2")
    cube["metadata"]["name"] = "Bad"
    cube["spec"]["sink"]["pvc"] = {"subpath": "x"}
    cube["spec"]["source"]["type"] = "gti"
    assert set(violations(cube)) == {
        "metadata.name",
        "spec.source.type",
        "spec.sink.pvc.name",
        "spec.sink.pvc.subpath",
        "spec.executor.options.backoffLimit",
    }


def test_parse_names_what_is_missing() -> None:
    found = violations({"spec": {"source": None}})
    assert {str(v) for v in found.values()} == {
        "apiVersion: missing (apiVersion: tensorstack.dev/v1beta1)",
        "kind: missing (kind: DataCube)",
        "metadata: missing (set metadata)",
        "spec.source: missing (set source)",
        "spec.sink: missing (set sink)",
    }


def test_parse_ignores_status_and_other_metadata() -> None:
    cube = document("git-download") | {"status": ["anything"]}
    cube["metadata"] |= {"managedFields": [{}], "resourceVersion": "1", "uid": "u", "labels": {"a.b/c": "d"}}
    assert parse_datacube(cube).metadata.labels == {"a.b/c": "d"}


def test_parse_shows_keys_with_dots_in_brackets() -> None:
    assert list(violations(changed("metadata.labels", {"a.b/c": 1}))) == ["metadata.labels[a.b/c]"]


def test_parse_refuses_a_key_that_yaml_reads_as_a_boolean() -> None:
    cube = document("git-download")
    cube["spec"]["executor"] = yaml.safe_load("{nodeSelector: {on: x}}")
    (found,) = violations(cube).values()
    assert found.path == "spec.executor.nodeSelector.True"
    assert "quote it" in found.remedy


def test_parse_refuses_a_field_that_yaml_reads_as_a_boolean() -> None:
    cube = document("git-download")
    cube["spec"] |= yaml.safe_load("{on: x}")
    assert "quote it" in violations(cube)["spec.True"].remedy


def test_parse_quotes_no_value() -> None:
    for path in ("spec.source.options.0.name", "spec.source.type", "spec.executor.options.backoffLimit", "kind"):
        for value in (f"={CANARY}", [CANARY], {"a": CANARY}):
            with pytest.raises(InvalidDataCube) as caught:
                parse_datacube(changed(path, value))
            assert CANARY not in str(caught.value)


def test_cube_is_frozen() -> None:
    cube = parse_datacube(GOOD["everything in executor"])
    assert cube.spec.executor is not None
    for model, name in (
        (cube, "kind"),
        (cube.spec, "suspend"),
        (cube.spec.executor, "env"),
        (cube.spec.source.options[0], "value"),
    ):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(model, name, None)


def test_null_and_empty_mean_absent() -> None:
    plain = parse_datacube(document("git-download")).spec
    cube = document("git-download", subPath=None, template=None)
    cube["spec"] |= {"executor": None, "suspend": None, "ttlSecondsAfterFinished": None}
    cube["spec"]["source"]["pvc"] = cube["spec"]["sink"]["options"] = None
    assert parse_datacube(cube).spec == plain


def test_null_counts_as_the_default() -> None:
    cube = document("git-download", manner={"backoffLimit": None, "extraArgs": None})
    executor = parse_datacube(cube).spec.executor
    assert executor is not None
    assert executor.options is not None
    assert (executor.options.backoff_limit, executor.options.extra_args) == (0, ())


def test_cube_survives_a_round_trip() -> None:
    for cube in map(parse_datacube, GOOD.values()):
        again = cube.model_dump(mode="json", by_alias=True, exclude_none=True)
        assert parse_datacube(again) == cube


def test_unknown_field_is_refused_even_when_it_is_null() -> None:
    cube = document("git-download", subPaht=None)
    assert list(violations(cube)) == ["spec.sink.pvc.subPaht"]


@pytest.mark.parametrize(
    ("executor", "path"),
    [
        ({"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}, "spec.executor.imagePullSecrets"),
        ({"resources": {"claims": [{"name": "a"}, {"name": "a", "request": "b"}]}}, "spec.executor.resources.claims"),
    ],
)
def test_name_is_refused_twice_in_a_list_that_goes_by_names(executor: dict[str, Any], path: str) -> None:
    cube = document("git-download")
    cube["spec"]["executor"] = executor
    assert {path: v.message for path, v in violations(cube).items()} == {path: "a name stands here twice"}
