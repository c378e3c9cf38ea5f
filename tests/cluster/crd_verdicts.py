"""What Python says of a document, and what the API server says, brought into the same words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datacube_flows.core.rule import Allowed, Enforced, Rule, salvage
from datacube_flows.core.rules import RULES, validate
from datacube_flows.errors import InvalidDataCube

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datacube_flows.errors import Violation
    from tests.cluster.crd_client import Answer, Cause

IN_CRD = {rule.id: rule for rule in RULES if rule.enforced is Enforced.CRD}
DUPLICATE = "Duplicate value"
NOT_CHECKED = "some validation rules were not checked because the object was invalid"
"""The API server runs no rule where a type, a bound or a required field is wrong."""

NOWHERE = "<nil>"
"""The path of what the API server says of no field: that, and that none of two types fits, which it says again."""

READ_WHOLE = ".pvc.template"
"""Python reads a claim's template whole: the rules say nothing of one in which a field does not fit the models."""

UNREADABLE = 400


@dataclass(frozen=True)
class Saying:
    """What Python holds against a place, in the words of the CRD; what does not fit a model has no words in common."""

    path: str
    words: str = ""


def said_of(document: Mapping[str, Any]) -> list[Saying]:
    """Returns all that Python says of a document and the API server should say too."""
    told = {str(violation) for violation in violations_of(document)}
    subject = salvage(document)
    by_rules = {str(v): (rule, v) for rule in RULES for v in rule.violations(subject, Allowed()) if str(v) in told}
    by_models = [Saying(v.path) for v in violations_of(document) if str(v) not in by_rules]
    in_crd = [saying_of(rule, v) for rule, v in by_rules.values() if rule.enforced is Enforced.CRD]
    return by_models + in_crd


def violations_of(document: Mapping[str, Any]) -> tuple[Violation, ...]:
    """Returns what `datacube validate` says of a document."""
    try:
        validate(document)
    except InvalidDataCube as error:
        return error.violations
    return ()


def saying_of(rule: Rule, violation: Violation) -> Saying:
    """The place and the text that the API server gives where Python gives this violation."""
    if rule.schema:  # a value that is there three times is said once
        return Saying(violation.path.rpartition("[")[0], DUPLICATE)
    text = rule.text if rule.general else f"{violation.message} ({violation.remedy})"
    return Saying(violation.path, text)


def disagreements(document: Mapping[str, Any], answer: Answer) -> list[str]:
    """Returns in what the API server and Python differ over a document, a line for each; nothing where they agree."""
    sayings = said_of(document)
    if answer.accepted:
        return [f"only Python refuses {s}" for s in sayings]
    if answer.code == UNREADABLE:
        return [] if sayings else [f"only the API server refuses: {answer.message}"]
    causes = [c for c in answer.causes if c.path != NOWHERE]
    differing = [f"only the API server refuses {c}" for c in causes if not is_explained(c, sayings)]
    if NOT_CHECKED not in answer.message:
        differing += [f"only Python refuses {s}" for s in sayings if not is_said(s, causes)]
    return differing


def is_explained(cause: Cause, sayings: list[Saying]) -> bool:
    """Whether Python says the same of the same place: the words of a rule, or anything that does not fit a model."""
    said = any(is_same_place(cause.path, s.path) and s.words in cause.text for s in sayings)
    return said or (READ_WHOLE in cause.path and any(READ_WHOLE in s.path and not s.words for s in sayings))


def is_said(saying: Saying, causes: list[Cause]) -> bool:
    """Whether the API server says it, at the place or at what holds it."""
    return any(is_same_place(c.path, saying.path) and saying.words in c.text for c in causes)


def is_same_place(one: str, other: str) -> bool:
    """Whether one is the other or holds it: the API server names an object where Python names its missing field."""
    return one.startswith(other) or other.startswith(one)
