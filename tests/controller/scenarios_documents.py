"""Documents of the operator's scenarios: small, valid, and alike but for what a scenario is about."""

from __future__ import annotations

from typing import Any, Final

Document = dict[str, Any]

STORE: Final = {
    "type": "s3",
    "options": [
        {"name": "s3-uri", "value": "s3://bucket/set"},
        {"name": "s3-endpoint", "value": "https://s3.example.test"},
        {
            "name": "s3-access-key-id",
            "valueFrom": {"secretKeyRef": {"name": "keys", "key": "id"}},
        },
        {
            "name": "s3-secret-access-key",
            "valueFrom": {"secretKeyRef": {"name": "keys", "key": "secret"}},
        },
    ],
}
CLAIM_SPEC: Final = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
CLAIM: Final = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": CLAIM_SPEC}


def download(
    name: str, *, claim: str = "data", sub_path: str = "set", template: Document | None = None, **options: Any
) -> Document:
    """Returns a DataCube that fills a folder of a claim; `options` are those of its executor."""
    pvc: Document = {"name": claim, "subPath": sub_path} | ({"template": template} if template else {})
    return _cube(name, {"source": STORE, "sink": {"type": "pvc", "pvc": pvc}}, options)


def upload(name: str, *, claim: str = "data", sub_path: str = "set", **options: Any) -> Document:
    """Returns a DataCube that sends a folder of a claim away."""
    return _cube(name, {"source": {"type": "pvc", "pvc": {"name": claim, "subPath": sub_path}}, "sink": STORE}, options)


def _cube(name: str, ends: Document, options: Document) -> Document:
    executor: Document = {"executor": {"options": options}} if options else {}
    return {
        "apiVersion": "tensorstack.dev/v1beta1",
        "kind": "DataCube",
        "metadata": {"name": name},
        "spec": ends | executor,
    }


def with_spec(document: Document, **fields: Any) -> Document:
    """Returns the document with fields of its spec set."""
    return document | {"spec": document["spec"] | fields}


def with_metadata(document: Document, **fields: Any) -> Document:
    """Returns the document with fields of its metadata set."""
    return document | {"metadata": document["metadata"] | fields}
