"""Reads volumes that stand on a node elsewhere: through one pod that mounts them all, as a tar."""

from __future__ import annotations

import io
import secrets
import shutil
import tarfile
from base64 import b64decode
from typing import TYPE_CHECKING, Any

from tests.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.cluster.pods.bench import Bench

PLACE = "/volumes"
WAIT = "trap 'exit 0' TERM; sleep 600 & wait"
"""A shell is told to end and does; a `sleep` that is the first process of its pod would be waited for, then killed."""

FRESH = "--anchored --no-wildcards-match-slash --exclude='./*/lost+found'"
"""What a new file system holds is not what an attempt left."""

TAR = f"""
tar -C {PLACE} {FRESH} -cf /tmp/volumes.tar . || test $? = 1
wc -c < /tmp/volumes.tar
base64 -w0 /tmp/volumes.tar
"""
"""1 says that a file changed meanwhile. The length comes first: an answer may be cut off without an error."""


def copy_volumes(bench: Bench, claims: Sequence[str]) -> dict[str, Path]:
    """Returns claim -> a folder with what is on its volume. Links are left out: no test reads through one."""
    pod = reader_pod(bench, claims)
    name = pod["metadata"]["name"]
    bench.cluster.apply(pod)
    try:
        bench.wait(name, lambda pod: pod["status"].get("phase") == "Running")
        text = bench.cluster.kubectl("exec", name, bench.here, "--", "sh", "-e", "-c", TAR)
    finally:
        bench.cluster.kubectl("delete", "pod", name, bench.here, "--wait=false")
    for claim in claims:
        shutil.rmtree(bench.folder / claim, ignore_errors=True)
    _unpack(text, bench.folder)
    return {claim: bench.folder / claim for claim in claims}


def reader_pod(bench: Bench, claims: Sequence[str]) -> dict[str, Any]:
    """Returns a pod that waits with the claims' volumes at hand, each in a folder of its claim's name."""
    pod = bench.script(f"reader-{secrets.token_hex(4)}", WAIT, claims[0])
    spec = pod["spec"]
    volumes = [{"name": f"volume-{n}", "persistentVolumeClaim": {"claimName": c}} for n, c in enumerate(claims)]
    mounts = [{"name": f"volume-{n}", "mountPath": f"{PLACE}/{c}", "readOnly": True} for n, c in enumerate(claims)]
    spec["volumes"] = [v for v in spec["volumes"] if v["name"] != "data"] + volumes
    container = spec["containers"][0]
    container["volumeMounts"] = [m for m in container["volumeMounts"] if m["name"] != "data"] + mounts
    return pod


def _unpack(text: str, folder: Path) -> None:
    """Unpacks what the pod printed."""
    length, _, packed = text.partition("\n")
    content = b64decode(packed)
    if len(content) != int(length):
        raise ClusterError(f"of a volume's {length} bytes {len(content)} arrived")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter=_without_links)  # noqa: S202 - with a filter


def _without_links(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    return None if member.issym() or member.islnk() else tarfile.data_filter(member, folder)
