"""Rules of a store's options (SPEC section 2, SECURITY S07, S08). They read the rows of `kinds.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datacube_flows.core.kinds import KINDS
from datacube_flows.core.rule import DIRECTION_AT, ENDS, Enforced, Rule, cel_list, cel_string
from datacube_flows.core.urls import check_url, repository_name
from datacube_flows.core.values import OPTIONS, URL_OPTIONS, VALUE_RULES, ValueRule, pattern, with_scheme

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from datacube_flows.api.corev1 import EnvVar
    from datacube_flows.core.kinds import TransferKind
    from datacube_flows.core.rule import Allowed, Check, Found, Subject

ITEMS: Final = tuple(f"{end}.options[]" for end in ENDS)
LITERAL: Final = tuple(o.name for o in OPTIONS.values() if o.literal)
NEVER_EMPTY: Final = tuple(o.name for o in OPTIONS.values() if o.literal or o.required)


def repeated(named: Iterable[tuple[str, EnvVar]]) -> Iterator[Found]:
    """Finds each entry whose name an earlier one has."""
    seen: set[str] = set()
    for path, entry in named:
        if entry.name in seen:
            yield f"{path}.name", {"name": entry.name}
        seen.add(entry.name)


def _repeated_options(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    for end in subject.ends:
        yield from repeated(end.named())


def _without_one_value(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    for end in subject.ends:
        for path, option in end.named():
            if (option.value is None) == (option.value_from is None):
                yield path, {"name": option.name}


def _without_one_reference(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    named = [*subject.source.named(), *subject.sink.named(), *subject.variables()]
    for path, entry in named:
        source = entry.value_from
        if source and (source.secret_key_ref is None) == (source.config_map_key_ref is None):
            yield f"{path}.valueFrom", {}


def _literal_by_reference(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    for end in subject.ends:
        for path, option in end.named():
            if option.name in LITERAL and option.value_from:
                yield f"{path}.valueFrom", {"name": option.name}


def _empty(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    for end in subject.ends:
        for path, option in end.named():
            if option.name in NEVER_EMPTY and option.value == "":
                yield f"{path}.value", {"name": option.name}


def _unknown_to(kind: TransferKind) -> Check:
    def check(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
        for end in subject.ends:
            if end.kind is kind:
                yield from ((f"{p}.name", {"name": o.name}) for p, o in end.named() if kind.option(o.name) is None)

    return check


def _missing_for(kind: TransferKind, name: str) -> Check:
    def check(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
        for end in subject.ends:
            if end.kind is kind and all(option.name != name for option in end.options.values()):
                yield f"{end.at}.options", {}

    return check


def _may_stand_at(end: str, names: tuple[str, ...]) -> bool:
    """Whether a store at that end can have one of the options; elsewhere the option itself is refused."""
    return any(k.direction is DIRECTION_AT[end] and k.option(name) for k in KINDS for name in names)


def _value_breaks(rule: ValueRule) -> Check:
    def check(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
        for end in subject.ends:
            if not _may_stand_at(end.at, rule.names):
                continue
            for path, option in end.named():
                if option.name in rule.names and option.value and rule.is_broken_in_document(option.value):
                    yield f"{path}.value", {"name": option.name}

    return check


def _bad_url(subject: Subject, allowed: Allowed) -> Iterator[Found]:
    """What the patterns leave over: hosts, ports, blanks, and the schemes that this operator allows."""
    for path, option in _literal_urls(subject):
        url = with_scheme(option.name, option.value or "")
        said = any(r.is_broken_in_document(url) for r in VALUE_RULES if option.name in r.names)
        if not said and (problem := check_url(url, allowed.schemes)):
            yield f"{path}.value", {"problem": problem}


def _no_repository(subject: Subject, allowed: Allowed) -> Iterator[Found]:
    for path, option in _literal_urls(subject):
        url = option.value or ""
        if option.name == "url" and check_url(url, allowed.schemes) is None and not repository_name(url):
            yield f"{path}.value", {}


def _literal_urls(subject: Subject) -> Iterator[tuple[str, EnvVar]]:
    """The URLs that are wholly known: `$(NAME)` before the host leaves the check to the attempt."""
    for end in subject.ends:
        for path, option in end.named():
            if option.name in URL_OPTIONS and option.value and not pattern(r"\x24\(").search(_after_user(option.value)):
                yield path, option


def _after_user(url: str) -> str:
    """The URL without what stands before its host's `@`: a token there changes nothing of what is checked."""
    head, at, tail = url.partition("@")
    return tail if at and "/" not in head.partition("://")[2] else url


