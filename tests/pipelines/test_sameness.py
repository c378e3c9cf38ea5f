from __future__ import annotations

from typing import Any

import pytest

from datacube_flows.api.parse import parse_datacube
from datacube_flows.cluster.sameness import differences
from tests.core.rule_documents import OPTIONS, SECRET, document
from tests.pipelines.documents import make_cube, shown

pytestmark = pytest.mark.t0

URL = {"name": "url", "value": "https://example.test/owner/repo.git"}
TOKEN = {"name": "token", **SECRET}


def git(*options: Any) -> dict[str, Any]:
    return make_cube(source={"type": "git", "options": list(options)})


def found(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return differences(parse_datacube(ours), shown(theirs, {}))


@pytest.mark.parametrize("kind", OPTIONS)
def test_transfer_is_the_same_as_itself_in_a_cluster(kind: str) -> None:
    assert found(document(kind), document(kind)) == []


@pytest.mark.parametrize(
    "theirs",
    [
        make_cube(executor={"options": {"backoffLimit": 0, "sync": False, "verify": "checksum"}}),
        make_cube(suspend=True, ttlSecondsAfterFinished=5),
        make_cube(sink={"type": "pvc", "pvc": {"name": "claim", "subPath": "sets/"}}),
    ],
)
def test_transfer_that_says_the_same_in_other_words_is_the_same(theirs: dict[str, Any]) -> None:
    assert found(make_cube(), theirs) == []
    assert found(theirs, make_cube()) == []


def test_order_of_options_makes_no_difference() -> None:
    assert found(git(URL, TOKEN), git(TOKEN, URL)) == []


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        (git(URL, TOKEN), ["options or env", "options"]),
        (make_cube(sink={"type": "pvc", "pvc": {"name": "other", "subPath": "sets"}}), ["pvc"]),
        (make_cube(executor={"options": {"backoffLimit": 3}}), ["backoffLimit"]),
        (make_cube(executor={"engine": "prefect"}), ["engine"]),
        (make_cube(executor={"nodeSelector": {"a": "b"}}), ["the pod's settings"]),
        (make_cube(executor={"options": {"stallTimeoutSeconds": 9}}), ["stallTimeoutSeconds"]),
        (make_cube(newField=1), ["what this version does not know"]),
    ],
)
def test_other_transfer_is_told_by_what_differs(theirs: dict[str, Any], words: list[str]) -> None:
    assert found(make_cube(), theirs) == words
