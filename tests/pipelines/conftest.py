"""Fixtures of the tests of pipelines: an API server that knows DataCubes; the operator is played by each test."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.api import api_server
from tests.cluster.places import places_from
from tests.controller.conftest import serve_cubes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.cluster import Cluster


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def cluster_cache() -> Path:
    """Where the cluster's programs are."""
    return places_from(os.environ).cache


@pytest.fixture(scope="session")
def api(cluster_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server that knows DataCubes, for the session."""
    with api_server(tmp_path_factory.mktemp("api"), cluster_cache) as server:
        serve_cubes(server)
        yield server


@pytest.fixture
def namespace(api: Cluster) -> str:
    """A namespace of this test's own; it goes with the server."""
    name = f"n{secrets.token_hex(5)}"
    api.kubectl("create", "namespace", name)
    return name
