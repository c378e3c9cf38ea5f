"""The Argo engine before a server of dicts, and caches that follow it when a test says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from datacube_operator.accounts import Accounts
from datacube_operator.argo_engine import ArgoEngine, ArgoParts
from datacube_operator.cube import POD_INDEXES
from datacube_operator.resource import PODS, WORKFLOW_TEMPLATES, WORKFLOWS

from datacube_flows.engines.argo_accounts import DEFAULTS
from datacube_flows.engines.argo_trim import trim_pod, trim_workflow
from tests.controller.decision_objects import INSTALLATION
from tests.controller.fake_api import FakeApi, FakeCache

if TYPE_CHECKING:
    from tests.controller.fake_clock import FakeClock

Object = dict[str, Any]

TEMPLATE: Final = "datacube-cube"


@dataclass
class Shop:
    """The engine before a server of dicts; no accounts are made, which have tests of their own."""

    clock: FakeClock

    def __post_init__(self) -> None:
        self.api = FakeApi(self.clock)
        self.workflows = FakeCache(self.api, WORKFLOWS, keep=trim_workflow)
        self.templates = FakeCache(self.api, WORKFLOW_TEMPLATES)
        self.pods = FakeCache(self.api, PODS, POD_INDEXES, trim_pod)
        accounts = Accounts(self.api.client, self.clock, DEFAULTS, is_on=False)
        caches = self.workflows.informer, self.templates.informer, self.pods.informer
        self.engine = ArgoEngine(
            ArgoParts(self.api.client, *caches, accounts, self.clock, INSTALLATION, DEFAULTS, "https://argo.test/")
        )

    def sync(self) -> None:
        for cache in (self.workflows, self.templates, self.pods):
            cache.sync()

    def template(self) -> Object:
        found = self.api.read(WORKFLOW_TEMPLATES, f"team/{TEMPLATE}")
        assert found is not None
        return found
