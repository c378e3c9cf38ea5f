"""The rules in Python and the rules in the CRD say the same, for the table and for documents made up at random."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datacube_flows.core.kinds import env_name
from datacube_flows.core.rule import Allowed, Enforced, Rule, salvage
from datacube_flows.core.rules import RULES
from datacube_flows.core.values import OPTIONS as KNOWN
from tests.core.crd_rules import KUBERNETES_STRINGS, Refusal, program, refusals, schema
from tests.core.rule_documents import CONFIG, OPTIONS, SECRET, TEMPLATE, document
from tests.core.rule_table import CHANGES, GOOD, ROWS, STORED, Row

pytestmark = pytest.mark.t0

IN_CRD = [rule for rule in RULES if rule.enforced is Enforced.CRD]
BY_PLACE = {(at, rule.cel or rule.schema): rule for rule in IN_CRD for at in rule.at}
NOT_EVALUATED = {"bandwidth-positive"}
"""Rules whose expression uses what only Kubernetes has: its quantity library."""


def test_engine_has_all_but_one_expression() -> None:
    assert {rule.id for rule in RULES if "quantity(" in rule.cel} == NOT_EVALUATED
    needed = {name for rule in RULES for name in KUBERNETES_STRINGS if f".{name}(" in rule.cel}
    assert needed == set(KUBERNETES_STRINGS)
    for rule in RULES:
        if rule.cel:
            program(rule.cel)


def said_by_crd(cube: Any) -> list[tuple[Rule, Refusal]]:
    found = [(BY_PLACE.get((r.at, r.rule)), r) for r in refusals(cube)]
    return [(rule, r) for rule, r in found if rule is not None]


def said_by_python(cube: Any) -> list[tuple[Rule, str, str]]:
    subject = salvage(cube)
    return [
        (rule, violation.path, str(violation).removeprefix(f"{violation.path}: "))
        for rule in IN_CRD
        for violation in rule.violations(subject, Allowed())
    ]


def assert_agree(cube: Any) -> None:
    in_crd, in_python = said_by_crd(cube), said_by_python(cube)
    assert {rule.id for rule, _ in in_crd} == {rule.id for rule, _, _ in in_python}
    for rule, refusal in in_crd:
        same = [text for r, path, text in in_python if r is rule and path.startswith(refusal.path)]
        assert same, f"{rule.id}: Python does not name {refusal.path}"
        if not (rule.general or rule.schema):
            assert refusal.message in same
    for rule, path, _text in in_python:
        assert any(r is rule and path.startswith(refusal.path) for r, refusal in in_crd), (
            f"{rule.id}: CRD misses {path}"
        )


EVALUATED_ROWS = [row for row in ROWS if row.rule not in NOT_EVALUATED]


@pytest.mark.parametrize("row", EVALUATED_ROWS, ids=lambda row: row.name)
def test_crd_refuses_what_python_refuses(row: Row) -> None:
    said = {rule.id for rule, _ in said_by_crd(row.document)}
    enforced = {rule.id: rule.enforced for rule in RULES}[row.rule]
    assert (row.rule in said) == (enforced is Enforced.CRD)
    assert_agree(row.document)


@pytest.mark.parametrize("name", [name for name in GOOD if not name.startswith("bandwidth")])
def test_crd_accepts_a_good_document(name: str) -> None:
    assert refusals(GOOD[name]) == []


@pytest.mark.parametrize(("change", "refused"), CHANGES.values(), ids=CHANGES)
def test_transfer_cannot_be_changed_after_creation(change: dict[str, Any], refused: str) -> None:
    changed = copy.deepcopy(STORED)
    changed["spec"] |= change
    found = refusals(changed, STORED)
    assert {r.path for r in found} == ({refused} if refused else set())
    assert all("rerun" in r.message for r in found)


def test_executor_cannot_be_added_after_creation() -> None:
    stored, changed = document("git-download"), document("git-download", manner={"backoffLimit": 1})
    assert {r.path for r in refusals(changed, stored)} == {"spec.executor"}


VALUES = st.one_of(
    st.sampled_from(["", "-x", "a\n", "a/../b", "/a", "$(TOKEN)", "{{x}}", ".", "..", "a,b", " , ", ", -x", "true"]),
    st.sampled_from(
        ["https://h/r", "ext::x", "git@h:r", "file:///x", "$(A)://h", "s3://bucket/x", "s3://b", "a/b.git"]
    ),
    st.sampled_from([".datacube", "a/.datacube/b", "model", "False", "a--b", "h:9000", "\x85", "a\r", "\u2028", "İ"]),
    st.text(alphabet="ab./-:$()@, s3\n", max_size=12),
    st.text(max_size=6),
)
NAMES = st.sampled_from([*KNOWN, "branch", "URL", "S3_URI"])
ENTRY = st.one_of(
    VALUES.map(lambda value: {"value": value}),
    st.sampled_from([SECRET, CONFIG, {}, {"value": None}, {"valueFrom": {}}, {"value": "x", **SECRET}]),
    st.just({"valueFrom": SECRET["valueFrom"] | CONFIG["valueFrom"]}),
)
ENTRIES = st.lists(st.tuples(NAMES, ENTRY).map(lambda pair: {"name": pair[0], **pair[1]}), max_size=3)
VARIABLE_NAMES = st.one_of(
    st.sampled_from(["TZ", "DATACUBE_X", "PATH"]), st.sampled_from([*KNOWN, *map(env_name, KNOWN)])
)
VARIABLES = st.lists(st.tuples(VARIABLE_NAMES, ENTRY).map(lambda pair: {"name": pair[0], **pair[1]}), max_size=3)
TEMPLATES = st.sampled_from(
    [None, TEMPLATE, {"spec": {}}, {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {}}}}]
)
TYPES = st.sampled_from(["pvc", "git", "huggingface", "s3"])


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """A good document with a few things changed, each of which may break a rule or none."""
    cube = copy.deepcopy(document(draw(st.sampled_from(list(OPTIONS)))))
    spec = cube["spec"]
    for end in draw(st.sets(st.sampled_from(["source", "sink"]))):
        part = spec[end]
        if draw(st.booleans()):
            part["options"] = [*part.get("options", []), *draw(ENTRIES)]
        if draw(st.booleans()):
            part["pvc"] = {"name": "claim", "subPath": draw(st.none() | VALUES), "template": draw(TEMPLATES)}
        if draw(st.integers(0, 4)) == 0:
            part["type"] = draw(TYPES)
        if draw(st.integers(0, 4)) == 0:
            part.pop(draw(st.sampled_from(["pvc", "options"])), None)
        if part.get("options") and draw(st.booleans()):
            del part["options"][draw(st.integers(0, len(part["options"]) - 1))]
    if draw(st.booleans()):
        options = {
            "sync": draw(st.none() | st.booleans()),
            "maxDelete": draw(st.none() | st.just(1)),
            "extraArgs": draw(st.none() | st.lists(VALUES, max_size=2)),
        }
        spec["executor"] = {"options": draw(st.sampled_from([None, options])), "env": draw(st.none() | VARIABLES)}
    return cube


@settings(max_examples=200, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents())
def test_crd_and_python_agree(cube: Any) -> None:
    assert_agree(cube)


def test_schema_under_test_holds_every_rule() -> None:
    standing = {v["rule"] for node in _walk(schema()) for v in node.get("x-kubernetes-validations", ())}
    assert standing == {rule.cel for rule in RULES if rule.cel}


def _walk(node: Any) -> Any:
    if isinstance(node, dict):
        yield node
        for part in node.values():
            yield from _walk(part)
