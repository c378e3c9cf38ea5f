"""What a pipeline hands in as a DataCube: a model, an object, a text or a file.

Every rule is checked before a cluster is asked. No error quotes a value: it may be a secret in the wrong place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from datacube_flows.api.datacube import KIND, DataCube
from datacube_flows.api.parse import parse_datacube
from datacube_flows.cluster.sameness import ANY_SCHEME
from datacube_flows.core import labels
from datacube_flows.core.plan import make_plan
from datacube_flows.documents import load_documents
from datacube_flows.errors import DocumentError

CubeLike: TypeAlias = DataCube | Mapping[str, Any] | str | Path
"""A DataCube as a model, as an object, as YAML or JSON, or the file of one. A text of one line that does not begin with
`{` is the name of a file."""

MAX_BYTES: Final = 1_500_000
"""What the API server takes at most."""


@dataclass(frozen=True, slots=True)
class Given:
    """A DataCube, and what stood beside it.

    Attributes:
        cube: the DataCube; it keeps all rules.
        passed_over: kinds of the other objects, which are not applied.
    """

    cube: DataCube
    passed_over: tuple[str, ...] = ()

    @property
    def claim(self) -> str:
        """Name of its claim."""
        return make_plan(self.cube, ANY_SCHEME).claim.name

    def namespace(self, otherwise: str) -> str:
        """The namespace that it names, or else the other one."""
        about = self.cube.metadata
        return about.namespace if "namespace" in about.model_fields_set else otherwise

    def run_again(self, rerun: str) -> Given:
        """The same with a re-run annotation; "" leaves it as it is."""
        if not rerun:
            return self
        about = self.cube.metadata
        annotations = (about.annotations or {}) | {labels.RERUN: rerun}
        metadata = about.model_copy(update={"annotations": annotations})
        return Given(self.cube.model_copy(update={"metadata": metadata}), self.passed_over)


def read_cube(given: CubeLike) -> Given:
    """Returns the DataCube that was handed in.

    Raises:
        DocumentError: it cannot be read, or there is not exactly one DataCube.
        InvalidDataCube: it breaks rules.
    """
    if isinstance(given, DataCube):
        found = Given(given)
    elif isinstance(given, Mapping):
        found = Given(parse_datacube(given))
    else:
        found = _read(given)
    make_plan(found.cube, ANY_SCHEME)
    return found


def _read(given: str | Path) -> Given:
    if isinstance(given, str) and ("\n" in given or given.lstrip().startswith("{")):
        return _only_cube(load_documents(given, "the text"), "the text")
    return _only_cube(load_documents(_text_of(Path(given)), f"'{given}'"), f"'{given}'")


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DocumentError(f"'{path}' is larger than {MAX_BYTES} bytes: that is no DataCube")
        return path.read_text()
    except OSError as error:
        raise DocumentError(f"cannot read '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise DocumentError(f"'{path}' is not UTF-8 text") from None


def _only_cube(documents: list[Any], name: str) -> Given:
    objects = [document for document in documents if document is not None]
    if not all(isinstance(found, dict) for found in objects):
        raise DocumentError(f"{name} holds a document that is no mapping")
    cubes = [found for found in objects if found.get("kind") == KIND]
    if len(cubes) != 1:
        raise DocumentError(f"{name} holds {len(cubes)} documents of kind {KIND}: give one at a time")
    others = tuple(str(found.get("kind")) for found in objects if found is not cubes[0])
    return Given(parse_datacube(cubes[0]), others)
