"""Runs that meet others: on one path, in somebody else's workflow, and under another leader."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.cluster.operated.bench import said, verdict
from tests.servers.faults import Fault

if TYPE_CHECKING:
    from tests.cluster.operated.bench import Document, OperatorBench

pytestmark = [pytest.mark.t3, pytest.mark.timeout(300)]

SLOW = Fault("^GET /[^?]*/", "slow", rate=100, times=None)
"""A download of the stage's objects then takes about half a minute."""


def test_later_one_of_two_on_a_path_waits_for_the_first(operated: OperatorBench) -> None:
    operated.bench.make_volume("shared")
    operated.faulty_store("slow", SLOW)
    operated.submit("first", operated.download("shared", "slow", sub_path="set"))
    operated.running_pod("first")
    operated.submit("second", operated.download("shared", sub_path="set/inner"))
    operated.submit("beside", operated.download("shared", sub_path="settled"))
    status = operated.wait("second", lambda s: said(s)[0] == "PathBusy")
    assert "first" in said(status)[1]
    assert verdict(operated.finish("beside")) == ("Succeeded", "TransferComplete", 1)
    assert operated.status("first")["phase"] == "Running"
    ended = [operated.finish(name) for name in ("first", "second")]
    assert [verdict(s) for s in ended] == [("Succeeded", "TransferComplete", 1)] * 2
    assert ended[0]["completionTime"] <= ended[1]["attempts"][0]["startTime"]


def test_status_follows_a_training_pipeline_that_runs_the_template(operated: OperatorBench) -> None:
    operated.bench.make_volume("trained")
    operated.submit("data", operated.download("trained", sub_path="set"), suspend=True)
    status = operated.wait("data", lambda s: s.get("phase") == "Suspended")
    assert status["workflow"]["template"] == "datacube-data"
    operated.bench.cluster.apply(*pipeline(operated.bench.namespace))
    status = operated.finish("data")
    assert verdict(status) == ("Succeeded", "TransferComplete", 1)
    assert status["workflow"]["name"] == "training"
    assert operated.workflows("data") == [], "the operator began none itself"


def test_another_replica_goes_on_when_the_leader_is_killed(operated: OperatorBench) -> None:
    operated.bench.make_volume("led")
    operated.faulty_store("led", SLOW)
    operated.submit("led", operated.download("led", "led"))
    pod = operated.running_pod("led")
    other = replace(operated.operator, identity="two", _process=None)
    other.start()
    try:
        asyncio.run(other.until_ready())
        operated.operator.kill()
        status = operated.finish("led")
        assert asyncio.run(other.leads())
        assert verdict(status) == ("Succeeded", "TransferComplete", 1)
        assert status["pod"]["reference"]["name"] == pod
        assert len(operated.workflows("led")) == 1
        assert not other.faults()
    finally:
        other.kill()
        operated.operator.start()
        asyncio.run(operated.operator.until_ready())


def pipeline(namespace: str) -> list[Document]:
    """A training of somebody else's: the data, then what trains on it."""
    train = {"name": "train", "suspend": {"duration": "0"}}
    tasks = [
        {"name": "data", "templateRef": {"name": "datacube-data", "template": "datacube"}},
        {"name": "train", "template": "train", "dependencies": ["data"]},
    ]
    spec = {"entrypoint": "pipeline", "templates": [{"name": "pipeline", "dag": {"tasks": tasks}}, train]}
    about = {"apiVersion": "argoproj.io/v1alpha1", "metadata": {"name": "training", "namespace": namespace}}
    reference = {"workflowTemplateRef": {"name": "training"}}
    return [about | {"kind": "WorkflowTemplate", "spec": spec}, about | {"kind": "Workflow", "spec": reference}]
