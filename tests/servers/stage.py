"""All three servers with data in them, and the examples' documents pointed at them. For the demo and for tests.

An example names `github.com`, the public hub and an S3 service of its own; here they become the local servers. Nothing
else of a document is changed.
"""

from __future__ import annotations

import copy
import random
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.servers.gitrepository import Access
from tests.servers.gitserver import GitServer, start_git_server
from tests.servers.hub import Hub, start_hub
from tests.servers.objectstore import ObjectStore, start_object_store

if TYPE_CHECKING:
    from collections.abc import Iterator

GIT_HOST = "https://$(TOKEN)@github.com/"
GIT_REPOSITORY = "user/repo"
MODEL, TARGET = "openai/whisper-large-v3", "user/repo"
BUCKET, PREFIX = "bucket", "path/subpath"


@dataclass(frozen=True)
class Amounts:
    """How much data there is."""

    lfs_bytes: int = 20_000
    shard_bytes: int = 100_000
    objects: int = 20
    object_bytes: int = 2_000


@dataclass(frozen=True)
class Stage:
    """The running servers."""

    git: GitServer
    hub: Hub
    store: ObjectStore

    def secrets(self) -> dict[str, dict[str, str]]:
        """The Secrets that the examples refer to."""
        return {
            "github-token": {"token": self.git.token},
            "hf-token": {"token": self.hub.token},
            "s3-config": {
                "endpoint": self.store.url,
                "accessKeyID": self.store.access_key,
                "secretAccessKey": self.store.secret_key,
            },
        }

    def secret_documents(self) -> list[dict[str, Any]]:
        """The same as documents."""
        return [
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
            for name, values in self.secrets().items()
        ]

    def localize(self, document: dict[str, Any]) -> dict[str, Any]:
        """Returns a DataCube document that speaks to these servers."""
        document = copy.deepcopy(document)
        spec = document["spec"]
        for end in (spec["source"], spec["sink"]):
            for option in end.get("options", ()):
                if option["name"] == "url" and "value" in option:
                    local = self.git.url.replace("://", "://$(TOKEN)@") + "/"
                    option["value"] = option["value"].replace(GIT_HOST, local)
            if end["type"] == "huggingface":
                env = spec.setdefault("executor", {}).setdefault("env", [])
                env.append({"name": "HF_ENDPOINT", "value": self.hub.url})
        return document


@contextmanager
def start_stage(folder: Path, amounts: Amounts | None = None) -> Iterator[Stage]:
    """Starts the servers and fills them."""
    with ExitStack() as stack:
        stage = Stage(
            stack.enter_context(start_git_server(folder / "git")),
            stack.enter_context(start_hub(folder / "hub")),
            stack.enter_context(start_object_store(folder / "s3")),
        )
        fill(stage, amounts or Amounts(), folder)
        yield stage


def fill(stage: Stage, amounts: Amounts, folder: Path) -> None:
    """Puts a repository with LFS, a model with a shard, and a bucket with many objects onto the servers."""
    dice = random.Random(7)  # noqa: S311 - the same data every time
    stage.git.make_repository(
        GIT_REPOSITORY,
        {"README.md": "# A repository\n", "src/train.py": "print('train')\n"},
        lfs_files={"weights/model.bin": dice.randbytes(amounts.lfs_bytes)},
        access=Access.PRIVATE,
        tags=("v1",),
    )
    shard = folder / "shard.safetensors"
    with shard.open("wb") as stream:
        for left in range(amounts.shard_bytes, 0, -(1 << 20)):
            stream.write(dice.randbytes(min(left, 1 << 20)))
    model: dict[str, bytes | Path] = {
        "README.md": b"---\nlicense: mit\n---\n",
        "config.json": b'{"model_type": "whisper"}\n',
        "tokenizer.json": dice.randbytes(3000),
        "tokenizer_config.json": b"{}\n",
        "model-00001-of-00001.safetensors": shard,
    }
    stage.hub.users[stage.hub.token] = TARGET.split("/", maxsplit=1)[0]
    stage.hub.make_repository(MODEL, model)
    stage.hub.make_repository(TARGET, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=True)
    stage.store.make_bucket(BUCKET)
    keys = (f"{PREFIX}/{n % 10}/{n:05}.bin" for n in range(amounts.objects))
    stage.store.put_many(BUCKET, {key: dice.randbytes(amounts.object_bytes) for key in keys})
