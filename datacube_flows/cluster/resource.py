"""Where the API server keeps what is worked with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote


@dataclass(frozen=True)
class Resource:
    """One kind of object, by its place in the API."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Returns the path of an object, or of all in a namespace (None: in the cluster)."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = ["namespaces", namespace] if namespace is not None else []
        more = [part for part in (name, subresource) if part is not None]
        return "/".join([root, *(quote(part, safe="") for part in (*parts, self.plural, *more))])

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


DATACUBES: Final = Resource("tensorstack.dev", "v1beta1", "datacubes")
PODS: Final = Resource("", "v1", "pods")
CLAIMS: Final = Resource("", "v1", "persistentvolumeclaims")
