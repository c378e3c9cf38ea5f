"""Fixtures of the transfers' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.gitserver import GitServer
    from tests.servers.objectstore import ObjectStore
    from tests.transfers.gitcase import GitCase
    from tests.transfers.s3_case import S3Case


@pytest.fixture
def git_case(git_server: GitServer, volumes: Path, tmp_path: Path) -> Iterator[GitCase]:
    """A volume and the Git server; afterwards no credential is on the volume and no fault is left."""
    from tests.transfers.gitcase import GitCase

    volume = volumes / "claim"
    volume.mkdir()
    git_server.heal()
    yield GitCase(git_server, tmp_path, volume)
    git_server.heal()


@pytest.fixture
def s3_case(object_store: ObjectStore, volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Case:
    """A fresh bucket and an empty folder of a volume; requests that failed are made again after a moment only."""
    from datacube_flows.transfers import s3_client
    from tests.transfers.s3_case import make_case

    monkeypatch.setattr(s3_client, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(s3_client, "LIMITED_PAUSE_SECONDS", 0.02)
    return make_case(object_store, volumes, tmp_path / "scratch")
