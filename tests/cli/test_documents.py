"""Reading files: several documents, Secrets and ConfigMaps, and clear errors for what cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from datacube_flows.cli.documents import Documents, read_documents
from datacube_flows.errors import DocumentError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.t0

CUBE = "kind: DataCube\nmetadata: {name: a}\n"


def read(tmp_path: Path, text: str) -> Documents:
    path = tmp_path / "cube.yaml"
    path.write_text(text)
    return read_documents([path])


def test_documents_keep_their_order(tmp_path: Path) -> None:
    found = read(tmp_path, f"{CUBE}---\n{CUBE.replace('a}', 'b}')}")
    assert [c["metadata"]["name"] for c in found.cubes] == ["a", "b"]


def test_list_is_read_as_its_items(tmp_path: Path) -> None:
    found = read(tmp_path, "kind: List\nitems:\n- {kind: DataCube, metadata: {name: a}}\n- {kind: Pod}\n")
    assert len(found.cubes) == 1
    assert "kind Pod" in found.notices[0]


def test_secret_values_come_from_data_and_string_data(tmp_path: Path) -> None:
    secret = "kind: Secret\nmetadata: {name: s}\ndata: {a: Zm9v, b: Zm9v}\nstringData: {b: bar}\n"
    found = read(tmp_path, f"{CUBE}---\n{secret}")
    assert [found.lookup("secret", "s", key, optional=False) for key in "abc"] == ["foo", "bar", None]


def test_config_map_is_not_a_secret(tmp_path: Path) -> None:
    found = read(tmp_path, f"{CUBE}---\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {{k: v}}\n")
    assert found.lookup("configmap", "c", "k", optional=False) == "v"
    assert found.lookup("secret", "c", "k", optional=False) is None


def test_secret_from_the_command_line_may_be_a_file(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    found = Documents()
    found.add_secret(f"github-token.token=@{token}")
    found.add_secret("tls.ca.crt=a=b")
    assert found.secrets == {"github-token": {"token": "s3cret"}, "tls": {"ca.crt": "a=b"}}


@pytest.mark.parametrize("text", ["", "name", "name=value", ".key=value", "name.=value"])
def test_secret_without_name_and_key_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match=r"name\.key=value"):
        Documents().add_secret(text)


ROWS = [
    ("no YAML", "a: [", "is no YAML"),
    ("a key twice", "kind: DataCube\nspec: {}\nspec: {}\n", "key 'spec' is given twice"),
    ("no mapping", "- a\n", "no mapping"),
    ("no cube", "kind: Pod\n", "needs kind: DataCube"),
    ("empty", "", "needs kind: DataCube"),
    ("bad base64", f"{CUBE}---\nkind: Secret\nmetadata: {{name: s}}\ndata: {{a: '%'}}\n", "use stringData"),
    ("numbers in data", f"{CUBE}---\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {{a: 1}}\n", "quote the values"),
    ("no name", f"{CUBE}---\nkind: Secret\n", "without metadata.name"),
    ("a tag that runs code", "!!python/object/apply:os.system [true]\n", "is no YAML"),
]


@pytest.mark.parametrize(("text", "words"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_unreadable_file_gets_a_clear_error(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        read(tmp_path, text)


def test_missing_file_gets_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="No such file"):
        read_documents([tmp_path / "absent.yaml"])


def test_file_that_is_no_text_gets_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "cube.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DocumentError, match="not UTF-8"):
        read_documents([path])
