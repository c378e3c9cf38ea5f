r"""What the values of options may be: one table, read by the rules, by the CRD and by an attempt.

A document shows only literal values; those that come from a Secret or hold `$(NAME)` are known inside the attempt,
which checks their characters with `check_characters` and leaves the rest to the transfer. Patterns are written in what
Python, RE2 (Kubernetes) and Rust agree on: they are searched for, `$` is the end of the text, a dollar sign is `\x24`,
classes are spelt out. No message quotes a value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from datacube_flows.core.kinds import KINDS, Option

OPTIONS: Final[dict[str, Option]] = {option.name: option for kind in KINDS for option in kind.options}
"""Every option of every kind; a name means the same wherever it stands."""

URL_OPTIONS: Final = ("url", "s3-endpoint")

CONTROL: Final = r"[\x00-\x1f\x7f-\x9f]"
CONTROL_IN_PROSE: Final = r"[\x00-\x08\x0b-\x1f\x7f-\x9f]"
_BUCKET = "[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]"
_OWNER, _REPO = "[A-Za-z0-9_][A-Za-z0-9._-]*", "[A-Za-z0-9_][A-Za-z0-9._-]{0,95}"


@dataclass(frozen=True, slots=True)
class ValueRule:
    """One thing that the values of some options must, or must not, look like.

    Attributes:
        names: the options that it speaks of.
        wanted: a pattern that has to be found; empty for none. It is not asked of an absent (empty) value.
        refused: a pattern that must not be found; empty for none.
        deferred: where a document's value matches it, `wanted` is asked only inside the attempt.
    """

    id: str
    names: tuple[str, ...]
    message: str
    remedy: str
    wanted: str = ""
    refused: str = ""
    deferred: str = r"\x24\("

    def is_broken_by(self, value: str) -> bool:
        """Whether a value that is wholly known breaks the rule."""
        return self._lacks_wanted(value) or self._has_refused(value)

    def is_broken_in_document(self, value: str) -> bool:
        """Whether a literal value breaks the rule, as far as that can be seen before `$(NAME)` is expanded."""
        is_known = not pattern(self.deferred).search(value)
        return (is_known and self._lacks_wanted(value)) or self._has_refused(value)

    def _lacks_wanted(self, value: str) -> bool:
        return bool(value and self.wanted and not pattern(self.wanted).search(value))

    def _has_refused(self, value: str) -> bool:
        return bool(self.refused and pattern(self.refused).search(value))


@cache
def pattern(text: str) -> re.Pattern[str]:
    """Returns a pattern compiled so that it means in Python what it means in RE2."""
    return re.compile(text.replace("$", r"\Z"), re.ASCII)


def _names(*, prose: bool) -> tuple[str, ...]:
    return tuple(o.name for o in OPTIONS.values() if o.prose is prose)


def _choice(option: Option) -> ValueRule:
    listed = ", ".join(f'"{c}"' for c in option.choices)
    return ValueRule(
        id=f"{option.name}-choice",
        names=(option.name,),
        wanted=f"^({'|'.join(option.choices)})$",
        message=f"{option.name} has a value that it cannot have",
        remedy=f"it is one of {listed}",
    )


CHARACTER_RULES: Final = (
    ValueRule(
        id="no-control-characters",
        names=_names(prose=False),
        refused=CONTROL,
        message="the value holds a control character",
        remedy="look for a newline or tab at its end",
    ),
    ValueRule(
        id="no-control-characters-in-prose",
        names=_names(prose=True),
        refused=CONTROL_IN_PROSE,
        message="the value holds a control character other than newline and tab",
        remedy="remove it",
    ),
)
VALUE_RULES: Final = (
    *CHARACTER_RULES,
    ValueRule(
        id="no-leading-dash",
        names=tuple(o.name for o in OPTIONS.values() if not (o.prose or o.secret)),
        refused="^-",
        message="the value begins with '-'",
        remedy="a tool could read it as a flag: write it without",
    ),
    ValueRule(
        id="url-scheme",
        names=("url",),
        wanted="^https?://",
        deferred=r"^[^:@]*\x24\(",
        message="the URL does not begin with https:// (or http://, where the operator allows it)",
        remedy="ssh and git@host:path are refused, since there is no option for an SSH key: use https:// with 'token'",
    ),
    ValueRule(
        id="endpoint-scheme",
        names=("s3-endpoint",),
        wanted="^(https?://|[A-Za-z0-9.-]+(:[0-9]+)?/?$)",
        message="the endpoint is neither an https:// URL (http://, where the operator allows it) nor host:port",
        remedy="write it as a URL, such as https://s3.example.com",
    ),
    ValueRule(
        id="s3-uri-shape",
        names=("s3-uri",),
        wanted=rf"^s3://{_BUCKET}(/.*)?$",
        message="this is not the URI of an object or a prefix",
        remedy="write s3://bucket or s3://bucket/path; a bucket has 3 to 63 letters, digits, '.', '-' or '_'",
    ),
    ValueRule(
        id="repo-shape",
        names=("repo",),
        wanted=rf"^({_OWNER}/)?{_REPO}$",
        refused=r"--|[.][.]|[.]git$|[.-]$|[.-]/",
        message="this is not the name of a repository on the hub",
        remedy="write owner/name, not a URL: letters, digits, '-', '_' and '.', without '--' or '..'",
    ),
    ValueRule(
        id="files-not-empty",
        names=("files",),
        wanted="[^, ]",
        message="no file is named",
        remedy="name files, comma-separated, or leave the option out for the whole repository",
    ),
    ValueRule(
        id="files-relative",
        names=("files",),
        refused=r"(^|,) *[/-]|(^|[,/]) *[.][.] *([,/]|$)",
        message="a file's name is absolute, begins with '-' or has a '..' part",
        remedy="name files as the repository lists them",
    ),
    ValueRule(
        id="path-in-repo-inside",
        names=("path-in-repo",),
        refused=r"(^|/)[.][.](/|$)",
        message="the path has a '..' part",
        remedy="name the place from the repository's root",
    ),
    *(_choice(option) for option in OPTIONS.values() if option.choices),
)


def check_characters(name: str, value: str) -> str | None:
    """Returns what is wrong with the characters of an option's resolved value, None when nothing is.

    All else about a resolved value is for the transfer, which knows more: what the store says to a ref or a
    repository, and whether a URL may be spoken once the credentials are out of it (`urls.check_url`).
    """
    rules = (rule for rule in CHARACTER_RULES if name in rule.names and rule.is_broken_by(value))
    return next((f"{rule.message} ({rule.remedy})" for rule in rules), None)


def with_scheme(name: str, value: str) -> str:
    """Returns the URL that a URL option stands for: an endpoint without a scheme is meant by HTTPS, as in rclone."""
    return f"https://{value}" if name == "s3-endpoint" and "://" not in value else value
