"""The main job on real servers, for a person to watch: six transfers and a sync, then every byte compared.

`make demo` runs this. It starts a git server with LFS, a hub and an S3 store on loopback, makes data, runs the
documents of `examples/` through the `datacube` command as a user would, and compares both ends itself afterwards.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.tree import Tree

from tests.servers.stage import BUCKET, GIT_REPOSITORY, MODEL, PREFIX, TARGET, Amounts, Stage, start_stage
from tests.support import ROOT, tree

if TYPE_CHECKING:
    from collections.abc import Callable

AMOUNTS = Amounts(lfs_bytes=8_000_000, shard_bytes=200_000_000, objects=2_000, object_bytes=20_000)
CLAIM = "datacube-pvc"
MODEL_PATH = "dev/hf/whisper-large-v3"


@dataclass
class Demo:
    """One run of the demo.

    Attributes:
        statuses: document's name -> the resource that the command printed.
        checks: what was compared, and whether both ends were equal.
    """

    stage: Stage
    folder: Path
    console: Console
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: list[tuple[str, bool]] = field(default_factory=list)

    @property
    def claim(self) -> Path:
        """The claim's folder."""
        return self.folder / "volumes" / CLAIM

    def run(self, name: str) -> None:
        """Runs one example as a person would, and keeps the status that it prints."""
        documents = [d for d in yaml.safe_load_all((ROOT / f"examples/{name}.yaml").read_text()) if d]
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump_all([self.stage.localize(d) for d in documents], sort_keys=False))
        argv = [str(Path(sys.executable).parent / "datacube"), "run", "-f", "secrets.yaml", "-f", path.name]
        finished = subprocess.run(
            [*argv, "--allow-http", "-o", "yaml"],
            cwd=self.folder,
            env={**os.environ, "COLUMNS": str(self.console.width)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if finished.returncode != 0:
            raise SystemExit(f"{name} ended with code {finished.returncode}")
        self.statuses[name] = yaml.safe_load(finished.stdout)

    def check(self, what: str, volume: dict[str, str], remote: dict[str, str]) -> None:
        """Compares two trees (name -> sha256)."""
        total = f"{len(volume)} files"
        self.checks.append((f"{what}: {total}", bool(volume) and volume == remote))


def download_and_push_git(demo: Demo) -> None:
    """Clones, commits on the volume as a person would, pushes."""
    demo.run("git-download")
    repository, served = demo.claim / "dev/git/repo", demo.stage.git.repositories[GIT_REPOSITORY]
    demo.check("git download, LFS included", tree(repository), served.tree("main"))
    (repository / "notes.md").write_text("trained on Tuesday\n")
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.invalid"]
    for command in (["add", "notes.md"], ["commit", "--quiet", "-m", "Add notes"]):
        subprocess.run(["git", "-C", str(repository), *identity, *command], check=True)
    demo.run("git-upload")
    demo.check("git upload", tree(repository), served.tree("main"))


def download_and_upload_model(demo: Demo) -> None:
    """Downloads a model with a 200 MB shard, uploads it into another repository."""
    demo.run("huggingface-download")
    folder = tree(demo.claim / MODEL_PATH)
    demo.check("hub download, 200 MB shard", folder, hub_tree(demo.stage, MODEL))
    demo.run("huggingface-upload")
    uploaded = {n.removeprefix("pvc/demo/"): h for n, h in hub_tree(demo.stage, TARGET).items() if n.startswith("pvc/")}
    demo.check("hub upload", folder, uploaded)


def download_upload_and_sync_objects(demo: Demo) -> None:
    """Downloads 2,000 objects, uploads the model, then lets a sync follow changes at the source."""
    demo.run("s3-download")
    folder = demo.claim / "dev/s3"
    demo.check("S3 download", tree(folder), bucket_tree(demo.stage, PREFIX))
    demo.run("s3-upload")
    demo.check("S3 upload", tree(demo.claim / MODEL_PATH), bucket_tree(demo.stage, "models/whisper-large-v3"))
    for number in range(40):
        demo.stage.store.delete(BUCKET, f"{PREFIX}/{number % 10}/{number:05}.bin")
    demo.stage.store.put(BUCKET, f"{PREFIX}/new.bin", b"new")
    demo.run("s3-sync")
    demo.check("S3 sync, after 40 deletions and an addition", tree(folder), bucket_tree(demo.stage, PREFIX))


def hub_tree(stage: Stage, repository: str) -> dict[str, str]:
    """Name -> sha256 of what the hub holds."""
    names = stage.hub.files(repository)
    return {name: hashlib.sha256(stage.hub.content(repository, name)).hexdigest() for name in names}


def bucket_tree(stage: Stage, prefix: str) -> dict[str, str]:
    """Name -> sha256 of what the bucket holds below a prefix."""
    keys = stage.store.list(BUCKET, prefix + "/")
    return {key[len(prefix) + 1 :]: hashlib.sha256(stage.store.get(BUCKET, key)).hexdigest() for key in keys}


def show_statuses(demo: Demo) -> None:
    """Prints a line a document, as `kubectl get datacube` would, and the last one's status whole."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NAME", "PHASE", "REASON", "ATTEMPTS", "FILES", "BYTES", "SKIPPED", "VERIFIED", "PATH"):
        table.add_column(title, justify="right" if title in ("ATTEMPTS", "FILES", "BYTES", "SKIPPED") else "left")
    for name, resource in demo.statuses.items():
        status, result = resource["status"], resource["status"]["result"]
        reason = next(c["reason"] for c in status["conditions"] if c["type"] == "Complete")
        counts = (len(status["attempts"]), result["files"], decimal(result["bytes"]), result["skipped"])
        cells = (name, status["phase"], reason, *map(str, counts), result["verified"], result["path"])
        table.add_row(*cells)
    demo.console.print(table)
    name, last = list(demo.statuses.items())[-1]
    demo.console.print(f"\n[bold]Status of {name}[/], as a cluster would show it:\n")
    demo.console.print(yaml.safe_dump(last, sort_keys=False), highlight=False, markup=False)


def show_tree(demo: Demo) -> None:
    """Prints the volume: folders with their numbers of files, small ones in full."""
    root = Tree(f"[bold]{CLAIM}[/]")
    _grow(root, demo.claim)
    demo.console.print(root)


def _grow(branch: Tree, folder: Path) -> None:
    entries = sorted(folder.iterdir(), key=lambda p: (p.is_file(), p.name))
    files = [p for p in entries if p.is_file()]
    for entry in entries:
        if entry.is_dir() and entry.name == ".git":
            branch.add("[dim].git/[/]")
        elif entry.is_dir():
            inner = branch.add(f"[blue]{entry.name}/[/]")
            if entry.parent.name == "s3":
                inner.label = f"[blue]{entry.name}/[/] [dim]{sum(1 for _ in entry.iterdir())} files[/]"
            else:
                _grow(inner, entry)
    for entry in files:
        branch.add(f"{entry.name} [dim]{decimal(entry.stat().st_size)}[/]")


def main() -> int:
    """Runs the demo; 0 when every comparison held."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers are to be ended also then
    console = Console(highlight=False)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="datacube-demo-") as name:
        folder = Path(name)
        console.print("Starting a git server with LFS, a model hub and an S3 store; making data ...", style="dim")
        with start_stage(folder / "servers", AMOUNTS) as stage:
            demo = Demo(stage, folder, console)
            (folder / "secrets.yaml").write_text(yaml.safe_dump_all(stage.secret_documents()))
            parts: list[Callable[[Demo], None]] = [
                download_and_push_git,
                download_and_upload_model,
                download_upload_and_sync_objects,
            ]
            for part in parts:
                part(demo)
        console.print()
        show_statuses(demo)
        show_tree(demo)
    console.print("\n[bold]Verified[/] by reading both ends again and comparing every sha256:")
    for what, is_equal in demo.checks:
        console.print(f"  [green]equal[/]    {what}" if is_equal else f"  [bold red]DIFFERENT[/] {what}")
    console.print(f"\n{len(demo.checks)} transfers in {time.monotonic() - started:.0f} s.", style="dim")
    return 0 if all(is_equal for _, is_equal in demo.checks) else 1


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
