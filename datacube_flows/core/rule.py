"""What a rule is, and what it looks at. The rules themselves are in `rules_*.py`; `rules.py` runs them.

One record serves both sides: its Python check finds the places that break it, its CEL expression stands in the CRD, and
both speak with the same message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from datacube_flows.api.corev1 import EnvVar, PersistentVolumeClaimTemplate
from datacube_flows.api.datacube import Executor, ExecutorOptions
from datacube_flows.api.ends import EndType
from datacube_flows.api.wire import Text, WireModel
from datacube_flows.core.kinds import Direction, TransferKind, env_name, kind_of
from datacube_flows.errors import Violation

if TYPE_CHECKING:
    from datacube_flows.api.datacube import DataCube, DataReference
    from datacube_flows.core.env_policy import EnvPolicy

T = TypeVar("T")
M = TypeVar("M", bound=WireModel)

ENDS: Final = ("spec.source", "spec.sink")
DIRECTION_AT: Final = {"spec.source": Direction.DOWNLOAD, "spec.sink": Direction.UPLOAD}
"""Which way the bytes go when the store stands at that end."""


class Enforced(StrEnum):
    """Who refuses a document that breaks the rule."""

    CRD = "crd"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Allowed:
    """What whoever runs DataCube allows; never part of a document."""

    env_policy: EnvPolicy = "deny"
    schemes: tuple[str, ...] = ("https",)


@dataclass(frozen=True)
class End:
    """One end of a document, as far as it could be read; what could not is already told.

    Attributes:
        at: `spec.source` or `spec.sink`.
        options: each readable option with its place in the list.
    """

    at: str
    type: EndType | None = None
    options: Mapping[int, EnvVar] = field(default_factory=dict)
    has_pvc: bool = False
    sub_path: str | None = None
    has_template: bool = False
    template: PersistentVolumeClaimTemplate | None = None

    @cached_property
    def kind(self) -> TransferKind | None:
        """The row of a store at this end; None for a claim."""
        if self.type in (None, EndType.PVC):
            return None
        return kind_of(EndType(self.type), DIRECTION_AT[self.at])

    def named(self) -> Iterable[tuple[str, EnvVar]]:
        """Each option with its path."""
        return ((f"{self.at}.options[{i}]", option) for i, option in self.options.items())


@dataclass(frozen=True)
class Subject:
    """What the rules look at: a document's two ends and its executor."""

    source: End
    sink: End
    env: Mapping[int, EnvVar]
    options: ExecutorOptions

    @property
    def ends(self) -> tuple[End, End]:
        """Source and sink."""
        return (self.source, self.sink)

    @property
    def store(self) -> End | None:
        """The end that is a store, when exactly one is."""
        stores = [end for end in self.ends if end.kind]
        return stores[0] if len(stores) == 1 else None

    def variables(self) -> Iterable[tuple[str, EnvVar]]:
        """Each entry of `executor.env` with its path."""
        return ((f"spec.executor.env[{i}]", variable) for i, variable in self.env.items())

    def container_env(self) -> Iterable[tuple[str, EnvVar]]:
        """Each variable of the attempt under its environment name, with its path in the document."""
        for end in self.ends:
            for path, option in end.named():
                yield path, option.model_copy(update={"name": env_name(option.name)})
        yield from self.variables()


_END_TYPE: Final = TypeAdapter(EndType)
_TEXT: Final = TypeAdapter(Text)
_TEMPLATE: Final = TypeAdapter(PersistentVolumeClaimTemplate)

