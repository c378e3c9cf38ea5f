"""One named row for each way to break a rule, and good documents that come close to breaking one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.core.rule_documents import CONFIG, GIT, OPTIONS, PVC, SECRET, TEMPLATE, document, spec

if TYPE_CHECKING:
    from tests.core.rule_documents import Document


@dataclass(frozen=True)
class Row:
    """A document that breaks a rule.

    Attributes:
        rule: id of the rule.
        at: path of the violation.
        words: what its text contains.
    """

    name: str
    rule: str
    document: Document
    at: str
    words: tuple[str, ...]


def _row(name: str, rule: str, cube: Document, at: str, *words: str) -> Row:
    return Row(name, rule, cube, at, words)


OPTION = "spec.source.options[{}].value"
SUB_PATH = "spec.sink.pvc.subPath"
ENV = "spec.executor.env[0]"
ARG = "spec.executor.options.extraArgs[0]"


def _url(value: str) -> Document:
    return document("git-download", {"token": None, "url": value, "ref": None})


def _sub_path(value: str) -> Document:
    return document("s3-download", subPath=value)


def _args(kind_name: str, *arguments: str) -> Document:
    return document(kind_name, manner={"extraArgs": list(arguments)})


ENDS = (
    _row("claim to claim", "one-end-is-pvc", spec(PVC, PVC), "spec", "exactly one", "pvc"),
    _row("store to store", "one-end-is-pvc", spec(GIT, GIT), "spec", "exactly one", "pvc"),
    _row("pvc without its name", "pvc-required", spec(GIT, {"type": "pvc"}), "spec.sink.pvc", "missing", "pvc.name"),
    _row("pvc null", "pvc-required", spec({"type": "pvc", "pvc": None}, GIT), "spec.source.pvc", "missing"),
    _row("pvc at a store", "pvc-misplaced", spec(GIT | {"pvc": PVC["pvc"]}, PVC), "spec.source.pvc", "type pvc"),
    _row(
        "options at the claim",
        "options-misplaced",
        spec(GIT, PVC | {"options": [{"name": "ref", "value": "main"}]}),
        "spec.sink.options",
        "has no options",
    ),
    _row(
        "template at an upload's source",
        "template-on-source",
        document("git-upload", template=TEMPLATE),
        "spec.source.pvc.template",
        "only on the sink",
        "claim that exists",
    ),
    _row(
        "template without access modes",
        "template-access-modes",
        document("git-download", template={"spec": {"resources": {"requests": {"storage": 1}}}}),
        "spec.sink.pvc.template.spec.accessModes",
        "ReadWriteOnce",
    ),
    _row(
        "template without a size",
        "template-size",
        document("git-download", template={"spec": {"accessModes": ["ReadWriteMany"], "resources": {"limits": {}}}}),
        "spec.sink.pvc.template.spec.resources.requests.storage",
        "size",
        "100Gi",
    ),
)

SUB_PATHS = (
    _row("subPath absolute", "sub-path-absolute", _sub_path("/data"), SUB_PATH, "begins with '/'", "root"),
    _row("subPath root as a slash", "sub-path-absolute", _sub_path("/"), SUB_PATH, "begins with '/'"),
    _row("subPath upwards", "sub-path-dots", _sub_path("../data"), SUB_PATH, "'..'"),
    _row("subPath upwards inside", "sub-path-dots", _sub_path("a/../b"), SUB_PATH, "'..'"),
    _row("subPath upwards at the end", "sub-path-dots", _sub_path("a/.."), SUB_PATH, "'..'"),
    _row("subPath of one dot", "sub-path-dots", _sub_path("."), SUB_PATH, "leave subPath out"),
    _row("subPath with a dot part", "sub-path-dots", _sub_path("./data"), SUB_PATH, "'.'"),
    _row("subPath with a template", "sub-path-braces", _sub_path("a/{{workflow.name}}"), SUB_PATH, "{{"),
    _row("subPath with a reference", "sub-path-braces", _sub_path("$(TOKEN)/a"), SUB_PATH, "$("),
    _row("subPath with a newline", "sub-path-control", _sub_path("data\n"), SUB_PATH, "control character"),
    _row("subPath with a NUL", "sub-path-control", _sub_path("a\x00b"), SUB_PATH, "control character"),
    _row("subPath into the work folder", "sub-path-work-folder", _sub_path(".datacube"), SUB_PATH, ".datacube"),
    _row("subPath below the work folder", "sub-path-work-folder", _sub_path("a/.datacube/b"), SUB_PATH, ".datacube"),
)


def _unknown(kind_name: str, at: str, *known: str) -> Row:
    count = len(OPTIONS[kind_name])
    cube = document(kind_name, {"branch": "x"})
    path = f"{at}.options[{count}].name"
    return _row(
        f"unknown option of {kind_name}", f"known-options-{kind_name}", cube, path, "no option 'branch'", *known
    )


def _required(kind_name: str, at: str, name: str) -> Row:
    rule = f"required-{name}-{kind_name}"
    return _row(rule, rule, document(kind_name, {name: None}), f"{at}.options", f"'{name}' is missing")


OPTION_ROWS = (
    _unknown("git-download", "spec.source", "url, token, ref"),
    _unknown("git-upload", "spec.sink", "url, token)"),
    _unknown("huggingface-download", "spec.source", "files"),
    _unknown("huggingface-upload", "spec.sink", "path-in-repo"),
    _unknown("s3-download", "spec.source", "s3-uri", "s3-session-token"),
    _unknown("s3-upload", "spec.sink", "s3-no-check-bucket"),
    _required("git-download", "spec.source", "url"),
    _required("git-upload", "spec.sink", "url"),
    _required("huggingface-download", "spec.source", "repo"),
    _required("huggingface-upload", "spec.sink", "repo"),
    _required("s3-download", "spec.source", "s3-uri"),
    _required("s3-upload", "spec.sink", "s3-uri"),
    _row(
        "ref of git at an upload",
        "known-options-git-upload",
        document("git-upload", {"ref": "main"}),
        "spec.sink.options[2].name",
        "no option 'ref'",
    ),
    _row(
        "option twice",
        "unique-options",
        document("git-download", more=[{"name": "ref", "value": "v1"}]),
        "spec.source.options[3].name",
        "'ref'",
        "twice",
    ),
    _row(
        "option with value and valueFrom",
        "one-value",
        document("git-download", {"ref": {"value": "main", **SECRET}}),
        "spec.source.options[2]",
        "exactly one",
    ),
    _row(
        "option with nothing",
        "one-value",
        document("git-download", {"ref": {"value": None}}),
        "spec.source.options[2]",
        "exactly one",
    ),
    _row(
        "option from two places",
        "one-reference",
        document("git-download", {"ref": {"valueFrom": {**SECRET["valueFrom"], **CONFIG["valueFrom"]}}}),
        "spec.source.options[2].valueFrom",
        "secretKeyRef",
        "configMapKeyRef",
    ),
    _row(
        "variable from nowhere",
        "one-reference",
        document("git-download", env={"HTTPS_PROXY": {"valueFrom": {}}}),
        f"{ENV}.valueFrom",
        "exactly one",
    ),
    _row(
        "files by reference",
        "literal-only",
        document("huggingface-download", {"files": CONFIG}),
        "spec.source.options[2].valueFrom",
        "'files'",
        "value",
    ),
    _row(
        "s3-uri of a download by reference",
        "literal-only",
        document("s3-download", {"s3-uri": SECRET}),
        "spec.source.options[1].valueFrom",
        "'s3-uri'",
    ),
    _row(
        "s3-uri of an upload by reference",
        "literal-only",
        document("s3-upload", {"s3-uri": CONFIG}),
        "spec.sink.options[1].valueFrom",
        "'s3-uri'",
    ),
    _row("url empty", "not-empty", _url(""), OPTION.format(0), "'url' is empty"),
    _row("files empty", "not-empty", document("huggingface-download", {"files": ""}), OPTION.format(2), "empty"),
)

_DASH = (
    ("git-download", "url", "--upload-pack=touch", 1),
    ("git-download", "ref", "--orphan", 2),
    ("huggingface-download", "repo", "--token", 1),
    ("huggingface-download", "revision", "-x", 3),
    ("huggingface-download", "files", "-x", 2),
    ("s3-download", "s3-uri", "-s3://bucket", 1),
    ("s3-download", "s3-endpoint", "-https://h", 0),
    ("s3-download", "s3-region", "-r", 2),
)


def _value(kind_name: str, name: str, value: str, index: int, rule: str, *words: str) -> Row:
    cube = document(kind_name, {name: value})
    end = "source" if kind_name.endswith("download") else "sink"
    return _row(f"{name} {value!r}", rule, cube, f"spec.{end}.options[{index}].value", *words)


VALUES = (
    *(_value(kind, name, value, i, "no-leading-dash", "begins with '-'") for kind, name, value, i in _DASH),
    _value("huggingface-upload", "path-in-repo", "-p", 2, "no-leading-dash", "begins with '-'"),
    _value("git-download", "ref", "main\n", 2, "no-control-characters", "newline"),
    _value("git-download", "url", "https://h/\x1br", 1, "no-control-characters", "control"),
    _value("huggingface-upload", "commit-message", "a\x00b", 3, "no-control-characters-in-prose", "control"),
    _value("git-download", "url", "git@github.com:owner/repo.git", 1, "url-scheme", "https://", "git@host", "token"),
    _value("git-download", "url", "ssh://git@github.com/o/r", 1, "url-scheme", "ssh"),
    _value("git-download", "url", "file:///etc", 1, "url-scheme", "https://"),
    _value("git-download", "url", "ext::sh -c $(TOKEN)", 1, "url-scheme", "https://"),
    _value("git-download", "url", "HTTPS://github.com/o/r", 1, "url-scheme", "https://"),
    _value("git-upload", "url", "git://github.com/o/r", 1, "url-scheme", "https://"),
    _value("s3-download", "s3-endpoint", "file:///etc", 0, "endpoint-scheme", "https://s3.example.com"),
    _value("s3-download", "s3-uri", "bucket/path", 1, "s3-uri-shape", "s3://bucket/path"),
    _value("s3-download", "s3-uri", "S3://bucket", 1, "s3-uri-shape", "s3://bucket"),
    _value("s3-download", "s3-uri", "s3://", 1, "s3-uri-shape", "s3://bucket"),
    _value("s3-download", "s3-uri", "s3:///path", 1, "s3-uri-shape", "s3://bucket"),
    _value("s3-upload", "s3-uri", "s3://a b/c", 1, "s3-uri-shape", "3 to 63"),
    _value("s3-upload", "s3-uri", "https://bucket.s3.amazonaws.com/x", 1, "s3-uri-shape", "s3://bucket"),
    _value("huggingface-download", "repo", "https://huggingface.co/a/b", 1, "repo-shape", "owner/name", "not a URL"),
    _value("huggingface-download", "repo", "a/b/c", 1, "repo-shape", "owner/name"),
    _value("huggingface-download", "repo", "a/..", 1, "repo-shape", "owner/name"),
    _value("huggingface-upload", "repo", "a/b.git", 1, "repo-shape", "owner/name"),
    _value("huggingface-download", "files", " , ", 2, "files-not-empty", "no file"),
    _value("huggingface-download", "files", "a, /etc/passwd", 2, "files-relative", "absolute"),
    _value("huggingface-download", "files", "a, -x", 2, "files-relative", "'-'"),
    _value("huggingface-download", "files", "a/../../b", 2, "files-relative", "'..'"),
    _value("huggingface-upload", "path-in-repo", "a/../b", 2, "path-in-repo-inside", "'..'"),
    _value("huggingface-download", "repo-type", "models", 3, "repo-type-choice", '"model", "dataset", "space"'),
    _value("huggingface-upload", "private", "yes", 4, "private-choice", '"true", "false"'),
    _value("s3-download", "s3-addressing-style", "host", 2, "s3-addressing-style-choice", '"path", "virtual", "auto"'),
    _value("s3-upload", "s3-no-check-bucket", "True", 2, "s3-no-check-bucket-choice", '"true", "false"'),
    _value("git-download", "url", "http://github.com/o/r", 1, "url-allowed", "plain HTTP", "https://"),
    _value("git-download", "url", "https:///o/r", 1, "url-allowed", "no host"),
    _value("git-download", "url", "https://h:port/o/r", 1, "url-allowed", "port"),
    _value("git-download", "url", "https://h/o/r s", 1, "url-allowed", "blank"),
    _value("s3-download", "s3-endpoint", "http://minio:9000", 0, "url-allowed", "plain HTTP is not allowed"),
    _value("git-download", "url", "https://github.com/", 1, "url-names-a-repository", "no repository"),
    _value("git-download", "url", "https://github.com/o/.git", 1, "url-names-a-repository", "no repository"),
)

EXECUTOR = (
    *(
        _row(
            f"sync of {kind}",
            "sync-only-where-it-works",
            document(kind, manner={"sync": True}),
            "spec.executor.options.sync",
            "s3 download",
        )
        for kind in OPTIONS
        if kind != "s3-download"
    ),
    _row(
        "maxDelete without sync",
        "max-delete-needs-sync",
        document("s3-download", manner={"maxDelete": 3, "sync": False}),
        "spec.executor.options.maxDelete",
        "sync",
    ),
    *(
        _row(
            f"bandwidthLimit {limit}",
            "bandwidth-positive",
            document("s3-download", manner={"bandwidthLimit": limit}),
            "spec.executor.options.bandwidthLimit",
            "above zero",
        )
        for limit in (0, -1, "0", "-5M")
    ),
    _row(
        "argument with a reference",
        "extra-args-no-reference",
        _args("s3-download", "--transfers=$(N)"),
        ARG,
        "$(",
        "options",
    ),
    _row("argument with a newline", "extra-args-no-control", _args("s3-download", "--transfers\n"), ARG, "control"),
    _row("forbidden argument of git", "extra-args-allowed", _args("git-download", "--upload-pack=x"), ARG, "--upload"),
    _row("forbidden argument of rclone", "extra-args-allowed", _args("s3-upload", "--config=/x"), ARG, "--config"),
    _row("forbidden argument of hf", "extra-args-allowed", _args("huggingface-upload", "--token=x"), ARG, "--token"),
    _row(
        "variable twice",
        "unique-env",
        document("git-download", env={"TZ": "UTC"}, more_env=[{"name": "TZ", "value": "UTC"}]),
        "spec.executor.env[1].name",
        "'TZ'",
        "twice",
    ),
    _row(
        "variable with two values",
        "env-not-two-values",
        document("git-download", env={"TZ": {"value": "UTC", **SECRET}}),
        ENV,
        "only one",
    ),
    _row("variable with NUL", "env-no-nul", document("git-download", env={"TZ": "a\x00"}), f"{ENV}.value", "NUL"),
    _row(
        "variable named as an option's variable",
        "env-is-no-source-option",
        document("git-download", env={"TOKEN": "x"}),
        f"{ENV}.name",
        "'TOKEN'",
        "option",
    ),
    _row(
        "variable named as an option",
        "env-is-no-sink-option",
        document("s3-upload", env={"s3-uri": "x"}),
        f"{ENV}.name",
        "'s3-uri'",
    ),
    _row(
        "variable named as an option with dashes",
        "env-is-no-source-option",
        document("s3-download", env={"S3_ENDPOINT": "x"}),
        f"{ENV}.name",
        "'S3_ENDPOINT'",
    ),
    _row(
        "reserved variable",
        "env-reserved",
        document("git-download", env={"DATACUBE_LB": "x"}),
        f"{ENV}.name",
        "DATACUBE_",
        "reserved",
    ),
    *(
        _row(
            f"forbidden variable {name}",
            "env-allowed",
            document("git-download", env={name: "x"}),
            f"{ENV}.name",
            f"'{name}'",
            "may not be set",
        )
        for name in ("LD_PRELOAD", "PATH", "GIT_SSH_COMMAND", "PYTHONPATH", "RCLONE_PASSWORD_COMMAND", "BASH_ENV")
    ),
    _row(
        "circle of references",
        "no-reference-circle",
        document("git-download", {"ref": "$(A)"}, env={"A": "$(B)", "B": "x$(REF)"}),
        "spec.source.options[2].value",
        "$(REF) -> $(A) -> $(B) -> $(REF)",
    ),
)

ROWS = (*ENDS, *SUB_PATHS, *OPTION_ROWS, *VALUES, *EXECUTOR)

_AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["a100"]}]}]
        }
    },
    "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}}
        ]
    },
}
_EXECUTOR = {
    "options": {"backoffLimit": 2, "activeDeadlineSeconds": 3600, "verify": "size", "stallTimeoutSeconds": 60},
    "resources": {"limits": {"cpu": 1, "memory": "2Gi"}, "requests": {"cpu": "100m"}},
    "securityContext": {"runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": _AFFINITY,
    "priorityClassName": "high",
    "serviceAccountName": "irsa",
    "imagePullSecrets": [{"name": "registry"}],
    "engine": "argo",
    "env": [{"name": "HTTPS_PROXY", "value": "proxy:3128"}, {"name": "NO_PROXY"}],
}

GOOD: dict[str, Document] = {
    **{kind: document(kind) for kind in OPTIONS},
    "everything in executor": spec(GIT, PVC, executor=_EXECUTOR, suspend=True, ttlSecondsAfterFinished=60),
    "template": document("git-download", template=TEMPLATE, subPath="dev/git"),
    "template with metadata": document(
        "git-download", template=TEMPLATE | {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}
    ),
    "nulls of a chart": spec(
        GIT | {"pvc": None},
        {"type": "pvc", "options": [], "pvc": {"name": "claim", "subPath": None, "template": None}},
        executor={"env": None, "options": None, "resources": None, "securityContext": {}},
        suspend=None,
    ),
    "empty lists of a chart": spec(
        GIT, PVC | {"options": None}, executor={"env": [], "options": {"extraArgs": [], "sync": None}}
    ),
    "only s3-uri": document("s3-download", {"s3-endpoint": None}),
    "sync": document("s3-download", manner={"sync": True, "maxDelete": 0}),
    "sync false elsewhere": document("git-upload", manner={"sync": False}),
    "empty optional option": document("git-download", {"ref": ""}),
    "commit message of two lines that begins with a dash": document(
        "huggingface-upload", {"commit-message": "- add\n\t{{ model }}"}
    ),
    "token that begins with a dash": document("git-download", {"token": "-dcSECRETcanary"}),
    "subPath with a trailing slash": document("git-upload", subPath="dev/git/"),
    "subPath with dots in names": document("git-upload", subPath="..a/b../...c/.d"),
    "subPath that only begins like the work folder": document("git-upload", subPath=".datacubes"),
    "subPath empty": document("git-upload", subPath=""),
    "url wholly by reference": document("git-download", {"url": SECRET}),
    "url that begins with a reference": document("git-download", {"url": "$(BASE)/repo.git"}, env={"BASE": SECRET}),
    "uri with a reference": document("s3-download", {"s3-uri": "s3://$(BUCKET)/x"}, env={"BUCKET": CONFIG}),
    "bucket alone with a slash": document("s3-download", {"s3-uri": "s3://bucket/"}),
    "endpoint without a scheme": document("s3-download", {"s3-endpoint": "minio.example.com:9000"}),
    "repo without an owner": document("huggingface-download", {"repo": "gpt2"}),
    "repo-type": document("huggingface-download", {"repo-type": "dataset", "revision": "v1.0"}),
    "private": document("huggingface-upload", {"private": "false"}),
    "seed's arguments": document(
        "huggingface-download",
        manner={"extraArgs": ["--cache-dir", "/tmp/cache/hf"]},
    ),
    "arguments of rclone": document("s3-download", manner={"extraArgs": ["--transfers", "8"]}),
    "bandwidth": document("s3-upload", manner={"bandwidthLimit": "10Mi", "dryRun": True}),
    "bandwidth below one": document("s3-upload", manner={"bandwidthLimit": "500m"}),
    "references among options and variables": document(
        "git-download", {"ref": "$(A)"}, env={"A": "$(B)", "B": "x", "C": "$(C)"}
    ),
    "escaped reference": document("git-download", {"ref": "$$(REF)"}),
}

STORED = document("git-download") | {"spec": document("git-download")["spec"] | {"executor": {"options": {}}}}
CHANGES: dict[str, tuple[Document, str]] = {
    "suspend": ({"suspend": True}, ""),
    "time to live": ({"ttlSecondsAfterFinished": 5}, ""),
    "default written out": ({"executor": {"options": {"backoffLimit": 0}}}, ""),
    "another limit": ({"executor": {"options": {"backoffLimit": 1}}}, "spec.executor"),
    "executor removed": ({"executor": None}, "spec.executor"),
    "source": ({"source": document("git-download", {"ref": "v1"})["spec"]["source"]}, "spec.source"),
    "sink": ({"sink": document("git-download", subPath="x")["spec"]["sink"]}, "spec.sink"),
    "null written out": ({"sink": document("git-download", subPath=None)["spec"]["sink"]}, ""),
}
"""Fields of the spec that replace those of the stored one, and the path that is refused; empty: none."""
