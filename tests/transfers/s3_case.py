"""One bucket, one folder and one way to run attempts on them: what the tests of the S3 transfer share."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support import run_here, tree

if TYPE_CHECKING:
    from pathlib import Path

    from datacube_flows.api.report import TransferReport
    from tests.servers.objectstore import ObjectStore

_NUMBERS = itertools.count()


@dataclass
class S3Case:
    """A fresh bucket and an empty folder of a volume."""

    store: ObjectStore
    folder: Path
    scratch: Path
    bucket: str
    url: str = ""

    def options(self, key: str = "", **more: str) -> dict[str, str]:
        found = self.store.options(f"s3://{self.bucket}/{key}", url=self.url)
        return found | {name.replace("_", "-"): value for name, value in more.items()}

    def download(self, key: str = "", *, options: dict[str, str] | None = None, **settings: Any) -> TransferReport:
        return run_here("s3-download", self.folder, options or self.options(key), scratch=self.scratch, **settings)

    def upload(
        self, key: str = "", sub_path: str = "", *, options: dict[str, str] | None = None, **settings: Any
    ) -> TransferReport:
        given = options or self.options(key)
        return run_here("s3-upload", self.folder, given, scratch=self.scratch, sub_path=sub_path, **settings)

    def put(self, **contents: bytes) -> None:
        self.store.put_many(self.bucket, contents)

    def names(self) -> set[str]:
        return set(tree(self.folder))

    def write(self, name: str, content: bytes = b"local") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


def make_case(store: ObjectStore, volumes: Path, scratch: Path) -> S3Case:
    folder = volumes / "claim"
    folder.mkdir()
    return S3Case(store, folder, scratch, store.make_bucket(f"bucket-{next(_NUMBERS)}"))
