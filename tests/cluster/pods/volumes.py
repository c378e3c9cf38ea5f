"""Reads volumes that stand on a node elsewhere: through one pod that mounts them all, as a tar."""

from __future__ import annotations

import io
import secrets
import shutil
import tarfile
from base64 import b64decode
from typing import TYPE_CHECKING, Any

from datacube_flows.core.manifests import SCRATCH_FOLDER
from tests.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.cluster.pods.bench import Bench

PLACE = "/volumes"
WAIT = "trap 'exit 0' TERM; sleep 600 & wait"
"""A shell is told to end and does; a `sleep` that is the first process of its pod would be waited for, then killed."""

FRESH = "--anchored --no-wildcards-match-slash --exclude='./*/lost+found'"
"""What a new file system holds is not what an attempt left."""


def copy_volumes(bench: Bench, claims: Sequence[str]) -> dict[str, Path]:
    """Returns claim -> a folder with what is on its volume. Links are left out: no test reads through one."""
    pod = reader_pod(bench, claims)
    name = pod["metadata"]["name"]
    bench.cluster.apply(pod)
    try:
        bench.wait(name, lambda pod: pod["status"].get("phase") == "Running")
        text = bench.cluster.kubectl(
            "exec", name, bench.here, "--", "sh", "-e", "-c", tar_script(PLACE, SCRATCH_FOLDER)
        )
    finally:
        bench.cluster.kubectl("delete", "pod", name, bench.here, "--wait=false")
    for claim in claims:
        shutil.rmtree(bench.folder / claim, ignore_errors=True)
    unpack(text, bench.folder)
    return {claim: bench.folder / claim for claim in claims}


def reader_pod(bench: Bench, claims: Sequence[str]) -> dict[str, Any]:
    """Returns a pod that waits with the claims' volumes at hand, each in a folder of its claim's name."""
    pod = bench.script(f"reader-{secrets.token_hex(4)}", WAIT, claims[0])
    return with_claims(pod, {claim: f"{PLACE}/{claim}" for claim in claims})


def with_claims(pod: dict[str, Any], claims: Mapping[str, str]) -> dict[str, Any]:
    """Returns the attempt's pod with other claims, claim -> where it is mounted read-only, in place of its own."""
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    names = {claim: f"volume-{n}" for n, claim in enumerate(claims)}
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": claim}} for claim, name in names.items()]
    mounts = [{"name": names[claim], "mountPath": place, "readOnly": True} for claim, place in claims.items()]
    spec["volumes"] = [v for v in spec["volumes"] if v["name"] != "data"] + volumes
    container["volumeMounts"] = [m for m in container["volumeMounts"] if m["name"] != "data"] + mounts
    return pod


def tar_script(volumes: str, scratch: str) -> str:
    """Returns what prints the folder of volumes: first the length of a tar, since an answer may be cut off silently."""
    tar = f"{scratch}/volumes.tar"
    changed = "test $? = 1"  # a file changed meanwhile
    return f"tar -C {volumes} {FRESH} -cf {tar} . || {changed}; wc -c < {tar}; base64 -w0 {tar}"


def unpack(text: str, folder: Path) -> None:
    """Unpacks what the script printed.

    Raises:
        ClusterError: It is not all of it.
    """
    length, _, packed = text.partition("\n")
    content = b64decode(packed)
    if len(content) != int(length):
        raise ClusterError(f"of a volume's {length} bytes {len(content)} arrived")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter=_without_links)  # noqa: S202 - with a filter


def _without_links(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    return None if member.issym() or member.islnk() else tarfile.data_filter(member, folder)
