"""The Git LFS batch API with its basic transfer, over a folder of objects (git-lfs docs/api/batch.md)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"


class LfsStore:
    """The LFS objects of one repository."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, content: bytes) -> str:
        """Keeps an object and returns the pointer that stands for it in a commit."""
        oid = hashlib.sha256(content).hexdigest()
        (self._folder / oid).write_bytes(content)
        return POINTER.format(oid=oid, size=len(content))

    def put(self, oid: str, content: bytes) -> bool:
        """Keeps an object if its content is what its name says."""
        if hashlib.sha256(content).hexdigest() != oid:
            return False
        (self._folder / oid).write_bytes(content)
        return True

    def get(self, oid: str) -> bytes | None:
        """The content of an object, or None."""
        path = self._folder / oid
        return path.read_bytes() if path.is_file() else None

    def drop(self, oid: str) -> None:
        """Loses an object."""
        (self._folder / oid).unlink()

    @property
    def oids(self) -> set[str]:
        """Names of all objects."""
        return {p.name for p in self._folder.iterdir()}

    def batch(self, request: dict[str, Any], base: str, authorization: str) -> dict[str, Any]:
        """Answers a batch request; actions carry the client's own credential, as real ones carry a short-lived one."""
        header = {"header": {"Authorization": authorization}} if authorization else {}
        answer = [self._object(o, request["operation"], base, header) for o in request["objects"]]
        return {"transfer": "basic", "objects": answer, "hash_algo": "sha256"}

    def _object(self, wanted: dict[str, Any], operation: str, base: str, header: dict[str, Any]) -> dict[str, Any]:
        oid, size = wanted["oid"], wanted["size"]
        answer: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
        is_here = (self._folder / oid).is_file()
        if operation == "download" and not is_here:
            return answer | {"error": {"code": 404, "message": "Object does not exist"}}
        if operation == "upload" and is_here:
            return answer
        return answer | {"actions": {operation: {"href": f"{base}/{oid}", **header}}}
