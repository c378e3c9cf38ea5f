"""Objects as they were last seen, by key, with indexes. Pure; what is kept is only as much as decisions need."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Object = dict[str, Any]
    Index = Callable[[Object], Iterable[str]]

MAX_ANNOTATION: Final = 1024
"""Longer ones (kubectl's copy of the object, a tool's notes) are no input of ours and are not kept."""


def object_key(obj: Mapping[str, Any]) -> str:
    """Returns `namespace/name`, or the name of an object that has no namespace."""
    about = obj["metadata"]
    return f"{about['namespace']}/{about['name']}" if about.get("namespace") else str(about["name"])


def split_key(key: str) -> tuple[str | None, str]:
    """Returns namespace (None where there is none) and name."""
    namespace, _, name = key.rpartition("/")
    return namespace or None, name


def trim(obj: Object) -> Object:
    """Returns the object without what nobody reads here: managed fields and long annotations."""
    about = obj["metadata"]
    about.pop("managedFields", None)
    notes = about.get("annotations")
    if notes:
        about["annotations"] = {k: v for k, v in notes.items() if len(v) <= MAX_ANNOTATION}
    return obj


def label_index(name: str) -> Index:
    """Returns an index by the value of a label."""
    return lambda obj: [value] if (value := (obj["metadata"].get("labels") or {}).get(name)) else []


def owner_index(obj: Object) -> list[str]:
    """The uids of an object's owners."""
    return [owner["uid"] for owner in obj["metadata"].get("ownerReferences") or []]


class Store:
    """The objects, and for each index which keys stand under which value."""

    def __init__(self, indexes: Mapping[str, Index] | None = None) -> None:
        self._objects: dict[str, Object] = {}
        self._indexes = dict(indexes or {})
        self._keys: dict[str, defaultdict[str, set[str]]] = {name: defaultdict(set) for name in self._indexes}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    def get(self, key: str) -> Object | None:
        """Returns the object as last seen; it is shared: read it, do not change it."""
        return self._objects.get(key)

    def find(self, index: str, value: str) -> list[Object]:
        """Returns the objects under a value of an index, in the order of their keys."""
        return [self._objects[key] for key in sorted(self._keys[index].get(value, ()))]

    def values_of(self, index: str, obj: Object) -> list[str]:
        """Returns under which values of an index an object stands, or would stand."""
        return list(self._indexes[index](obj))

    def put(self, obj: Object) -> Object | None:
        """Keeps the object and returns the one that it takes the place of."""
        key = object_key(obj)
        old = self.remove(key)
        self._objects[key] = obj
        for name, index in self._indexes.items():
            for value in index(obj):
                self._keys[name][value].add(key)
        return old

    def remove(self, key: str) -> Object | None:
        """Forgets the object and returns it."""
        old = self._objects.pop(key, None)
        if old is not None:
            for name, index in self._indexes.items():
                for value in index(old):
                    self._forget(self._keys[name], value, key)
        return old

    @staticmethod
    def _forget(index: defaultdict[str, set[str]], value: str, key: str) -> None:
        index[value].discard(key)
        if not index[value]:
            del index[value]
