"""`datacube render`: the Kubernetes objects that documents become, without asking a cluster."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console

from datacube_flows.cli import exit_codes
from datacube_flows.cli.crd import dump_yaml
from datacube_flows.cli.documents import read_documents
from datacube_flows.cli.validate import check_documents, told_to
from datacube_flows.core.manifests import Installation, make_claim, make_pod
from datacube_flows.core.plan import Policy, make_plan

if TYPE_CHECKING:
    from pathlib import Path

    from datacube_flows.api.datacube import DataCube


def render_documents(files: list[Path], kinds: frozenset[str], installation: Installation) -> int:
    """Prints the objects of every DataCube as YAML on standard output and returns the exit code."""
    policy = Policy(allowed_schemes=("https", "http") if installation.allow_http else ("https",))
    with told_to(Console(stderr=True)):
        cubes = check_documents(read_documents(files), policy)
    sys.stdout.write(render_cubes(cubes, kinds, policy, installation))
    return exit_codes.OK


def render_cubes(cubes: list[DataCube], kinds: frozenset[str], policy: Policy, installation: Installation) -> str:
    """Returns the claims and pods of the cubes, of the kinds `claim` and `pod` that are asked for, as YAML."""
    objects: list[dict[str, Any]] = []
    for cube in cubes:
        plan = make_plan(cube, policy)
        claim = make_claim(plan)
        objects += [claim] if claim and "claim" in kinds else []
        objects += [make_pod(plan, installation, name=f"{plan.name}-1")] if "pod" in kinds else []
    return "---\n".join(dump_yaml(o) for o in objects)
