"""Fixtures of the transfers' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.gitserver import GitServer
    from tests.transfers.gitcase import GitCase


@pytest.fixture
def git_case(git_server: GitServer, volumes: Path, tmp_path: Path) -> Iterator[GitCase]:
    """A volume and the Git server; afterwards no credential is on the volume and no fault is left."""
    from tests.transfers.gitcase import GitCase

    volume = volumes / "claim"
    volume.mkdir()
    git_server.heal()
    yield GitCase(git_server, tmp_path, volume)
    git_server.heal()
