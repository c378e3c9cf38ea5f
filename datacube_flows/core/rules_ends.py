"""Rules of the two ends: which is the claim, its subPath and its template (SPEC section 1, SECURITY S14, S21)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datacube_flows.api.ends import EndType
from datacube_flows.core.rule import ENDS, Rule, cel_string, never
from datacube_flows.core.values import CONTROL, pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datacube_flows.core.rule import Allowed, Check, Found, Subject

RECREATE: Final = (
    "delete the DataCube and create it anew; to run it again as it is, set the annotation "
    "datacube.tensorstack.dev/rerun to a new value"
)


def _one_claim(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    types = [end.type for end in subject.ends]
    if None not in types and types.count(EndType.PVC) != 1:
        yield "spec", {}


def _pvc_missing(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    for end in subject.ends:
        if end.type is EndType.PVC and not end.has_pvc:
            yield f"{end.at}.pvc", {}


def _pvc_misplaced(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    for end in subject.ends:
        if end.kind and end.has_pvc:
            yield f"{end.at}.pvc", {}


def _options_misplaced(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    for end in subject.ends:
        if end.type is EndType.PVC and end.options:
            yield f"{end.at}.options", {}


def _template_on_source(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    if subject.source.has_template:
        yield "spec.source.pvc.template", {}


def _template_without_modes(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    template = subject.sink.template
    if template and not template.spec.access_modes:
        yield "spec.sink.pvc.template.spec.accessModes", {}


def _template_without_size(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
    template = subject.sink.template
    if template and "storage" not in ((template.spec.resources and template.spec.resources.requests) or {}):
        yield "spec.sink.pvc.template.spec.resources.requests.storage", {}


def _sub_path_with(refused: str) -> Check:
    def check(subject: Subject, _allowed: Allowed) -> Iterator[Found]:
        for end in subject.ends:
            if end.sub_path and pattern(refused).search(end.sub_path):
                yield f"{end.at}.pvc.subPath", {}

    return check


def _sub_path_rule(name: str, refused: str, message: str, remedy: str) -> Rule:
    return Rule(
        id=f"sub-path-{name}",
        at=tuple(f"{end}.pvc.subPath" for end in ENDS),
        cel=f"!self.matches({cel_string(refused)})",
        message=message,
        remedy=remedy,
        check=_sub_path_with(refused),
    )


RULES: Final = (
    Rule(
        id="one-end-is-pvc",
        at=("spec",),
        cel="(self.source.type == 'pvc') != (self.sink.type == 'pvc')",
        message="exactly one of source and sink must have type pvc",
        remedy="a DataCube moves data between one PersistentVolumeClaim and one of git, huggingface and s3",
        check=_one_claim,
    ),
    Rule(
        id="pvc-required",
        at=ENDS,
        cel="self.type != 'pvc' || has(self.pvc)",
        field_path=".pvc",
        message="missing",
        remedy="an end of type pvc names its claim in pvc.name",
        check=_pvc_missing,
    ),
    Rule(
        id="pvc-misplaced",
        at=ENDS,
        cel="self.type == 'pvc' || !has(self.pvc)",
        field_path=".pvc",
        message="only an end of type pvc has a pvc",
        remedy="remove it, or set type to pvc",
        check=_pvc_misplaced,
    ),
    Rule(
        id="options-misplaced",
        at=ENDS,
        cel="self.type != 'pvc' || !has(self.options) || self.options.size() == 0",
        field_path=".options",
        message="an end of type pvc has no options",
        remedy="move them to the store's end",
        check=_options_misplaced,
    ),
    Rule(
        id="template-on-source",
        at=("spec.source",),
        cel="!has(self.pvc) || !has(self.pvc.template)",
        field_path=".pvc.template",
        message="a template acts only on the sink of a download",
        remedy="remove it: an upload needs a claim that exists",
        check=_template_on_source,
    ),
    Rule(
        id="template-access-modes",
        at=("spec.sink.pvc.template.spec",),
        cel="has(self.accessModes) && self.accessModes.size() > 0",
        field_path=".accessModes",
        message="missing",
        remedy="name at least one, such as ReadWriteOnce",
        check=_template_without_modes,
    ),
    Rule(
        id="template-size",
        at=("spec.sink.pvc.template.spec",),
        cel="has(self.resources) && has(self.resources.requests) && 'storage' in self.resources.requests",
        field_path=".resources",
        message="the size of the new claim is missing",
        remedy="set resources.requests.storage, for instance to 100Gi",
        check=_template_without_size,
    ),
    _sub_path_rule("absolute", "^/", "subPath begins with '/'", "write it from the volume's root, without the '/'"),
    _sub_path_rule(
        "dots",
        "(^|/)[.][.]?(/|$)",
        "subPath has a '.' or '..' part",
        "name the folder itself; leave subPath out for the volume's root",
    ),
    _sub_path_rule(
        "braces",
        r"[{][{]|\x24\(",
        "subPath holds '{{' or '$('",
        "nothing is replaced in a path: write it out",
    ),
    _sub_path_rule("control", CONTROL, "subPath holds a control character", "look for a newline or tab at its end"),
    _sub_path_rule(
        "work-folder",
        "(^|/)[.]datacube(/|$)",
        "subPath leads into '.datacube', where unfinished files are kept",
        "choose another folder",
    ),
    Rule(
        id="ends-immutable",
        at=ENDS,
        cel="self == oldSelf",
        message="this cannot be changed after creation",
        remedy=RECREATE,
        check=never,
        is_transition=True,
    ),
)
