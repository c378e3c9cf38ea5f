"""Every rule that joins fields, run over a cube or over what can be read of a document; `rule.py` says what one is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.parse import parse_datacube
from datacube_flows.core import rules_ends, rules_executor, rules_options
from datacube_flows.core.advice import warnings_of
from datacube_flows.core.rule import Allowed, Rule, Subject, salvage, subject_of
from datacube_flows.errors import InvalidDataCube, Violation

if TYPE_CHECKING:
    from datacube_flows.api.datacube import DataCube
    from datacube_flows.core.env_policy import EnvPolicy

__all__ = ["RULES", "check_rules", "in_document_order", "validate", "warnings_of"]

RULES: Final[tuple[Rule, ...]] = (*rules_ends.RULES, *rules_options.RULES, *rules_executor.RULES)

_PATH_PART: Final = re.compile(r"[^.\[\]]+|\[([^\]]*)\]")


def check_rules(
    cube: DataCube, *, env_policy: EnvPolicy = "deny", allowed_schemes: tuple[str, ...] = ("https",)
) -> tuple[Violation, ...]:
    """Returns every rule that a cube breaks, in the order of the document; empty for a good one."""
    found = _broken(subject_of(cube), Allowed(env_policy, allowed_schemes))
    return in_document_order(found, cube.model_dump(mode="json", by_alias=True, exclude_none=True))


def validate(
    document: Mapping[str, Any], *, env_policy: EnvPolicy = "deny", allowed_schemes: tuple[str, ...] = ("https",)
) -> DataCube:
    """Returns the cube that a document describes, all rules checked.

    Raises:
        InvalidDataCube: with everything that is wrong at once: where some fields cannot be read, the rules still look
            at all the others.
    """
    allowed = Allowed(env_policy, allowed_schemes)
    try:
        cube = parse_datacube(document)
    except InvalidDataCube as error:
        others = _unsaid(_broken(salvage(document), allowed), error.violations)
        raise InvalidDataCube(in_document_order([*error.violations, *others], document)) from None
    if violations := _broken(subject_of(cube), allowed):
        raise InvalidDataCube(in_document_order(violations, document))
    return cube


def _broken(subject: Subject, allowed: Allowed) -> list[Violation]:
    return [violation for rule in RULES for violation in rule.violations(subject, allowed)]


def _unsaid(found: Iterable[Violation], unreadable: tuple[Violation, ...]) -> list[Violation]:
    return [v for v in found if not any(_follows_from(v.path, u.path) for u in unreadable)]


def _follows_from(path: str, unreadable: str) -> bool:
    """Whether a violation only repeats that something at its place, or inside it, cannot be read."""
    if path == unreadable:
        return True
    speaks_of_many = path == "spec" or path.endswith(".options")
    return not speaks_of_many and unreadable.startswith((f"{path}.", f"{path}["))


def in_document_order(violations: Iterable[Violation], document: Mapping[str, Any]) -> tuple[Violation, ...]:
    """Returns the violations as a reader meets them going down the document; missing parts come last in their place."""
    return tuple(sorted(violations, key=lambda v: _position(v.path, document)))


def _position(path: str, document: Any) -> tuple[int, ...]:
    position: list[int] = []
    for match in _PATH_PART.finditer(path):
        part, here = match[1] or match[0], document
        if isinstance(here, Mapping):
            keys = [str(key) for key in here]
            position.append(keys.index(part) if part in keys else len(keys))
            document = here.get(part)
        elif isinstance(here, list | tuple) and part.isdecimal():
            position.append(int(part))
            document = here[int(part)] if int(part) < len(here) else None
    return tuple(position)
