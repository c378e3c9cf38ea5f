"""Objects by key and by index."""

from __future__ import annotations

from typing import Any

import pytest
from datacube_operator.store import Store, label_index, object_key, owner_index, split_key, trim

pytestmark = pytest.mark.t0


def pod(name: str, *, cube: str = "", owner: str = "", **metadata: Any) -> dict[str, Any]:
    about: dict[str, Any] = {"namespace": "n", "name": name, **metadata}
    if cube:
        about["labels"] = {"cube": cube}
    if owner:
        about["ownerReferences"] = [{"uid": owner}]
    return {"metadata": about}


@pytest.fixture
def store() -> Store:
    return Store({"cube": label_index("cube"), "owner": owner_index})


def names(found: list[dict[str, Any]]) -> list[str]:
    return [obj["metadata"]["name"] for obj in found]


def test_store_finds_by_label_and_by_owner(store: Store) -> None:
    for obj in (pod("b", cube="x", owner="u"), pod("a", cube="x"), pod("c", owner="u"), pod("d")):
        store.put(obj)
    assert names(store.find("cube", "x")) == ["a", "b"]
    assert names(store.find("owner", "u")) == ["b", "c"]
    assert store.find("cube", "unknown") == []


def test_store_finds_an_object_under_its_new_value_only(store: Store) -> None:
    store.put(pod("a", cube="x"))
    store.put(pod("a", cube="y"))
    assert store.find("cube", "x") == []
    assert names(store.find("cube", "y")) == ["a"]


def test_store_forgets_what_is_removed(store: Store) -> None:
    store.put(pod("a", cube="x"))
    assert store.remove("n/a") == pod("a", cube="x")
    assert store.remove("n/a") is None
    assert (len(store), list(store), store.get("n/a"), store.find("cube", "x")) == (0, [], None, [])


@pytest.mark.parametrize(("namespace", "key"), [("n", "n/a"), ("", "a"), (None, "a")])
def test_key_names_the_object_with_and_without_namespace(namespace: str | None, key: str) -> None:
    assert object_key({"metadata": {"name": "a", "namespace": namespace}}) == key
    assert split_key(key) == (namespace or None, "a")


def test_trim_drops_managed_fields_and_long_annotations_and_nothing_else() -> None:
    obj = pod("a", cube="x", managedFields=[{}], annotations={"short": "1", "long": "x" * 1025})
    assert trim(obj) == pod("a", cube="x", annotations={"short": "1"})
