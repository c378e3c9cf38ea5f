"""Fixtures of the tests that need a cluster; a test that fails is explained by what its cluster says."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.api import api_server
from tests.cluster.cluster import Cluster, find_cluster
from tests.cluster.crd_client import CubeClient, cube_client, serve_crd
from tests.cluster.explain import explain
from tests.cluster.namespace import made_namespace
from tests.cluster.places import places_from

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The whole cluster that runs: the user's, or that of `make cluster`."""
    return find_cluster(os.environ)


@pytest.fixture(scope="session")
def own_cluster(cluster: Cluster) -> Cluster:
    """The whole cluster, for tests of the harness itself."""
    if cluster.node is None:
        pytest.skip("tests the cluster of `make cluster`, and KUBECONFIG names another")
    return cluster


@pytest.fixture(scope="session")
def cluster_cache() -> Path:
    """Where the cluster's programs are."""
    return places_from(os.environ).cache


@pytest.fixture(scope="session")
def api(cluster_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server and its etcd, for the session."""
    with api_server(tmp_path_factory.mktemp("api"), cluster_cache) as server:
        yield server


@pytest.fixture(scope="session")
def crd_api(api: Cluster) -> Cluster:
    """The API server, which serves the CRD."""
    serve_crd(api)
    return api


@pytest.fixture(scope="module")  # a connection that idles for a minute and a half is closed
def cubes(crd_api: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CubeClient]:
    """DataCubes of the API server."""
    with cube_client(crd_api, tmp_path_factory.mktemp("client")) as client:
        yield client


@pytest.fixture
def fresh_cubes(crd_api: Cluster, cubes: CubeClient) -> CubeClient:
    """DataCubes in a namespace where there are none."""
    name = f"test-{secrets.token_hex(4)}"
    crd_api.kubectl("create", "namespace", name)
    return replace(cubes, namespace=name)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the whole cluster that admits restricted pods only; gone with all in it after the test."""
    with made_namespace(cluster) as name:
        yield name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Adds to a failure what the cluster knows about it."""
    report = yield
    if report.failed:
        given = getattr(item, "funcargs", {})
        for name in ("cluster", "api"):
            if isinstance(given.get(name), Cluster):
                report.sections.append((f"the {name} says", explain(given[name], given.get("namespace", ""))))
    return report
