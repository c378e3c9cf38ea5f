"""What an upload to a hub starts from: the local files, and the names that they get in the repository. No network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.hf_client import matching
from datacube_flows.transfers.hf_files import check_text
from datacube_flows.transfers.paths import list_files, resolve_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datacube_flows.transfers.base import Attempt
    from datacube_flows.transfers.paths import LocalFile

REFUSED_FOLDERS = frozenset({".git", ".cache"})
"""Names that neither the hub nor its library take into a commit."""


@dataclass(frozen=True, slots=True)
class Source:
    """The local side of an upload.

    Attributes:
        path: the file or folder.
        prefix: where it goes: a folder's place, or a file's full name.
        files: name in the repository -> file.
        skipped: how many were found and left out, each told in a notice.
        called: what a person knows it by.
    """

    path: Path
    prefix: str
    files: Mapping[str, LocalFile]
    skipped: int
    called: str

    def message(self, count: int) -> str:
        """The commit message for `count` files, where none is given."""
        if self.path.is_file():
            return f"Upload {self.path.name} with DataCube"
        return f"Upload {plural(count)} from {self.called} with DataCube"


def plural(count: int) -> str:
    """`1 file`, `2 files`."""
    return f"{count} file" if count == 1 else f"{count} files"


def find_source(attempt: Attempt) -> Source:
    """Returns what is to be uploaded.

    Raises:
        TransferError: NotFound for a missing source, SourceEmpty for one without files, InvalidSpec for a place that
            cannot be.
    """
    path = resolve_source(attempt.folder, attempt.sub_path)
    listing = list_files(path, attempt.progress)
    prefix = place_of(path, attempt.option("path-in-repo"))
    kept = [f for f in listing.files if not REFUSED_FOLDERS & set(f.name.split("/"))]
    refused = len(listing.files) - len(kept)
    if refused:
        attempt.progress.notice(f"left out {plural(refused)} in folders .git and .cache, which no hub takes")
    check_text(f.name for f in kept)
    if not path.is_file():
        chosen = matching(attempt, [f.name for f in kept])
        kept = [f for f in kept if f.name in chosen]
    if not kept:
        raise TransferError(
            Reason.SOURCE_EMPTY, f"'{attempt.sub_path or '/'}' on the volume holds no file to upload: check subPath"
        )
    names = {prefix: kept[0]} if path.is_file() else {_joined(prefix, f.name): f for f in kept}
    return Source(path, prefix, names, listing.skipped + refused, attempt.sub_path or "the volume's root")


def place_of(path: Path, option: str) -> str:
    """Returns where a file or folder goes in the repository (SPEC section 3: a file keeps its name below `path/`)."""
    option = option.strip()
    parts = [p for p in option.split("/") if p not in ("", ".")]
    if ".." in parts or option.startswith("-") or REFUSED_FOLDERS & set(parts) or not option.isprintable():
        raise TransferError(
            Reason.INVALID_SPEC,
            f"option path-in-repo '{option}' is no place in a repository: use 'folder/' or 'folder/name'",
        )
    place = "/".join(parts)
    if path.is_file() and (not place or option.endswith(("/", "/."))):
        return _joined(place, path.name)
    return place


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
