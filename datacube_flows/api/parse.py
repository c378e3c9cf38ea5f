"""Documents into models: every way in which one does not fit, with its path and what to do about it.

Violations never quote a value: it may be a secret that stands in the wrong place.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from datacube_flows.api import wire
from datacube_flows.api.datacube import DataCube
from datacube_flows.errors import InvalidDataCube, Violation

Location = tuple[int | str, ...]

_WORDS: Final = (
    (bool, "a boolean"),
    (int, "a number"),
    (float, "a number"),
    (str, "a text"),
    (Mapping, "an object"),
    (list | tuple, "a list"),
    (date, "a date"),
)
_WANTED: Final = {
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "enum": "a text",
    "literal_error": "a text",
}
_QUOTE: Final = "quote it: YAML reads an unquoted on, off, yes, no, true, false, number or date as something else"
_PATTERNS: Final = {
    wire.SUBDOMAIN: (
        "not a name that Kubernetes takes",
        "a lower-case RFC 1123 name: lower-case letters, digits, '-' and '.', a letter or digit first and last",
    ),
    wire.ENV_NAME: (
        "not a name that Kubernetes takes for a variable",
        "letters, digits, '_', '-' and '.', not a digit first",
    ),
    wire.KEY: ("not a key of a Secret or ConfigMap", "letters, digits, '_', '-' and '.'"),
}


def parse_datacube(document: Mapping[str, Any]) -> DataCube:
    """Returns the cube that a document describes; rules that join fields are in `core/rules.py`.

    Raises:
        InvalidDataCube: with every field that is unknown, missing, or not what it has to be.
    """
    try:
        return DataCube.model_validate(document, by_name=False)
    except ValidationError as error:
        raise InvalidDataCube([_violation(e) for e in error.errors(include_url=False)]) from None


def path_of(location: Iterable[int | str]) -> str:
    """Returns a path as Kubernetes writes it: `spec.source.options[1].value`, `metadata.labels[a.b/c]`."""
    text = ""
    for part in location:
        is_plain = isinstance(part, str) and re.fullmatch(r"[A-Za-z0-9_-]+", part)
        text += f".{part}" if is_plain else f"[{part}]"
    return text.removeprefix(".")


def _violation(error: ErrorDetails) -> Violation:
    message, remedy = _DESCRIBE.get(error["type"], _mismatch)(error)
    return Violation(path_of(_location(error)), message, remedy)


def _location(error: ErrorDetails) -> Location:
    """Where it is; a key that is no text is written as the reader of YAML understood it."""
    location = error["loc"]
    if location and location[-1] == "[key]":
        return (*location[:-2], str(error["input"]))
    return (*location[:-1], str(error["input"])) if error["type"] == "invalid_key" else location


def _missing(error: ErrorDetails) -> tuple[str, str]:
    field = error["loc"][-1]
    return "missing", _EXPECTED.get(error["loc"], f"set {field}")


_EXPECTED: Final[Mapping[Location, str]] = {
    ("apiVersion",): "apiVersion: tensorstack.dev/v1beta1",
    ("kind",): "kind: DataCube",
}


def _unknown(error: ErrorDetails) -> tuple[str, str]:
    name, known = str(error["loc"][-1]), _fields_at(error["loc"][:-1])
    if meant := _closest(name, known):
        return "unknown field", f"did you mean {meant}?"
    return "unknown field", f"the fields here are {', '.join(known)}" if known else "remove it"


def _mismatch(error: ErrorDetails) -> tuple[str, str]:
    wanted = _WANTED.get(error["type"])
    if wanted is None:
        return error["msg"].removeprefix("Value error, "), ""
    found = next((word for kind, word in _WORDS if isinstance(error["input"], kind)), "something else")
    return f"expected {wanted}, found {found}", _quoting(error, wanted)


def _quoting(error: ErrorDetails, wanted: str) -> str:
    value = error["input"]
    if wanted == "a text" and not isinstance(value, str | Mapping | list | tuple):
        return _QUOTE
    if wanted in ("a whole number", "true or false") and isinstance(value, str):
        return "write it without quotes"
    return ""


def _one_of(error: ErrorDetails) -> tuple[str, str]:
    if not isinstance(error["input"], str):
        return _mismatch(error)
    expected = (error.get("ctx") or {}).get("expected", "")
    return "not a value that it can have", f"one of {expected}" if " or " in expected else f"it has to be {expected}"


def _pattern(error: ErrorDetails) -> tuple[str, str]:
    return _PATTERNS[error["ctx"]["pattern"]]


def _too_long(error: ErrorDetails) -> tuple[str, str]:
    context = error["ctx"]
    unit = "characters" if error["type"].startswith("string") else "entries"
    return "too long", f"at most {context['max_length']} {unit}"


def _too_short(error: ErrorDetails) -> tuple[str, str]:
    return "empty", "give it a value"


def _below(error: ErrorDetails) -> tuple[str, str]:
    return "too small", f"at least {error['ctx']['ge']}"


def _above(error: ErrorDetails) -> tuple[str, str]:
    return "too large", f"at most {error['ctx']['le']}"


def _invalid_key(_error: ErrorDetails) -> tuple[str, str]:
    return "the name of a field has to be a text", _QUOTE


_DESCRIBE: Final[Mapping[str, Callable[[ErrorDetails], tuple[str, str]]]] = {
    "missing": _missing,
    "extra_forbidden": _unknown,
    "invalid_key": _invalid_key,
    "enum": _one_of,
    "literal_error": _one_of,
    "string_pattern_mismatch": _pattern,
    "string_too_long": _too_long,
    "string_too_short": _too_short,
    "too_long": _too_long,
    "greater_than_equal": _below,
    "less_than_equal": _above,
}


def _closest(name: str, known: Iterable[str]) -> str:
    """The field that was probably meant: `subpath` and `sub_path` are `subPath`."""
    plain = {_plain(k): k for k in known}
    if _plain(name) in plain:
        return plain[_plain(name)]
    close = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.75)
    return plain[close[0]] if close else ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _fields_at(location: Location) -> tuple[str, ...]:
    """The fields of the model that stands at a location."""
    model: type[BaseModel] | None = DataCube
    for part in location:
        if isinstance(part, int) or model is None:
            continue
        field = next((f for f in model.model_fields.values() if f.alias == part), None)
        model = _model_in(field.annotation) if field else None
    return tuple(f.alias or "" for f in model.model_fields.values()) if model else ()


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation speaks of: itself, optional, or the items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)
