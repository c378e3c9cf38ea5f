"""Images made here: a static busybox is all that the pause image and the test image need."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

from tests.cluster.errors import ClusterError
from tests.cluster.packages import SEARCH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PAUSE = "datacube.test/pause:1"
"""Holds a pod's namespaces; ends when it is told to."""

BUSYBOX = "datacube.test/busybox:1"
"""A shell and small tools, for tests and for making volumes."""

_WAIT = ["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"]


def make_images(archive: Path) -> Path:
    """Writes an archive with all images of the cluster, unless it is there."""
    if not archive.exists():
        part = archive.with_suffix(".part")
        write_archive(part, busybox_layer(), {PAUSE: {"Entrypoint": _WAIT}, BUSYBOX: {"Cmd": ["/bin/sh"]}})
        part.rename(archive)
    return archive


def write_archive(archive: Path, layer: bytes, images: dict[str, dict[str, Any]]) -> None:
    """Writes a docker archive of images that share their only layer, an uncompressed tar.

    Args:
        archive: Gets written.
        layer: The root file system.
        images: Name with tag -> `config` section, such as Entrypoint, Cmd, User, Env.
    """
    digest = hashlib.sha256(layer).hexdigest()
    listing = []
    with tarfile.open(archive, "w") as tar:
        _add_bytes(tar, "layer.tar", layer)
        for number, (name, config) in enumerate(images.items()):
            document = _config(config | {"Env": ["PATH=/bin"]}, digest)
            _add_bytes(tar, f"{number}.json", json.dumps(document).encode())
            listing.append({"Config": f"{number}.json", "RepoTags": [name], "Layers": ["layer.tar"]})
        _add_bytes(tar, "manifest.json", json.dumps(listing).encode())


def _config(config: dict[str, Any], digest: str) -> dict[str, Any]:
    root = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
    return {"architecture": _architecture(), "os": "linux", "config": config, "rootfs": root}


def _architecture() -> str:
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    machine = subprocess.run(["uname", "-m"], check=True, capture_output=True, text=True).stdout.strip()
    return names.get(machine, machine)


def busybox_layer() -> bytes:
    """Returns a root file system, as a tar, that holds busybox under all of its names."""
    busybox = shutil.which("busybox", path=SEARCH)
    if busybox is None:
        raise ClusterError("busybox is missing")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            _add_folder(tar, folder, mode)
        _add_file(tar, busybox)
        _add_links(tar, [a for a in applets if a != "busybox"])
    return layer.getvalue()


def _add_folder(tar: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def _add_file(tar: tarfile.TarFile, busybox: str) -> None:
    with open(busybox, "rb") as stream:
        _add_bytes(tar, "bin/busybox", stream.read(), 0o755)


def _add_links(tar: tarfile.TarFile, applets: Sequence[str]) -> None:
    for applet in applets:
        entry = tarfile.TarInfo(f"bin/{applet}")
        entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(entry)


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
