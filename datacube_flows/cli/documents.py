"""Reads YAML files into DataCubes, Secrets, ConfigMaps and claims. Judges no DataCube: that is `core/rules.py`."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datacube_flows.api.datacube import KIND
from datacube_flows.documents import load_documents
from datacube_flows.errors import DocumentError

MAX_FILE_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class Documents:
    """What files held, in their order.

    Attributes:
        cubes: raw DataCube documents.
        secrets: name -> key -> value, of Secrets; `config_maps` the same of ConfigMaps.
        claims: names of PersistentVolumeClaims that the files declare.
        notices: remarks about what was passed over.
    """

    cubes: list[dict[str, Any]] = field(default_factory=list)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    config_maps: dict[str, dict[str, str]] = field(default_factory=dict)
    claims: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def lookup(self, source: Literal["secret", "configmap"], name: str, key: str, optional: bool) -> str | None:
        """Returns the value of a key of a Secret or ConfigMap, None when there is none."""
        del optional  # whoever asks decides what a missing value means
        found = self.secrets if source == "secret" else self.config_maps
        return found.get(name, {}).get(key)

    def add_secret(self, assignment: str) -> None:
        """Adds one key from the command line: `name.key=value`, or `name.key=@file`.

        Raises:
            DocumentError: the text has another form, or the file cannot be read.
        """
        target, separator, value = assignment.partition("=")
        name, dot, key = target.partition(".")
        if not (separator and dot and name and key):
            raise DocumentError("--secret needs the form name.key=value or name.key=@file")
        if value.startswith("@"):
            value = _read(Path(value[1:])).rstrip("\n")
        self.secrets.setdefault(name, {})[key] = value


def read_documents(paths: list[Path]) -> Documents:
    """Returns everything that the files hold; `-` is standard input.

    Raises:
        DocumentError: a file cannot be read, is no YAML, or no file holds a DataCube.
    """
    found = Documents()
    for path in paths:
        for document in load_documents(_read(path), str(path)):
            _sort_in(document, found, str(path))
    if not found.cubes:
        raise DocumentError(f"no DataCube in {', '.join(map(str, paths))}: a document needs kind: {KIND}")
    return found


def _read(path: Path) -> str:
    source = Path("/dev/stdin") if str(path) == "-" else path
    try:
        with source.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DocumentError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise DocumentError(f"{path} is larger than {MAX_FILE_BYTES} bytes: that is no DataCube")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise DocumentError(f"{path} is not UTF-8 text") from None


def _sort_in(document: Any, found: Documents, path: str) -> None:
    if document is None:
        return
    if not isinstance(document, dict):
        raise DocumentError(f"{path} holds a document that is no mapping")
    kind = document.get("kind")
    match kind:
        case "DataCube":
            found.cubes.append(document)
        case "Secret":
            found.secrets.setdefault(_name(document, path), {}).update(_secret_values(document, path))
        case "ConfigMap":
            found.config_maps.setdefault(_name(document, path), {}).update(_texts(document.get("data"), path))
        case "PersistentVolumeClaim":
            found.claims.append(_name(document, path))
        case "List":
            for item in document.get("items") or ():
                _sort_in(item, found, path)
        case _:
            found.notices.append(f"{path}: passed over a document of kind {kind}")


def _name(document: dict[str, Any], path: str) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise DocumentError(f"{path} holds a {document.get('kind')} without metadata.name")
    return name


def _secret_values(document: dict[str, Any], path: str) -> dict[str, str]:
    encoded = _texts(document.get("data"), path)
    values = {}
    for key, text in encoded.items():
        try:
            values[key] = base64.b64decode(text, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise DocumentError(
                f"{path}: data.{key} of Secret {_name(document, path)} is no base64 text: use stringData for plain text"
            ) from None
    return values | _texts(document.get("stringData"), path)


def _texts(values: Any, path: str) -> dict[str, str]:
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise DocumentError(f"{path}: data of a Secret or ConfigMap holds texts only: quote the values")
    return {str(key): value for key, value in values.items()}
