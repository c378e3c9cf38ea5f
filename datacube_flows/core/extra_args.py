"""Checks `extraArgs` against the allowlists and gives each tool its part (SPEC section 4, SECURITY 2.4).

An argument is read as the tool reads it, and handed on in one form, `--flag=value`, so that tool and check cannot
disagree about which item is a flag. The lists themselves are in `core/flags_*.py`. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.core.flags import Effect, Flag, Verb
from datacube_flows.core.flags_git import GIT_CLONE, GIT_FETCH, GIT_PUSH
from datacube_flows.core.flags_hf import HF_DOWNLOAD, HF_UPLOAD
from datacube_flows.core.flags_rclone import RCLONE_COPY, RCLONE_SYNC
from datacube_flows.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from datacube_flows.core.kinds import TransferKind

VERBS: Final[Mapping[str, Verb]] = {
    verb.name: verb for verb in (GIT_CLONE, GIT_FETCH, GIT_PUSH, HF_DOWNLOAD, HF_UPLOAD, RCLONE_COPY, RCLONE_SYNC)
}
_SHORT: Final = 2


@dataclass(frozen=True, slots=True)
class ArgProblem:
    """One argument that is refused.

    Attributes:
        index: its place in `extraArgs`.
        message: what is wrong.
        remedy: what to do about it.
    """

    index: int
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ToolArguments:
    """What one verb is given: argv to append, variables to set, and what a person should know."""

    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Argument:
    """A flag as it was written: its place, its spelling, what it is, its value ("" when there is none)."""

    index: int
    spelling: str
    flag: Flag
    value: str | None


def check_extra_args(kind: TransferKind, args: Sequence[str]) -> tuple[ArgProblem, ...]:
    """Returns every argument that the kind's tool may not be given; empty when all may.

    An argument is allowed when one of the kind's verbs allows it: which of `git clone` and `git fetch` runs is known
    only inside the attempt.
    """
    return tuple(p for p in _read(_verbs(kind), args) if isinstance(p, ArgProblem))


def arguments_for(tool_verb: str, args: Sequence[str]) -> ToolArguments:
    """Returns what exactly this verb (`git fetch`) is given of a document's `extraArgs`.

    Raises:
        TransferError: InvalidSpec, when an argument is refused; documents are checked before, so this is the last door.
    """
    verb = VERBS[tool_verb]
    argv: list[str] = []
    env: dict[str, str] = {}
    notices: list[str] = []
    for argument in _allowed(verb, args):
        flag = verb.allowed.get(argument.spelling)
        if flag is None:
            notices.append(f"extraArgs: {argument.spelling} is not an argument of `{verb.name}` and was left out")
        elif flag.effect is Effect.DROP:
            notices.append(f"extraArgs: {argument.spelling} was left out: {flag.note}")
        elif flag.effect is Effect.ENV:
            env[flag.env] = argument.value or ""
        else:
            argv.append(flag.name if argument.value is None else f"{flag.name}={argument.value}")
    return ToolArguments(tuple(argv), env, tuple(dict.fromkeys(notices)))


def flag_values(tool_verb: str, args: Sequence[str], name: str) -> tuple[str, ...]:
    """Returns the values that the arguments give to the flag `name` of a verb, in order; "" for one without a value."""
    flag = VERBS[tool_verb].allowed[name]
    return tuple(a.value or "" for a in _allowed(VERBS[tool_verb], args) if a.spelling in flag.names)


def _allowed(verb: Verb, args: Sequence[str]) -> list[_Argument]:
    found = list(_read(_siblings(verb), args))
    problems = [p for p in found if isinstance(p, ArgProblem)]
    if problems:
        raise TransferError(Reason.INVALID_SPEC, f"extraArgs[{problems[0].index}]: {problems[0].message}")
    return [a for a in found if isinstance(a, _Argument)]


def _verbs(kind: TransferKind) -> tuple[Verb, ...]:
    return tuple(VERBS[f"{kind.tool} {verb}"] for verb in kind.verbs)


def _siblings(verb: Verb) -> tuple[Verb, ...]:
    """The verb and those that a document for it may also be read by."""
    groups = ((GIT_CLONE, GIT_FETCH), (RCLONE_COPY, RCLONE_SYNC))
    others = next((group for group in groups if verb in group), (verb,))
    return (verb, *(other for other in others if other is not verb))


def _read(verbs: Sequence[Verb], args: Sequence[str]) -> Iterator[_Argument | ArgProblem]:
    """Walks the list as the tools do: a flag, its value in the same item or in the next."""
    index = 0
    while index < len(args):
        found, used = _read_one(verbs, args, index)
        yield found
        index += used


def _read_one(verbs: Sequence[Verb], args: Sequence[str], index: int) -> tuple[_Argument | ArgProblem, int]:
    item = args[index]
    if problem := _bad_text(index, item):
        return problem, 1
    spelling, value = split(item)
    flag = _find(verbs, spelling)
    if flag is None:
        return _refused(verbs, index, spelling), 1 + _is_value_next(args, index, value)
    if flag.value is None or flag.attached:
        return _judged(index, spelling, flag, value), 1
    if value is not None:
        return _judged(index, spelling, flag, value), 1
    if index + 1 == len(args):
        return ArgProblem(index, f"{spelling} needs a value", f"it takes {flag.value.wanted}"), 1
    return _bad_text(index + 1, args[index + 1]) or _judged(index, spelling, flag, args[index + 1]), 2


def _find(verbs: Sequence[Verb], spelling: str) -> Flag | None:
    """What the spelling is, where some verb allows it and none refuses it on purpose."""
    if any(v.refusal(spelling) for v in verbs if spelling not in v.allowed):
        return None
    return next((v.allowed[spelling] for v in verbs if spelling in v.allowed), None)


def split(item: str) -> tuple[str, str | None]:
    """Returns the spelling of a flag and the value in the same item (`--depth=1`, `-j4`), None where it has none."""
    if item.startswith("--"):
        spelling, equals, value = item.partition("=")
        return spelling, value if equals else None
    if item.startswith("-") and len(item) > _SHORT:
        return item[:_SHORT], item[_SHORT:]
    return item, None


def _judged(index: int, spelling: str, flag: Flag, value: str | None) -> _Argument | ArgProblem:
    if value is None:
        return _Argument(index, spelling, flag, None)
    if flag.value is None:
        return ArgProblem(index, f"{spelling} takes no value", "write each argument as an item of its own")
    if not flag.value.accepts(value):
        return ArgProblem(index, f"{spelling} does not take this value", f"it takes {flag.value.wanted}")
    return _Argument(index, spelling, flag, value)


def _is_value_next(args: Sequence[str], index: int, value: str | None) -> bool:
    """Whether the item after a refused flag looks like its value, which is then not reported a second time."""
    return value is None and args[index].startswith("-") and index + 1 < len(args) and args[index + 1][:1] != "-"


def _refused(verbs: Sequence[Verb], index: int, spelling: str) -> ArgProblem:
    tools = " or ".join(f"`{v.name}`" for v in verbs)
    if not spelling.startswith("-") or spelling in ("-", "--"):
        return ArgProblem(
            index,
            f"'{spelling}' is not a flag",
            "only flags and their values are allowed: repeat the flag for each value",
        )
    if why := next((why for v in verbs if (why := v.refusal(spelling))), ""):
        return ArgProblem(index, f"{spelling} is refused for {tools}", why)
    known = sorted({flag.name for v in verbs for flag in v.allowed.values()})
    return ArgProblem(
        index, f"{spelling} is not in the list of allowed arguments for {tools}", f"allowed are {', '.join(known)}"
    )


def _bad_text(index: int, item: str) -> ArgProblem | None:
    if "$(" in item:
        return ArgProblem(index, "`$(` is refused: it would put a value into the tool's argv", "write the text itself")
    if "{{" in item:
        return ArgProblem(
            index, "`{{` is refused: a workflow engine would read it as a template", "write the text itself"
        )
    if not item:
        return ArgProblem(index, "an argument is empty", "remove it")
    if not item.isprintable():
        return ArgProblem(index, "an argument holds a control character", "remove it")
    return None
