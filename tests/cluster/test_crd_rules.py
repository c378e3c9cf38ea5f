"""The API server accepts and refuses the documents that the rules in Python accept and refuse, in the same words."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from datacube_flows.api.datacube import DataCubeSpec
from datacube_flows.core.kinds import KINDS
from datacube_flows.core.rule import Enforced
from datacube_flows.core.rules import RULES
from tests.canary import CANARY
from tests.cluster.crd_documents import (
    NEVER_SET,
    changed,
    example_documents,
    full_documents,
    model_paths,
    places,
    set_paths,
)
from tests.cluster.crd_verdicts import DUPLICATE, IN_CRD, disagreements
from tests.core.rule_documents import CONFIG, OPTIONS, SECRET, TEMPLATE, document
from tests.core.rule_table import GOOD, ROWS, Row
from tests.core.test_crd_cel import documents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.cluster import Cluster
    from tests.cluster.crd_client import CubeClient
    from tests.cluster.crd_documents import Document

pytestmark = pytest.mark.t2

EXAMPLES = example_documents()
REFUSED = [row for row in ROWS if row.rule in IN_CRD]
ADMITTED = [row for row in ROWS if row.rule not in IN_CRD]

SAID_BY_OPERATOR = {"extra-args-allowed", "url-allowed", "url-names-a-repository", "env-allowed", "no-reference-circle"}
"""Rules that CEL cannot state."""


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_document_is_refused_with_the_words_of_its_rule(cubes: CubeClient, row: Row) -> None:
    answer = cubes.check(row.document)
    assert not answer.accepted
    there = [c.text for c in answer.causes if row.at.startswith(c.path)]
    assert any(all(word in text for word in expected_words(row)) for text in there), answer.message


def expected_words(row: Row) -> tuple[str, ...]:
    """The row's own; of a rule for which CEL knows no value, the text without it."""
    rule = IN_CRD[row.rule]
    if rule.schema:
        return (DUPLICATE,)
    return (rule.text,) if rule.general else row.words


def test_rules_without_their_values_are_these() -> None:
    general = {row.rule for row in REFUSED if IN_CRD[row.rule].general or IN_CRD[row.rule].schema}
    known = {f"known-options-{kind}" for kind in OPTIONS}
    assert general == known | {"unique-options", "unique-env", "env-is-no-source-option", "env-is-no-sink-option"}


@pytest.mark.parametrize("row", ADMITTED, ids=lambda row: row.name)
def test_document_is_accepted_when_only_the_operator_refuses_it(cubes: CubeClient, row: Row) -> None:
    assert cubes.check(row.document).message == ""


def test_every_rule_has_a_document() -> None:
    assert {row.rule for row in ADMITTED} == SAID_BY_OPERATOR
    assert {rule.id for rule in RULES if rule.enforced is Enforced.OPERATOR} == SAID_BY_OPERATOR
    assert {row.rule for row in REFUSED} == {rule.id for rule in IN_CRD.values() if not rule.is_transition}
    assert len(ROWS) + len(GOOD) > 60


@pytest.mark.parametrize("name", GOOD)
def test_good_document_is_accepted(cubes: CubeClient, name: str) -> None:
    assert cubes.check(GOOD[name]).message == ""


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_accepted(cubes: CubeClient, name: str) -> None:
    assert cubes.check(EXAMPLES[name]).message == ""


def test_there_is_an_example_of_every_kind() -> None:
    ends = {(e["spec"]["source"]["type"], e["spec"]["sink"]["type"]) for e in EXAMPLES.values()}
    assert len(ends) == len(KINDS) == len(OPTIONS)


def test_every_field_that_may_be_set_is_accepted(cubes: CubeClient) -> None:
    known = model_paths(DataCubeSpec, "spec")
    filled: set[str] = set()
    for cube in full_documents():
        assert cubes.check(cube).message == ""
        filled |= set_paths(cube["spec"], "spec", known)
    assert {path for path in known - filled if not path.startswith(NEVER_SET)} == set()


def test_every_field_refuses_another_type(cubes: CubeClient) -> None:
    asked, wrong = 0, []
    for cube in full_documents():
        for place, value in places(cube["spec"], ("spec",)):
            answer = cubes.check(changed(cube, place, other_type(value)))
            asked += 1
            if answer.accepted or not any(c.path.startswith(written(place)) for c in answer.causes):
                wrong.append(f"{written(place)}: {answer.message or 'accepted'}")
    assert asked > len(model_paths(DataCubeSpec, "spec")) / 2
    assert not wrong, "\n".join(wrong)


def other_type(value: Any) -> Any:
    """Something that is neither of the value's type nor, where that is a quantity, one."""
    return True if isinstance(value, str) else "text"


