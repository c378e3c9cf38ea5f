"""What is allowed and still worth a word: shown by `validate`, and as a Warning event in a cluster. Pure.

No warning quotes a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from datacube_flows.core.rule import Subject, subject_of
from datacube_flows.core.values import OPTIONS, URL_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datacube_flows.api.datacube import DataCube

YAML_BOOLEANS: Final = frozenset({"y", "yes", "n", "no", "on", "off", "true", "false"})
"""What YAML 1.1 reads as a boolean when it is not quoted."""


Remark = tuple[str, str]
"""A path, and what is said of it."""


def warnings_of(cube: DataCube) -> tuple[str, ...]:
    """Returns remarks on a valid cube, each with its path, in the order of the document."""
    subject = subject_of(cube)
    return tuple(
        f"{path}: {text}"
        for look in (
            _literal_secrets,
            _passwords_in_urls,
            _plain_http,
            _boolean_names,
            _whole_volume,
            _root,
            _unverified,
        )
        for path, text in look(subject, cube)
    )


def _literal_secrets(subject: Subject, _cube: DataCube) -> Iterator[Remark]:
    for end in subject.ends:
        for path, option in end.named():
            row = OPTIONS.get(option.name)
            if row and row.secret and option.value:
                yield (
                    f"{path}.value",
                    f"'{option.name}' is a secret in clear text: take it from a Secret with valueFrom",
                )


def _passwords_in_urls(subject: Subject, _cube: DataCube) -> Iterator[Remark]:
    for end in subject.ends:
        for path, option in end.named():
            if option.name in URL_OPTIONS and _user(option.value or "") and "$(" not in _user(option.value or ""):
                yield (
                    f"{path}.value",
                    "the URL holds a user name or password: use option 'token', as $(TOKEN) in the URL",
                )


def _user(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[0]
    except ValueError:
        return ""


def _plain_http(subject: Subject, _cube: DataCube) -> Iterator[Remark]:
    for end in subject.ends:
        for path, option in end.named():
            if option.name in URL_OPTIONS and (option.value or "").startswith("http://"):
                yield f"{path}.value", "http:// sends data and credentials unencrypted"


def _boolean_names(subject: Subject, _cube: DataCube) -> Iterator[Remark]:
    for path, variable in subject.variables():
        if variable.name.lower() in YAML_BOOLEANS:
            yield f"{path}.name", f'keep the quotes around "{variable.name}": YAML reads it as a boolean without them'


def _whole_volume(subject: Subject, _cube: DataCube) -> Iterator[Remark]:
    if subject.options.sync and not (subject.sink.sub_path or "").strip("/"):
        yield "spec.executor.options.sync", "without a subPath, sync deletes all else that is on the volume"


def _root(_subject: Subject, cube: DataCube) -> Iterator[Remark]:
    context = cube.spec.executor and cube.spec.executor.security_context
    if context and context.run_as_user == 0:
        path = "spec.executor.securityContext.runAsUser"
        yield path, "the transfer would run as root, which restricted namespaces refuse"


def _unverified(subject: Subject, _cube: DataCube) -> Iterator[Remark]:
    if subject.options.verify == "none":
        yield "spec.executor.options.verify", "success will say that bytes were moved, not that they are right"
