"""Text that Argo must leave as it is: what users write goes through several rounds of its `{{...}}` substitution.

Pure. The kubelet expands `$(NAME)` after Argo is done, so `{{` is written with a variable that holds one brace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from datacube_flows.core.expansion import TOKEN
from datacube_flows.errors import InvalidDataCube, Violation

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

OPENING: Final = "{{"
BRACE: Final = "DATACUBE_LB"
"""Name of the variable that holds `{`; documents may not set names that begin with `DATACUBE_`."""

_WRITTEN: Final = f"{{$({BRACE})"


def protect_container(container: dict[str, Any]) -> dict[str, Any]:
    """Returns the container with no `{{` in its arguments and variables, and the kubelet's result unchanged."""
    env = [{"name": BRACE, "value": "{"}, *(_protect_variable(v) for v in container.get("env", ()))]
    return container | {"args": [_break_braces(a) for a in container["args"]], "env": env}


def protect_value(value: str) -> str:
    """Returns a variable's value without `{{`, which the kubelet expands to the same text as `value`.

    A `$(` that stands for no variable's name is text to the kubelet. It is written as `$$(` where the variable that
    replaces a brace would give it a closing parenthesis, or would be swallowed by it.
    """
    if OPENING not in value:
        return value
    return _break_braces(TOKEN.sub(_as_text, value))


def check_no_braces(value: Any, path: str) -> None:
    """Looks at all that can be protected by nothing, since no kubelet expands it: names, labels, paths.

    Raises:
        InvalidDataCube: a text in `value` holds `{{`; `path` says where `value` stands.
    """
    found = [
        Violation(where, "holds `{{`, which Argo would replace", "write it without") for where in _braced(value, path)
    ]
    if found:
        raise InvalidDataCube(found)


def _protect_variable(variable: dict[str, Any]) -> dict[str, Any]:
    value = variable.get("value")
    return variable | {"value": protect_value(value)} if value else variable


def _as_text(token: re.Match[str]) -> str:
    """A reference and a doubled `$` stay; whatever else begins with `$(` is doubled."""
    name = token["name"]
    is_text = token[0] == "$(" or (name is not None and OPENING in name)
    return token[0].replace("$", "$$") if is_text else token[0]


def _break_braces(text: str) -> str:
    return text.replace(OPENING, _WRITTEN)


def _braced(value: Any, path: str) -> Iterator[str]:
    """The places within `value` whose text, or name, holds `{{`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _braced(key, f"{path}.{key}")
            yield from _braced(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _braced(inner, f"{path}[{index}]")
    elif isinstance(value, str) and OPENING in value:
        yield path
