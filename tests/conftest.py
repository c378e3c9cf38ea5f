"""Fixtures of every tier: a clean environment, the canary search, and the real servers on loopback."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.canary import ArgvWatch, find_canary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.gitserver import GitServer
    from tests.servers.hub import Hub
    from tests.servers.objectstore import ObjectStore
    from tests.servers.prefect import PrefectServer

KEPT = ("PATH", "HOME", "LANG", "TERM", "TMPDIR", "PYTHONDONTWRITEBYTECODE")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the machine's proxies, certificates, tokens or tool settings."""
    for name in list(os.environ):
        if name not in KEPT and not name.startswith(("PYTEST_", "COV_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def argv_watch() -> Iterator[ArgvWatch]:
    """Fails the session if a credential ever stood in a process's argv."""
    with ArgvWatch() as watch:
        yield watch
    assert not watch.leaks, f"secrets in argv: {watch.leaks}"


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[Path]:
    """A folder for volumes; after the test no file in it holds a credential."""
    folder = tmp_path / "volumes"
    folder.mkdir()
    yield folder
    leaks = find_canary(folder)
    assert not leaks, f"secrets on the volume: {leaks}"


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """SeaweedFS, speaking S3."""
    from tests.servers.objectstore import start_object_store

    with start_object_store(tmp_path_factory.mktemp("object-store")) as server:
        yield server


@pytest.fixture(scope="session")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """Git over smart HTTP with basic auth and LFS."""
    from tests.servers.gitserver import start_git_server

    with start_git_server(tmp_path_factory.mktemp("git-server")) as server:
        yield server


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub that the real Hugging Face clients talk to."""
    from tests.servers.hub import start_hub

    with start_hub(tmp_path_factory.mktemp("hub")) as server:
        yield server


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A Prefect server with PostgreSQL; whoever stops or kills it starts it again."""
    from tests.servers.prefect import start_prefect
    from tests.support import needs

    needs("postgresql")
    with start_prefect(tmp_path_factory.mktemp("prefect-server")) as server:
        yield server
