"""Fixtures: one operator, one namespace, Argo's controller; at the end no credential is to be seen anywhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cluster.argo import ensure_argo
from tests.cluster.image_build import transfer_image
from tests.cluster.operated.bench import OperatorBench, running_operator
from tests.cluster.pods.bench import made_bench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.cluster import Cluster


@pytest.fixture(scope="module")
def operated(
    own_cluster: Cluster, cluster_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorBench]:
    """Where the operator runs."""
    ensure_argo(own_cluster, os.environ)
    image = transfer_image(own_cluster, cluster_cache, os.environ)
    with (
        made_bench(own_cluster, image.name, tmp_path_factory.mktemp("servers")) as bench,
        running_operator(bench, tmp_path_factory.mktemp("operator")) as made,
    ):
        yield made
        leaks = [*bench.leaks(), *made.leaks()]
        assert not leaks, f"secrets are to be seen: {leaks}"
        assert not made.operator.faults()
