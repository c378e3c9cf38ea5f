"""Documents for the tests of the rules: a good one of each kind, and the same with something changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datacube_flows.core.kinds import Direction, kind_named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Document = dict[str, Any]

SECRET = {"valueFrom": {"secretKeyRef": {"name": "credentials", "key": "token"}}}
CONFIG = {"valueFrom": {"configMapKeyRef": {"name": "settings", "key": "value", "optional": True}}}
TEMPLATE = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Gi"}}}}

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "git-download": {"token": SECRET, "url": "https://$(TOKEN)@github.com/owner/repo.git", "ref": "main"},
    "git-upload": {"token": SECRET, "url": "https://$(TOKEN)@github.com/owner/repo.git"},
    "huggingface-download": {"token": SECRET, "repo": "openai/whisper-large-v3", "files": "README.md, config.json"},
    "huggingface-upload": {"token": SECRET, "repo": "user/repo", "path-in-repo": "pvc/demo", "commit-message": "Up"},
    "s3-download": {"s3-endpoint": SECRET, "s3-uri": "s3://bucket/path/subpath"},
    "s3-upload": {"s3-endpoint": CONFIG, "s3-uri": "s3://bucket", "s3-no-check-bucket": "true"},
}


def document(
    kind_name: str,
    options: Mapping[str, Any] | None = None,
    *,
    more: Sequence[Any] = (),
    env: Mapping[str, Any] | None = None,
    more_env: Sequence[Any] = (),
    manner: Mapping[str, Any] | None = None,
    **pvc: Any,
) -> Document:
    """A good document of a kind with something changed.

    Args:
        options: options that are added or replaced; a text is a value, a mapping the rest of the entry, None removes.
        more: entries appended to the options as they are.
        env: like options, for `executor.env`; `more_env` like more.
        manner: fields of `executor.options`.
        pvc: fields of the claim's reference.
    """
    kind = kind_named(kind_name)
    entries = [*_entries({**OPTIONS[kind_name], **(options or {})}), *more]
    store = {"type": str(kind.store), "options": entries}
    claim = {"type": "pvc", "pvc": {"name": "claim", **pvc}}
    source, sink = (store, claim) if kind.direction is Direction.DOWNLOAD else (claim, store)
    spec: Document = {"source": source, "sink": sink}
    executor: Document = {}
    if manner:
        executor["options"] = dict(manner)
    if env or more_env:
        executor["env"] = [*_entries(env or {}), *more_env]
    if executor:
        spec["executor"] = executor
    return {
        "apiVersion": "tensorstack.dev/v1beta1",
        "kind": "DataCube",
        "metadata": {"name": kind_name},
        "spec": spec,
    }


def _entries(values: Mapping[str, Any]) -> list[Document]:
    return [
        {"name": name, "value": value} if isinstance(value, str) else {"name": name, **value}
        for name, value in values.items()
        if value is not None
    ]


def spec(source: Any, sink: Any, **rest: Any) -> Document:
    """A document with these two ends."""
    cube = document("git-download")
    return cube | {"spec": {"source": source, "sink": sink, **rest}}


PVC = {"type": "pvc", "pvc": {"name": "claim"}}
GIT = {"type": "git", "options": [{"name": "url", "value": "https://github.com/owner/repo.git"}]}
