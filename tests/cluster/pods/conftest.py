"""Fixtures of the attempts in a whole cluster: the image, and a namespace that no credential may be seen in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cluster.cluster import IMAGE_VARIABLE
from tests.cluster.image_build import transfer_image
from tests.cluster.packages import missing_packages
from tests.cluster.pods.bench import made_bench
from tests.cluster.pods.observed import Observed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.cluster import Cluster
    from tests.cluster.image_build import BuiltImage
    from tests.cluster.pods.bench import Bench

IMAGE_TOOLS = {"buildah", "mmdebstrap"}
"""Packages that `make cluster` installs, and a run in a user's cluster does not."""

RECORD = "DATACUBE_RECORD"
"""Set, the tests write what the cluster shows into the fixtures; else they compare it with them."""


@pytest.fixture(scope="session")
def build_environment(cluster: Cluster) -> dict[str, str]:
    """Where pip, uv and apt find their settings: the environment as it is outside of tests."""
    if cluster.node is None and (os.geteuid() or IMAGE_TOOLS & missing_packages("whole").keys()):
        pytest.skip(
            f"builds images, which needs root and {', '.join(sorted(IMAGE_TOOLS))}; KUBECONFIG asks for neither"
        )
    return dict(os.environ)


@pytest.fixture(scope="session")
def image(own_cluster: Cluster, cluster_cache: Path, build_environment: dict[str, str]) -> BuiltImage:
    """The transfer image, in the cluster."""
    return transfer_image(own_cluster, cluster_cache, build_environment)


@pytest.fixture(scope="session")
def image_name(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """Name of the transfer image: the one built here, or on a user's cluster the one that it can pull."""
    if cluster.node is not None:
        built: BuiltImage = request.getfixturevalue("image")
        return built.name
    return os.environ[IMAGE_VARIABLE]


@pytest.fixture(scope="session")
def bench(cluster: Cluster, image_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Where attempts run; at the end no object, event, log and volume holds a credential."""
    with made_bench(cluster, image_name, tmp_path_factory.mktemp("servers")) as made:
        yield made
        leaks = made.leaks()
    assert not leaks, f"secrets are to be seen: {leaks}"


@pytest.fixture(scope="session")
def observed(bench: Bench) -> Observed:
    """Records or compares what the API shows."""
    if RECORD in os.environ:
        bench.cluster.own_node("what its API shows is compared, and not recorded")
    return Observed(bench, records=RECORD in os.environ)