def written(place: tuple[str | int, ...]) -> str:
    """The place as Kubernetes writes it."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place).removeprefix(".")


def test_every_object_refuses_an_unknown_field(cubes: CubeClient) -> None:
    download, _ = full_documents()
    is_map = ("labels", "annotations", "matchLabels", "nodeSelector", "requests", "limits")
    objects = [(p, v) for p, v in places(download["spec"], ("spec",)) if isinstance(v, dict) and p[-1] not in is_map]
    assert len(objects) > 20
    for place, value in [(("spec",), download["spec"]), *objects]:
        answer = cubes.check(changed(download, place, value | {"unheardOf": 1}))
        assert f'unknown field "{written((*place, "unheardOf"))}"' in answer.message


@pytest.mark.parametrize("name", OPTIONS)
def test_refusal_never_shows_the_value_of_an_option(cubes: CubeClient, name: str) -> None:
    for option in OPTIONS[name]:
        for value in (f"-{CANARY}", f"{CANARY}\n", f"../{CANARY}", f"ext::{CANARY}", CANARY * 4096):
            answer = cubes.check(document(name, {option: value}, more=[{"name": "other", "value": CANARY}]))
            assert not answer.accepted
            assert CANARY not in answer.message


def test_documents_of_the_table_get_the_same_verdict_from_both(cubes: CubeClient) -> None:
    documents = [row.document for row in ROWS] + list(GOOD.values()) + list(EXAMPLES.values())
    assert_agreement(cubes, documents)


def test_kubectl_shows_all_that_is_wrong_at_once(crd_api: Cluster) -> None:
    cube = document("s3-upload", {"s3-uri": "bucket"}, manner={"sync": True}, subPath="../data")
    done = crd_api.try_kubectl("apply", "-f", "-", text=json.dumps(cube))
    assert done.returncode == 1
    head, *lines = done.stderr.strip().splitlines()
    assert head.startswith('The DataCube "s3-upload" is invalid')
    at = ("spec.source.pvc.subPath", "spec.sink.options[1].value", "spec.executor.options.sync")
    assert sorted(line.split(": ")[0] for line in lines) == sorted(f"* {path}" for path in at)
    assert all(violation in done.stderr for violation in ("s3://bucket/path", "'..'", "s3 download"))


SEED = 20260101
MUTATIONS = 500
POOL: tuple[Any, ...] = (
    *(None, "", {}, [], 0, -1, 1, True, "true", [None], 2**31, "text", "UPPER", "a b", "10Gi", "-5M", "1.5", "e3"),
    *("a/../b", "/a", ".", "$(TOKEN)", "{{x}}", "-x", "a\n", "s3://bucket", "https://h/r", "git@h:r", "ü", "x" * 1025),
    *("pvc", "git", "huggingface", "s3", "argo", "checksum", "none", "False", "dataset", " , ", "\u2028", "\x85"),
    *({"name": "claim"}, {"name": "url", "value": "https://h/r"}, {"name": "claim", "template": TEMPLATE}, SECRET),
    *(CONFIG, {"value": "x", **SECRET}, {"sync": True}, {"maxDelete": 1}, {"template": TEMPLATE["spec"]}),
)


def test_mutated_documents_get_the_same_verdict_from_both(cubes: CubeClient) -> None:
    assert_agreement(cubes, list(mutations()))


@settings(
    max_examples=300, derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(cube=documents())
def test_made_up_documents_get_the_same_verdict_from_both(cubes: CubeClient, cube: Document) -> None:
    answer = cubes.check(cube)
    assert disagreements(cube, answer) == [], answer.message or "accepted"


def mutations() -> Iterator[Document]:
    """Examples and full documents with one to three things in them replaced, removed, repeated or exchanged."""
    # the same documents in every run
    chance = random.Random(SEED)  # noqa: S311
    bases = [*EXAMPLES.values(), *full_documents(), *(GOOD[kind] for kind in OPTIONS)]
    for _ in range(MUTATIONS):
        cube = chance.choice(bases)
        for _ in range(chance.choice((1, 1, 2, 3))):
            cube = mutated(cube, chance)
        yield cube


def mutated(cube: Document, chance: random.Random) -> Document:
    """A copy with one change."""
    place, value = chance.choice(list(places(cube["spec"], ("spec",))))
    kind = chance.choice(("pool", "pool", "null", "repeated", "elsewhere"))
    if kind == "null":
        return changed(cube, place, None)
    if kind == "repeated" and isinstance(value, list):
        return changed(cube, place, [*value, *value[:1]])
    if kind == "elsewhere":
        return changed(cube, place, chance.choice(list(places(cube["spec"], ("spec",))))[1])
    return changed(cube, place, chance.choice(POOL))


def assert_agreement(cubes: CubeClient, documents: list[Document]) -> None:
    """Fails with all documents over which the two differ, each with both verdicts."""
    verdicts = [(cube, cubes.check(cube)) for cube in documents]
    differing = [
        "\n  ".join([str(cube["spec"])[:600], f"server: {answer.code} {answer.message or 'accepted'}"[:600], *found])
        for cube, answer in verdicts
        if (found := disagreements(cube, answer))
    ]
    assert not differing, f"{len(differing)} of {len(verdicts)}:\n" + "\n".join(differing)
    kinds = {answer.accepted for _, answer in verdicts}
    assert kinds == {True, False}
