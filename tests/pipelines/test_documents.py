from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from datacube_flows.api.datacube import DataCube
from datacube_flows.api.parse import parse_datacube
from datacube_flows.cluster.cubes import make_document
from datacube_flows.core import labels
from datacube_flows.documents import load_documents
from datacube_flows.errors import DocumentError, InvalidDataCube
from datacube_flows.pipelines.documents import read_cube
from tests.canary import CANARY
from tests.core.rule_documents import OPTIONS, document
from tests.pipelines.documents import make_cube, rerun
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.t0


def test_cube_is_the_same_in_whichever_form_it_is_given(tmp_path: Path) -> None:
    given = make_cube()
    file = tmp_path / "cube.yaml"
    file.write_text(yaml.safe_dump(given))
    forms: list[Any] = [given, yaml.safe_dump(given), json.dumps(given), str(file), file, parse_datacube(given)]
    assert [read_cube(form).cube for form in forms] == [parse_datacube(given)] * len(forms)


def test_cube_says_its_claim_and_its_namespace_if_it_names_one() -> None:
    given = make_cube()
    assert read_cube(given).claim == "claim"
    assert read_cube(given).namespace("team") == "team"
    named = given | {"metadata": {"name": "data", "namespace": "default"}}
    assert read_cube(named).namespace("team") == "default"


def test_objects_beside_the_cube_are_told() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    assert read_cube(yaml.safe_dump_all([secret, None, make_cube()])).passed_over == ("Secret",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\n", "the text holds 0 documents of kind DataCube"),
        (
            yaml.safe_dump_all([make_cube("a"), make_cube("b")]),
            "holds 2 documents of kind DataCube: give one at a time",
        ),
        ("- a\n- b\n", "holds a document that is no mapping"),
        ("kind: DataCube\nspec: {}\nspec: {}\n", "key 'spec' is given twice, line 3"),
        ("missing.yaml", "cannot read 'missing.yaml': No such file"),
    ],
)
def test_text_that_is_no_cube_is_refused(text: str, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        read_cube(text)


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    with pytest.raises(DocumentError, match="not UTF-8"):
        read_cube(tmp_path / "a")


def test_cube_that_breaks_rules_is_refused_with_all_of_them() -> None:
    with pytest.raises(InvalidDataCube) as caught:
        read_cube(document("s3-download", {"s3-uri": "nowhere", "s3-endpoint": "a b"}))
    assert len(caught.value.violations) >= 2


@pytest.mark.parametrize(
    "text",
    [
        f"a: *{CANARY}",
        f"a: !{CANARY} b",
        f"a: @{CANARY}",
        f'a: "{CANARY}',
        f"%{CANARY} %\n---\na: [",
        f"a: &{CANARY} [",
        f"[a, b]: {CANARY}: c",
        f"? [{CANARY}]\n: b",
    ],
)
def test_no_error_quotes_the_text(text: str) -> None:
    with pytest.raises((DocumentError, InvalidDataCube)) as caught:
        read_cube(text + "\n")
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_rerun_is_an_annotation_beside_the_others() -> None:
    given = make_cube()
    given["metadata"]["annotations"] = {"a": "b"}
    again = read_cube(given).run_again("two")
    assert again.cube.metadata.annotations == {"a": "b", labels.RERUN: "two"}
    assert read_cube(given).run_again("").cube == read_cube(given).cube
    assert read_cube(rerun(given, "one")).run_again("two").cube.metadata.annotations == {labels.RERUN: "two"}


@pytest.mark.parametrize("kind", OPTIONS)
def test_what_is_sent_is_what_the_document_says(kind: str) -> None:
    given = document(kind)
    sent = make_document(parse_datacube(given), "team")
    assert sent["spec"] == given["spec"]
    assert sent["metadata"]["namespace"] == "team"


def test_what_is_sent_has_no_null_and_nothing_that_a_server_adds() -> None:
    given = make_cube(executor={"env": None, "options": {"backoffLimit": 0}})
    given["metadata"] |= {"uid": "u", "resourceVersion": "7", "managedFields": [{}], "labels": {"a": "b"}}
    given["status"] = {"phase": "Failed"}
    sent = make_document(parse_datacube(given), "team")
    assert sent["metadata"] == {"name": "data", "namespace": "team", "labels": {"a": "b"}}
    assert sent["spec"]["executor"] == {"options": {"backoffLimit": 0}}
    assert "status" not in sent


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_example_can_be_handed_in(example: Path) -> None:
    found = read_cube(example)
    assert isinstance(found.cube, DataCube)
    (there,) = [d for d in load_documents(example.read_text(), "it") if d["kind"] == "DataCube"]
    assert make_document(found.cube, "team")["spec"] == there["spec"]
