"""What one argument of a tool may be: its spellings, its value, what becomes of it.

Pure data types for the tables in `flags_*.py`, which `core/extra_args.py` reads; knows no tool.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

CACHE_ROOTS: Final = ("/tmp",)  # noqa: S108 - a path inside the attempt's own container, named by users
"""Folders below which an argument may put files: the attempt's own scratch volume."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a value must be; `wanted` completes the sentence "takes ..."."""

    wanted: str
    accepts: Callable[[str], bool]


class Effect(Enum):
    """What becomes of an allowed argument."""

    PASS = "pass"  # noqa: S105 - a word, not a password
    DROP = "drop"
    ENV = "env"


@dataclass(frozen=True, slots=True)
class Flag:
    """One argument that a verb allows.

    Attributes:
        names: every spelling, the one given to the tool last; that one starts with `--`.
        value: what its value must be; None where it takes none.
        attached: a value is given as `--flag=value` only, and may be absent (git's `[=<x>]`, rclone's switches).
        effect: passed to the tool, dropped with `note` as a notice, or turned into the variable `env`.
    """

    names: tuple[str, ...]
    value: Check | None = None
    attached: bool = False
    effect: Effect = Effect.PASS
    note: str = ""
    env: str = ""

    @property
    def name(self) -> str:
        """The spelling that the tool gets."""
        return self.names[-1]


@dataclass(frozen=True, slots=True)
class Verb:
    """All that is known of one verb of a tool.

    Attributes:
        name: `git clone`.
        allowed: spelling -> flag.
        denied: spelling -> why it is refused and what to do instead.
        families: prefix -> why everything that starts so is refused; an exact spelling goes before it.
    """

    name: str
    allowed: Mapping[str, Flag]
    denied: Mapping[str, str]
    families: Mapping[str, str]

    def refusal(self, spelling: str) -> str:
        """Why the spelling is refused on purpose; "" when it is not known to be."""
        if spelling in self.denied:
            return self.denied[spelling]
        return next((why for prefix, why in self.families.items() if spelling.startswith(prefix)), "")


def make_verb(
    name: str, *, allow: tuple[Flag, ...], deny: Mapping[str, str], families: Mapping[str, str] | None = None
) -> Verb:
    """Returns the verb; `deny` maps spellings, several separated by blanks, to one reason."""
    denied = {spelling: why for spellings, why in deny.items() for spelling in spellings.split()}
    return Verb(name, {n: flag for flag in allow for n in flag.names}, denied, dict(families or {}))


def switch(names: str) -> Flag:
    """An argument without a value; `names` are separated by blanks, the one for the tool last."""
    return Flag(tuple(names.split()))


def toggle(names: str) -> Flag:
    """An argument without a value that also takes `=true` and `=false`."""
    return Flag(tuple(names.split()), one_of("true", "false"), attached=True)


def valued(names: str, check: Check) -> Flag:
    """An argument with a value."""
    return Flag(tuple(names.split()), check)


def dropped(names: str, note: str, check: Check | None = None) -> Flag:
    """An argument that is accepted and not given to the tool."""
    return Flag(tuple(names.split()), check, effect=Effect.DROP, note=note)


def as_env(names: str, check: Check, env: str) -> Flag:
    """An argument that the tool is given as an environment variable."""
    return Flag(tuple(names.split()), check, effect=Effect.ENV, env=env)


def whole(low: int, high: int) -> Check:
    """A whole number from `low` to `high`, both included."""
    return Check(
        f"a whole number from {low} to {high}",
        lambda text: re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) is not None and low <= int(text) <= high,
    )


def decimal(high: float) -> Check:
    """A number from 0 to `high`."""
    return Check(
        f"a number from 0 to {high:g}",
        lambda text: re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text, re.ASCII) is not None and float(text) <= high,
    )


def one_of(*words: str) -> Check:
    """One of the words, exactly."""
    return Check("one of " + ", ".join(words), frozenset(words).__contains__)


def matching(pattern: str, wanted: str) -> Check:
    """Text that the pattern describes as a whole."""
    compiled = re.compile(pattern, re.ASCII)
    return Check(wanted, lambda text: compiled.fullmatch(text) is not None)


_UNITS: Final = {"": 1024, "B": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def size(high: str) -> Check:
    """A size as rclone writes it (`64M`, `1.5Gi`; a bare number is KiB), at most `high`."""
    limit = _bytes(high)
    return Check(f"a size such as 64M, at most {high}", lambda text: (found := _bytes(text)) >= 0 and found <= limit)


def _bytes(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([BKMGT]?)(?:i?B?)", text, re.ASCII)
    return float(found[1]) * _UNITS[found[2]] if found else -1


DURATION: Final = matching(
    r"([0-9]{1,9}(\.[0-9]{1,6})?(ms|[smhdwMy]))+|[0-9]{1,9}(\.[0-9]{1,6})?", "a duration such as 30s"
)
_DATE: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:]{5,8}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
AGE: Final = matching(rf"off|([0-9]{{1,9}}(\.[0-9]{{1,6}})?(ms|[smhdwMy])?)+|{_DATE}", "an age such as 24h, or a date")
TRISTATE: Final = one_of("true", "false", "unset")
WORD: Final = matching(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,255}", "letters, digits and `_.:/-`")
TEXT: Final = Check("text without control characters", str.isprintable)


def _is_cache_path(text: str) -> bool:
    return text.isprintable() and any(
        posixpath.normpath(text) == text.rstrip("/") and text.startswith(f"{root}/") for root in CACHE_ROOTS
    )


CACHE_PATH: Final = Check("a folder below " + " or ".join(CACHE_ROOTS), _is_cache_path)