def _value_cel(rule: ValueRule) -> str:
    conditions = [_is_not(rule.names), "!has(self.value)", "self.value == ''"]
    good = []
    if rule.wanted:
        good.append(
            f"(self.value.matches({cel_string(rule.wanted)}) || self.value.matches({cel_string(rule.deferred)}))"
        )
    if rule.refused:
        good.append(f"!self.value.matches({cel_string(rule.refused)})")
    return " || ".join([*conditions, f"({' && '.join(good)})" if len(good) > 1 else good[0]])


def _is_not(names: tuple[str, ...]) -> str:
    return f"!(self.name in {cel_list(names)})" if len(names) > 1 else f"self.name != '{names[0]}'"


def _value_rule(rule: ValueRule) -> Rule:
    return Rule(
        id=rule.id,
        at=tuple(f"{end}.options[]" for end in ENDS if _may_stand_at(end, rule.names)),
        cel=_value_cel(rule),
        field_path=".value",
        message=rule.message,
        remedy=rule.remedy,
        check=_value_breaks(rule),
    )


def _at(kind: TransferKind) -> str:
    return next(at for at, direction in DIRECTION_AT.items() if direction is kind.direction)


def _known_rule(kind: TransferKind) -> Rule:
    known = [option.name for option in kind.options]
    names = f"o, !(o.name in {cel_list(known)})"
    return Rule(
        id=f"known-options-{kind.name}",
        at=(_at(kind),),
        cel=f"self.type != '{kind.store}' || !has(self.options) || !self.options.exists({names})",
        field_path=".options",
        message=f"a {kind.store} {kind.direction} has no option '{{name}}'",
        remedy=f"it has {', '.join(known)}",
        general=f"a {kind.store} {kind.direction} has no such option",
        check=_unknown_to(kind),
    )


def _required_rule(kind: TransferKind, name: str) -> Rule:
    return Rule(
        id=f"required-{name}-{kind.name}",
        at=(_at(kind),),
        cel=f"self.type != '{kind.store}' || (has(self.options) && self.options.exists(o, o.name == '{name}'))",
        field_path=".options",
        message=f"option '{name}' is missing",
        remedy=f"a {kind.store} {kind.direction} needs it",
        check=_missing_for(kind, name),
    )


RULES: Final = (
    *(_known_rule(kind) for kind in KINDS),
    *(_required_rule(kind, option.name) for kind in KINDS for option in kind.options if option.required),
    Rule(
        id="unique-options",
        schema="x-kubernetes-list-map-keys",
        at=tuple(f"{end}.options" for end in ENDS),
        message="option '{name}' stands there twice",
        remedy="keep one of them",
        check=_repeated_options,
    ),
    Rule(
        id="one-value",
        at=ITEMS,
        cel="has(self.value) != has(self.valueFrom)",
        message="an option has exactly one of value and valueFrom",
        remedy="give the value itself, or where it comes from; to leave an option out, remove the entry",
        check=_without_one_value,
    ),
    Rule(
        id="one-reference",
        at=tuple(f"{item}.valueFrom" for item in (*ITEMS, "spec.executor.env[]")),
        cel="has(self.secretKeyRef) != has(self.configMapKeyRef)",
        message="valueFrom has exactly one of secretKeyRef and configMapKeyRef",
        remedy="name one of them",
        check=_without_one_reference,
    ),
    Rule(
        id="literal-only",
        at=ITEMS,
        cel=f"!(self.name in {cel_list(LITERAL)}) || !has(self.valueFrom)",
        field_path=".valueFrom",
        message="option '{name}' cannot come from a Secret or ConfigMap",
        remedy="set it directly with value",
        values={"name": "self.name"},
        check=_literal_by_reference,
    ),
    Rule(
        id="not-empty",
        at=ITEMS,
        cel=f"!(self.name in {cel_list(NEVER_EMPTY)}) || !has(self.value) || self.value != ''",
        field_path=".value",
        message="option '{name}' is empty",
        remedy="give it a value, or remove the entry where the option is not required",
        values={"name": "self.name"},
        check=_empty,
    ),
    *(_value_rule(rule) for rule in VALUE_RULES),
    Rule(
        id="url-allowed",
        enforced=Enforced.OPERATOR,
        message="{problem}",
        remedy="",
        check=_bad_url,
    ),
    Rule(
        id="url-names-a-repository",
        enforced=Enforced.OPERATOR,
        message="the URL names no repository",
        remedy="it ends in the repository's name, such as https://github.com/owner/repo.git",
        check=_no_repository,
    ),
)
