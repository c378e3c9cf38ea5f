"""Rules of `spec.executor`: manner, arguments and environment (SPEC sections 1, 4 and 6, SECURITY S09, S10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datacube_flows.api import quantity
from datacube_flows.core.env_policy import forbidden_env
from datacube_flows.core.expansion import reference_cycles
from datacube_flows.core.extra_args import check_extra_args
from datacube_flows.core.kinds import KINDS, env_name
from datacube_flows.core.rule import Enforced, Rule, cel_string, never
from datacube_flows.core.rules_ends import RECREATE
from datacube_flows.core.rules_options import repeated
from datacube_flows.core.values import CONTROL, pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datacube_flows.core.rule import Allowed, Check, Found, Subject

OPTIONS_AT: Final = "spec.executor.options"
ENV_AT: Final = "spec.executor.env"
RESERVED: Final = "DATACUBE_"
_REFERENCE: Final = r"\x24\("


def _sync_elsewhere(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    source = subject.source
    if subject.options.sync and source.type and not (source.kind and source.kind.sync):
        yield f"{OPTIONS_AT}.sync", {}


def _max_delete_alone(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    if subject.options.max_delete is not None and not subject.options.sync:
        yield f"{OPTIONS_AT}.maxDelete", {}


def _no_bandwidth(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    limit = subject.options.bandwidth_limit
    if limit is not None and quantity.whole(limit) < 1:
        yield f"{OPTIONS_AT}.bandwidthLimit", {}


def _arguments_with(refused: str) -> Check:
    def check(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
        for i, argument in enumerate(subject.options.extra_args):
            if pattern(refused).search(argument):
                yield f"{OPTIONS_AT}.extraArgs[{i}]", {}

    return check


def _argument_refused(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    store, arguments = subject.store, subject.options.extra_args
    if store is None or store.kind is None:
        return
    for problem in check_extra_args(store.kind, arguments):
        said = pattern(f"{_REFERENCE}|{CONTROL}").search(arguments[problem.index])
        if not said:
            yield f"{OPTIONS_AT}.extraArgs[{problem.index}]", {"problem": problem.message, "remedy": problem.remedy}


def _repeated_variables(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    yield from repeated(subject.variables())


def _two_values(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    for path, variable in subject.variables():
        if variable.value is not None and variable.value_from is not None:
            yield path, {}


def _nul_in_value(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    for path, variable in subject.variables():
        if "\0" in (variable.value or ""):
            yield f"{path}.value", {}


def _clashes_with(end_name: str) -> Check:
    def check(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
        options = {n: o.name for o in getattr(subject, end_name).options.values() for n in (o.name, env_name(o.name))}
        for path, variable in subject.variables():
            if variable.name in options:
                yield f"{path}.name", {"name": variable.name}

    return check


def _clash_rule(end_name: str) -> Rule:
    clash = f"e, self.{end_name}.options.exists(o, e.name == o.name || e.name == o.name.upperAscii().replace('-', '_'))"
    present = f"!has(self.{end_name}.options) || !has(self.executor) || !has(self.executor.env)"
    return Rule(
        id=f"env-is-no-{end_name}-option",
        at=("spec",),
        cel=f"{present} || !self.executor.env.exists({clash})",
        field_path=".executor.env",
        message="'{name}' is the name of an option, or the variable that carries it",
        remedy="set the option, and remove the variable",
        general="a variable has the name of an option, or of the variable that carries one",
        check=_clashes_with(end_name),
    )


def _reserved(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    for path, variable in subject.variables():
        if variable.name.startswith(RESERVED):
            yield f"{path}.name", {}


def _forbidden(subject: Subject, allowed: Allowed) -> Iterator[Found]:
    for path, variable in subject.variables():
        why = forbidden_env(variable.name, allowed.env_policy)
        if why and not variable.name.startswith(RESERVED):
            yield f"{path}.name", {"name": variable.name, "why": why}


def _circles(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    named = list(subject.container_env())
    for circle in reference_cycles([variable for _path, variable in named]):
        path = next(path for path, variable in named if variable.name == circle[0])
        yield f"{path}.value", {"circle": " -> ".join(f"$({name})" for name in (*circle, circle[0]))}


_SYNC_STORES: Final = " || ".join(f"self.source.type == '{kind.store}'" for kind in KINDS if kind.sync)

RULES: Final = (
    Rule(
        id="sync-only-where-it-works",
        at=("spec",),
        cel="!has(self.executor) || !has(self.executor.options) || !has(self.executor.options.sync) || "
        f"!self.executor.options.sync || {_SYNC_STORES}",
        field_path=".executor.options.sync",
        message="sync works only for an s3 download",
        remedy="remove it",
        check=_sync_elsewhere,
    ),
    Rule(
        id="max-delete-needs-sync",
        at=(OPTIONS_AT,),
        cel="!has(self.maxDelete) || (has(self.sync) && self.sync)",
        field_path=".maxDelete",
        message="maxDelete limits what a sync deletes",
        remedy="remove it, or set sync to true",
        check=_max_delete_alone,
    ),
    Rule(
        id="bandwidth-positive",
        at=(f"{OPTIONS_AT}.bandwidthLimit",),
        cel="type(self) == int ? self > 0 : quantity(self).isGreaterThan(quantity('0'))",
        message="bandwidthLimit is not above zero",
        remedy="give bytes per second, such as 50M, or remove it for no limit",
        check=_no_bandwidth,
    ),
    Rule(
        id="extra-args-no-reference",
        at=(f"{OPTIONS_AT}.extraArgs[]",),
        cel=f"!self.matches({cel_string(_REFERENCE)})",
        message="the argument holds '$(', which would put a variable's value onto a command line",
        remedy="write the value itself; secrets belong into options",
        check=_arguments_with(_REFERENCE),
    ),
    Rule(
        id="extra-args-no-control",
        at=(f"{OPTIONS_AT}.extraArgs[]",),
        cel=f"!self.matches({cel_string(CONTROL)})",
        message="the argument holds a control character",
        remedy="remove it",
        check=_arguments_with(CONTROL),
    ),
    Rule(
        id="extra-args-allowed",
        enforced=Enforced.OPERATOR,
        message="{problem}",
        remedy="{remedy}",
        check=_argument_refused,
    ),
    Rule(
        id="unique-env",
        schema="x-kubernetes-list-map-keys",
        at=(ENV_AT,),
        message="variable '{name}' stands there twice",
        remedy="keep one of them",
        check=_repeated_variables,
    ),
    Rule(
        id="env-not-two-values",
        at=(f"{ENV_AT}[]",),
        cel="!has(self.value) || !has(self.valueFrom)",
        message="a variable has only one of value and valueFrom",
        remedy="remove one of them",
        check=_two_values,
    ),
    Rule(
        id="env-no-nul",
        at=(f"{ENV_AT}[]",),
        cel=f"!has(self.value) || !self.value.matches({cel_string(chr(92) + 'x00')})",
        field_path=".value",
        message="the value holds a NUL character",
        remedy="remove it",
        check=_nul_in_value,
    ),
    _clash_rule("source"),
    _clash_rule("sink"),
    Rule(
        id="env-reserved",
        at=(f"{ENV_AT}[]",),
        cel=f"!self.name.startsWith('{RESERVED}')",
        field_path=".name",
        message=f"names that begin with {RESERVED} are reserved",
        remedy="choose another name",
        check=_reserved,
    ),
    Rule(
        id="env-allowed",
        enforced=Enforced.OPERATOR,
        message="variable '{name}' may not be set: {why}",
        remedy="remove it",
        check=_forbidden,
    ),
    Rule(
        id="no-reference-circle",
        enforced=Enforced.OPERATOR,
        message="the references go round in a circle: {circle}",
        remedy="give one of them its value",
        check=_circles,
    ),
    Rule(
        id="executor-immutable",
        at=("spec.executor",),
        cel="self == oldSelf",
        message="this cannot be changed after creation",
        remedy=RECREATE,
        check=never,
        is_transition=True,
    ),
    Rule(
        id="executor-stays",
        at=("spec",),
        cel="has(self.executor) == has(oldSelf.executor)",
        field_path=".executor",
        message="executor cannot be added or removed after creation",
        remedy=RECREATE,
        check=never,
        is_transition=True,
    ),
)
