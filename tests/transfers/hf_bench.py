"""What the Hugging Face tests share: one hub, a proxy that breaks it, folders, and attempts against them."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from datacube_flows.transfers import hf_client, hf_fetch
from tests.support import Child, run_here, start_child

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datacube_flows.api.report import TransferReport
    from tests.servers.hub import Hub

_NUMBERS = itertools.count(1)


@dataclass
class Bench:
    """Runs attempts on one volume against one hub, or against `endpoint` in front of it."""

    hub: Hub
    volume: Path
    tmp_path: Path
    endpoint: str = ""
    env: dict[str, str] = field(default_factory=dict)

    def new(self, files: Mapping[str, bytes | Path], **settings: Any) -> str:
        """Makes a repository with a name of its own."""
        repo = settings.pop("repo", f"alice/r{next(_NUMBERS)}")
        self.hub.make_repository(repo, files, **settings)
        return str(repo)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Puts files on the volume."""
        for name, content in files.items():
            path = self.volume / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def download(self, repo: str, *, options: Mapping[str, str] | None = None, **more: Any) -> TransferReport:
        return self._run("huggingface-download", repo, options, more)

    def upload(self, repo: str, *, options: Mapping[str, str] | None = None, **more: Any) -> TransferReport:
        return self._run("huggingface-upload", repo, {"token": self.hub.token} | dict(options or {}), more)

    def _run(self, kind: str, repo: str, options: Mapping[str, str] | None, more: dict[str, Any]) -> TransferReport:
        env = {"HF_ENDPOINT": self.endpoint or self.hub.url} | self.env | more.pop("env", {})
        scratch = self.tmp_path / f"scratch{next(_NUMBERS)}"
        return run_here(kind, self.volume, {"repo": repo, **(options or {})}, scratch=scratch, env=env, **more)

    def child(
        self, kind: str, options: Mapping[str, str], *, arguments: Sequence[str] = (), extra_args: Sequence[str] = ()
    ) -> Child:
        """Starts an attempt in a process of its own."""
        return start_child(
            kind,
            self.volume,
            options,
            report=self.tmp_path / f"report{next(_NUMBERS)}.json",
            env={"HF_ENDPOINT": self.endpoint or self.hub.url} | self.env,
            arguments=arguments,
            extra_args=extra_args,
        )


def make_bench(hub: Hub, volumes: Path, tmp_path: Path) -> Bench:
    folder = volumes / "data"
    folder.mkdir()
    return Bench(hub, folder, tmp_path)


def be_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their pauses."""
    for module in (hf_client, hf_fetch):
        monkeypatch.setattr(module, "PAUSES", (0.01, 0.01, 0.01))


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 - test data
