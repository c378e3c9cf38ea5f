"""Kubernetes' `$(NAME)` references: found, ordered, resolved and escaped exactly as the kubelet does.

The source of the rules is `third_party/forked/golang/expansion/expand.go` and `makeEnvironmentVariables` of the
kubelet. Pure; values come in through a lookup.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, Protocol

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import WaitingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datacube_flows.api.corev1 import EnvVar, KeySelector

TOKEN: Final = re.compile(r"\$(?:\$|\((?P<name>[^)]*)\)|[^$])", re.DOTALL)
"""One step of the kubelet's scanner: `$$`, `$(NAME)`, or `$` with whatever follows it. A `$` at the end is text."""


class Lookup(Protocol):
    """Reads a key of a Secret or ConfigMap; None where the object or the key does not exist."""

    def __call__(self, source: Literal["secret", "configmap"], name: str, key: str, optional: bool) -> str | None:
        """Returns the value of `key` of the object `name`."""


def references(value: str) -> tuple[str, ...]:
    """Returns the names that `value` refers to, each once, in order."""
    names = (m["name"] for m in TOKEN.finditer(value) if m["name"] is not None)
    return tuple(dict.fromkeys(names))


def expand(value: str, env: Mapping[str, str]) -> str:
    """Returns `value` with each `$(NAME)` replaced, `$$` as `$`; a name that `env` lacks stays as it was written."""

    def step(found: re.Match[str]) -> str:
        if found["name"] is not None:
            return env.get(found["name"], found[0])
        return "$" if found[0] == "$$" else found[0]

    return TOKEN.sub(step, value)


def escape(text: str) -> str:
    """Returns what the kubelet expands back to `text`, for text that goes into a container's `args`."""
    return text.replace("$", "$$")


def order_env(entries: Sequence[EnvVar]) -> tuple[EnvVar, ...]:
    """Returns the entries with each one after all that it refers to.

    Only a definition that comes too late moves: to just before the first entry that needs it. A reference to itself
    or to a name that is not among the entries moves nothing; nor does one that closes a circle.
    """
    by_name: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        by_name.setdefault(entry.name, []).append(index)
    order: dict[int, None] = {}
    started: set[int] = set()

    def place(index: int) -> None:
        if index in started:
            return
        started.add(index)
        for name in _needs(entries[index]):
            for needed in by_name.get(name, ()):
                place(needed)
        order[index] = None

    for index in range(len(entries)):
        place(index)
    return tuple(entries[i] for i in order)


def reference_cycles(entries: Sequence[EnvVar]) -> tuple[tuple[str, ...], ...]:
    """Returns each circle of references once, as the names along it, beginning with the first in the list."""
    needs = {e.name: _needs(e) for e in entries}
    found: dict[frozenset[str], tuple[str, ...]] = {}
    for name in needs:
        if circle := _circle(name, needs):
            found.setdefault(frozenset(circle), circle)
    return tuple(found.values())


def _circle(start: str, needs: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The shortest way from a name back to itself; empty where there is none."""
    paths: list[tuple[str, ...]] = [(start,)]
    seen: set[str] = set()
    for path in paths:
        for name in needs.get(path[-1], ()):
            if name == start:
                return path
            if name in needs and name not in seen:
                seen.add(name)
                paths.append((*path, name))
    return ()


def _needs(entry: EnvVar) -> tuple[str, ...]:
    return tuple(n for n in references(entry.value or "") if n != entry.name)


def resolve_env(entries: Sequence[EnvVar], lookup: Lookup) -> dict[str, str]:
    """Returns the environment that the kubelet gives a container with these entries.

    A value may use names that come earlier in the list; a later entry of the same name wins; a value that comes from
    a Secret or ConfigMap is taken as it is; one that is optional and missing leaves its variable unset.

    Raises:
        WaitingError: a Secret, a ConfigMap or a key that is not optional does not exist.
    """
    env: dict[str, str] = {}
    for entry in entries:
        value = _from_elsewhere(entry, lookup) if not entry.value else expand(entry.value, env)
        if value is not None:
            env[entry.name] = value
    return env


def _from_elsewhere(entry: EnvVar, lookup: Lookup) -> str | None:
    source = entry.value_from
    if source is not None and source.secret_key_ref is not None:
        return _read("secret", source.secret_key_ref, lookup)
    if source is not None and source.config_map_key_ref is not None:
        return _read("configmap", source.config_map_key_ref, lookup)
    return ""


def _read(source: Literal["secret", "configmap"], ref: KeySelector, lookup: Lookup) -> str | None:
    optional = bool(ref.optional)
    value = lookup(source, ref.name, ref.key, optional)
    if value is None and not optional:
        kind = {"secret": "Secret", "configmap": "ConfigMap"}[source]
        raise WaitingError(Reason.WAITING_FOR_SECRET, f"{kind} '{ref.name}' has no key '{ref.key}', or does not exist")
    return value