Found = tuple[str, Mapping[str, str]]
Check = Callable[[Subject, Allowed], Iterable[Found]]
"""Finds the places that break a rule: a path, and the values that the message names."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        id: stable name.
        message: what is wrong; `{name}` stands for a value that the check gives.
        remedy: what to do about it.
        check: the Python side.
        enforced: who refuses a document that breaks it.
        at: places in the schema where the expression stands; `[]` is the items of a list.
        cel: the expression, true for a good document; empty where the schema's own keywords say it (`schema`).
        field_path: the field below `at` that the API server names.
        values: for the `{name}` of the message the CEL expression that gives it.
        general: the message where CEL cannot give it: what comes out of a list's `filter` has no known size, and the
            API server refuses an expression whose cost it cannot bound.
        schema: the keyword that enforces the rule where `cel` is empty.
        is_transition: it compares with the stored object, so there is nothing to check in a document alone.
    """

    id: str
    message: str
    remedy: str
    check: Check
    enforced: Enforced = Enforced.CRD
    at: tuple[str, ...] = ()
    cel: str = ""
    field_path: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    general: str = ""
    schema: str = ""
    is_transition: bool = False

    @property
    def text(self) -> str:
        """Message and remedy as the CRD says them, the place of a value still open."""
        message = self.general or self.message
        return f"{message} ({self.remedy})" if self.remedy else message

    def violations(self, subject: Subject, allowed: Allowed) -> Iterable[Violation]:
        """Every place that breaks this rule."""
        for path, values in self.check(subject, allowed):
            yield Violation(path, _filled(self.message, values), _filled(self.remedy, values))


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The text with the values in their places; without values it is no template, and `{` is just a brace."""
    return template.format_map(values) if values else template


def cel_string(text: str) -> str:
    """Returns a CEL literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def cel_list(items: Iterable[str]) -> str:
    """Returns a CEL list of strings."""
    return f"[{', '.join(cel_string(i) for i in items)}]"


def never(_subject: Subject, _allowed: Allowed) -> Iterable[Found]:
    """The check of a rule that compares with the stored object."""
    return ()


def subject_of(cube: DataCube) -> Subject:
    """Returns what the rules look at in a cube."""
    spec = cube.spec
    executor = spec.executor or Executor()
    return Subject(
        source=_end_of("spec.source", spec.source),
        sink=_end_of("spec.sink", spec.sink),
        env=dict(enumerate(executor.env)),
        options=executor.options or ExecutorOptions(),
    )


def _end_of(at: str, end: DataReference) -> End:
    return End(
        at=at,
        type=end.type,
        options=dict(enumerate(end.options)),
        has_pvc=end.pvc is not None,
        sub_path=end.pvc.sub_path if end.pvc else None,
        has_template=bool(end.pvc and end.pvc.template),
        template=end.pvc.template if end.pvc else None,
    )


def salvage(document: Mapping[str, Any]) -> Subject:
    """Returns what the rules can look at in any document: all parts that can be read, whatever the others are."""
    spec = _mapping(document.get("spec"))
    executor = _mapping(spec.get("executor"))
    return Subject(
        source=_end("spec.source", _mapping(spec.get("source"))),
        sink=_end("spec.sink", _mapping(spec.get("sink"))),
        env=_variables(executor.get("env")),
        options=_readable_part(ExecutorOptions, _mapping(executor.get("options"))) or ExecutorOptions(),
    )


def _end(at: str, data: Mapping[str, Any]) -> End:
    pvc = data.get("pvc")
    inside = _mapping(pvc)
    return End(
        at=at,
        type=_readable(_END_TYPE, data.get("type")),
        options=_variables(data.get("options")),
        has_pvc=pvc is not None,
        sub_path=_readable(_TEXT, inside.get("subPath")),
        has_template=inside.get("template") is not None,
        template=_readable(_TEMPLATE, inside.get("template")),
    )


def _variables(items: Any) -> dict[int, EnvVar]:
    found = {i: _readable_part(EnvVar, item) for i, item in enumerate(items if isinstance(items, list | tuple) else ())}
    return {i: variable for i, variable in found.items() if variable is not None}


def _readable_part(model: type[M], data: Any) -> M | None:
    """The object without the fields that cannot be read; None where one that it needs is among them."""
    try:
        return model.model_validate(data, by_name=False)
    except ValidationError as error:
        broken = {e["loc"][0] for e in error.errors(include_url=False) if e["loc"]}
    kept = {k: v for k, v in _mapping(data).items() if k not in broken}
    return _readable(TypeAdapter(model), kept)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _readable(wanted: TypeAdapter[T], value: Any) -> T | None:
    if value is None:
        return None
    try:
        return wanted.validate_python(value, by_name=False)
    except ValidationError:
        return None
