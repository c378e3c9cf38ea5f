"""Fixtures of the controller runtime's tests: coroutines run on asyncio; the API server is that of tests/cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.api import api_server
from tests.cluster.places import places_from
from tests.cluster.process import wait_for
from tests.controller.fake_clock import FakeClock
from tests.controller.played_cluster import serve_argo
from tests.controller.scenarios_bench import FLAGS, made_world
from tests.servers.prefect import start_prefect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.cluster.cluster import Cluster
    from tests.controller.scenarios_bench import Stage, World
    from tests.servers.prefect import PrefectServer

CRD = Path(__file__).parents[2] / "operator" / "deploy" / "crd.yaml"


REFUSED = (401, 403)
"""What the operator may not do, it does not try."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


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


def serve_cubes(server: Cluster) -> None:
    """Has the server know DataCubes; `kubectl wait` fails at once while a CRD has no conditions yet."""
    server.kubectl("apply", "--server-side", "-f", str(CRD))
    served = ("wait", "crd/datacubes.tensorstack.dev", "--for=condition=Established", "--timeout=20s")
    wait_for(lambda: server.try_kubectl(*served).returncode == 0, 20, "the CRD is not served")


@pytest.fixture(scope="module")
async def world(
    api: Cluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """The operator at work before the API server, and all around it played, for the tests of a module.

    The module's `OPERATOR_FLAGS`, where it has some, take the place of those of every scenario; with `WITH_PREFECT`,
    Prefect runs them.
    """
    serve_argo(api)
    identity = request.module.__name__.rpartition(".")[2].removeprefix("test_").replace("_", "-")
    flags = getattr(request.module, "OPERATOR_FLAGS", FLAGS)
    prefect = request.getfixturevalue("prefect") if getattr(request.module, "WITH_PREFECT", False) else None
    async with made_world(api, tmp_path_factory.mktemp("world"), identity, flags, prefect) as made:
        yield made


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A Prefect server with PostgreSQL, for the session; it shows no secret after it."""
    with start_prefect(tmp_path_factory.mktemp("prefect")) as server:
        yield server
        assert server.leaks() == []


@pytest.fixture
async def stage(world: World) -> AsyncIterator[Stage]:
    """A namespace of a scenario's own; after the scenario nothing of it shows a fault of the operator, or a secret."""
    before = len(world.proxy.seen)
    made = await world.stage("stage")
    yield made
    world.calm()
    assert world.operator.faults() == []
    assert [seen.line for seen in world.proxy.seen[before:] if seen.status in REFUSED] == []
    assert await made.leaks() == []


@pytest.fixture
def namespace(api: Cluster, request: pytest.FixtureRequest) -> str:
    """A namespace of this test's own; it goes with the server."""
    name: str = f"n{abs(hash(request.node.nodeid)):x}"
    api.kubectl("create", "namespace", name)
    return name
