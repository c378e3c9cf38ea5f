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

CACHE_ROOT: Final = "/tmp"  # noqa: S108 - a path inside the attempt's own container, named by users
"""Below it an argument may put files; not on the volume, where everything is data that a later upload moves."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a value must be.

    Attributes:
        wanted: completes the sentence "it takes ...".
        accepts: whether a value is that.
        example: one that is; the tests give it to the real tool.
    """

    wanted: str
    accepts: Callable[[str], bool]
    example: str


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
    """Returns the verb; `deny` and `families` map spellings, several separated by blanks, to one reason."""
    return Verb(name, {n: flag for flag in allow for n in flag.names}, _one_by_one(deny), _one_by_one(families or {}))


def _one_by_one(reasons: Mapping[str, str]) -> dict[str, str]:
    return {spelling: why for spellings, why in reasons.items() for spelling in spellings.split()}


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
        str(low),
    )


def decimal(high: float) -> Check:
    """A number from 0 to `high`."""
    return Check(
        f"a number from 0 to {high:g}",
        lambda text: re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text, re.ASCII) is not None and float(text) <= high,
        "0.5",
    )


def one_of(*words: str) -> Check:
    """One of the words, exactly."""
    return Check("one of " + ", ".join(words), frozenset(words).__contains__, words[0])


def matching(pattern: str, wanted: str, example: str) -> Check:
    """Text that the pattern describes as a whole."""
    compiled = re.compile(pattern, re.ASCII)
    return Check(wanted, lambda text: compiled.fullmatch(text) is not None, example)


_SIZE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(?:([Bb])|([KMGTkmgt])(?:iB?)?)?", re.ASCII)
_POWERS: Final = {"": 1, "K": 1, "M": 2, "G": 3, "T": 4}


def size(high: str) -> Check:
    """A size as rclone writes it (`64M`, `1.5Gi`; a bare number is KiB), at most `high`."""
    limit = _bytes(high)
    return Check(f"a size such as 8M, at most {high}", lambda text: 0 <= _bytes(text) <= limit, "8M")


def _bytes(text: str) -> float:
    found = _SIZE.fullmatch(text)
    if found is None:
        return -1
    number, plain, unit = found.groups("")
    return float(number) * (1 if plain else 1024 ** _POWERS[unit.upper()])


def or_off(check: Check) -> Check:
    """What `check` takes, or `off`."""
    return Check(f"{check.wanted}, or off", lambda text: text == "off" or check.accepts(text), check.example)


def _is_cache_path(text: str) -> bool:
    return text.isprintable() and text.startswith(f"{CACHE_ROOT}/") and posixpath.normpath(text) == text.rstrip("/")


_NUMBER: Final = r"[0-9]{1,9}(\.[0-9]{1,6})?"
_DATE: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2}))?"

DURATION: Final = matching(rf"0|({_NUMBER}(ns|us|ms|s|m|h))+", "a duration such as 1h30m", "1h30m")
AGE: Final = matching(rf"off|{_NUMBER}(ms|[smhdwMy])?|{_DATE}", "an age such as 24h, or a date", "24h")
TRISTATE: Final = one_of("true", "false", "unset")
WORD: Final = matching(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,255}", "letters, digits and `_.:/-`", "word")
TEXT: Final = Check("text without control characters", str.isprintable, "*.bin")
CACHE_PATH: Final = Check(f"a folder below {CACHE_ROOT}", _is_cache_path, f"{CACHE_ROOT}/cache/hf")
