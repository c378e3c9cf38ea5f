"""A clean repository of our own that borrows the objects of an untrusted one: the door through which git sees a volume.

Nothing of the untrusted repository's configuration, hooks or attributes comes along (SECURITY 2.3).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError

if TYPE_CHECKING:
    from pathlib import Path

    from datacube_flows.transfers.git_repository import LocalRepository
    from datacube_flows.transfers.git_tool import Git


def borrow(git: Git, local: LocalRepository, place: Path) -> Git:
    """Returns git for a new bare repository at `place` that sees every object of `local`, with HEAD at its commit.

    The tips of `local` are kept below `refs/have/`, so that a fetch or a push knows what is already there.

    Raises:
        TransferError: IntegrityMismatch when the commit that HEAD names is not there.
    """
    git.run("init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(place))
    (place / "objects" / "info").mkdir(exist_ok=True)
    (place / "objects" / "info" / "alternates").write_bytes(bytes(local.git_dir / "objects") + b"\n")
    if local.shallow:
        shutil.copyfile(local.shallow, place / "shallow")
    inside = git.at(place)
    inside.run("remote", "add", "origin", git.remote.url)
    if local.is_partial:
        inside.run("config", "remote.origin.promisor", "true")
        inside.run("config", "remote.origin.partialclonefilter", "blob:none")
    known = known_tips(inside, {local.head, *local.refs.values()} - {""})
    if local.head and local.head not in known:
        text = f"the repository '{local.path.name}' is damaged: its HEAD names commit {local.head}, which is not there"
        raise TransferError(Reason.INTEGRITY_MISMATCH, f"{text}: move it away, or repair it with `git fsck`")
    lines = [f"create refs/have/{number} {tip}" for number, tip in enumerate(sorted(known))]
    lines += [f"option no-deref\nupdate HEAD {local.head}"] if local.head else []
    inside.run("update-ref", "--stdin", stdin="\n".join([*lines, ""]).encode())
    return inside


def known_tips(git: Git, tips: set[str]) -> set[str]:
    """Returns those of the ids that are commits or tags which git can see."""
    answer = git.ask("cat-file", "--batch-check=%(objectname) %(objecttype)", stdin="\n".join([*tips, ""]).encode())
    lines = (line.split(" ") for line in answer.splitlines())
    return {name for name, kind in lines if kind in ("commit", "tag")}
