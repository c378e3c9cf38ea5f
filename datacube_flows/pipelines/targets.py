"""Where a pipeline's own transfers run: as processes of this machine, or as pods that the pipeline makes itself.

Knows no workflow engine. No operator is needed in either case, and none takes part: that two transfers use one path at
the same time is kept from happening on one machine alone.
"""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from datacube_flows.cluster.client import Client
from datacube_flows.cluster.connection import Place, connect, find_place
from datacube_flows.cluster.pods import PodSettings, PodWork
from datacube_flows.core.fold import fold, initial_status
from datacube_flows.core.manifests import Installation
from datacube_flows.core.observation import Observation
from datacube_flows.core.plan import Policy, TransferPlan, make_plan
from datacube_flows.engines.child import ChildSettings
from datacube_flows.engines.machine import Machine, MachineRun
from datacube_flows.engines.process_work import ProcessWork
from datacube_flows.engines.volumes import LocalVolumes
from datacube_flows.errors import TransferError, WaitingError
from datacube_flows.pipelines.applied import MANAGER
from datacube_flows.pipelines.results import TransferFailed, result_of
from datacube_flows.steps import is_followed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from datacube_flows.core.observation import AttemptSeen
    from datacube_flows.pipelines.documents import Given
    from datacube_flows.pipelines.results import TransferResult


@dataclass(frozen=True)
class ThisMachine:
    """Attempts are child processes, and claims are folders.

    Attributes:
        volumes: the folder that holds one folder a claim.
        secrets: Secrets that the document refers to, by name and key; they are stored nowhere.
        config_maps: ConfigMaps, the same way.
        allow_http: whether plain HTTP may be spoken (closed networks).
        ca_bundle: PEM file with the authorities to trust; None is the system's.
    """

    volumes: Path | str
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    allow_http: bool = False
    ca_bundle: Path | None = None

    @asynccontextmanager
    async def work(self, given: Given) -> AsyncIterator[TargetWork]:
        """Has what a run does its work with; the path is held until the end."""
        machine = Machine(LocalVolumes(Path(self.volumes).resolve()), self._lookup, _Silent(), self._settings())
        with MachineRun(_plan(given, allow_http=self.allow_http), machine) as run:
            yield TargetWork(ProcessWork(run))

    def _lookup(self, source: Literal["secret", "configmap"], name: str, key: str, optional: bool) -> str | None:
        del optional  # whoever asks decides what a missing value means
        return (self.secrets if source == "secret" else self.config_maps).get(name, {}).get(key)

    def _settings(self) -> ChildSettings:
        return ChildSettings(
            Installation(allow_http=self.allow_http),
            ca_bundle=str(self.ca_bundle.resolve()) if self.ca_bundle else "",
            path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        )


@dataclass(frozen=True)
class InCluster:
    """Attempts are pods, which this process makes, watches, and leaves to be looked at.

    Needed rights in the namespace: `pods: create, get, list, watch, delete`, `pods/log: get`,
    `persistentvolumeclaims: get, create`.

    Attributes:
        namespace: of document and pods; "" is the document's, else that of the kubeconfig's context or of this pod.
        place: the cluster; None is that of KUBECONFIG, of `~/.kube/config`, or that of this pod.
        installation: the transfer image, and what else no document can decide.
    """

    namespace: str = ""
    place: Place | None = None
    installation: Installation = field(default_factory=Installation)

    @asynccontextmanager
    async def work(self, given: Given) -> AsyncIterator[TargetWork]:
        """Has what a run does its work with, over a connection that is open until the end."""
        async with connect(self.place or find_place(os.environ, Path.home())) as connection:
            namespace = self.namespace or given.namespace(connection.namespace)
            plan = _plan(given, allow_http=self.installation.allow_http).model_copy(update={"namespace": namespace})
            yield TargetWork(PodWork(Client(connection.api, manager=MANAGER), plan, PodSettings(self.installation)))


class TargetWork:
    """The work of a pipeline's own run; it knows, too, what kept the run from beginning."""

    def __init__(self, work: ProcessWork | PodWork) -> None:
        self.plan = work.plan
        self._work = work
        self._kept: TransferError | WaitingError | None = None

    @property
    def attempts(self) -> Sequence[AttemptSeen]:
        """All that are known, oldest first."""
        return self._work.attempts

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be done."""
        return self._kept is not None or bool(self.attempts and not is_followed(self.plan, self.attempts[-1]))

    async def provision(self) -> str:
        """Has the claim there, and returns what was done."""
        try:
            return await self._work.provision()
        except (TransferError, WaitingError) as error:
            self._kept = error
            raise

    async def run_attempt(self, number: int) -> AttemptSeen:
        """Makes an attempt, and returns it after its end."""
        try:
            return await self._work.run_attempt(number)
        except TransferError as error:
            self._kept = error
            raise

    def progress(self) -> Mapping[str, Any]:
        """The counters of the attempt that runs."""
        return self._work.progress()

    async def lines(self, seen: AttemptSeen) -> Sequence[str]:
        """What an attempt that ended said."""
        return await self._work.lines(seen)

    def result(self) -> TransferResult:
        """Returns what was moved.

        Raises:
            TransferFailed: the run has failed; carries the typed reason.
        """
        name = f"{self.plan.namespace}/{self.plan.name}"
        if self._kept is not None:
            raise TransferFailed(name, self._kept.reason, self._kept.message)
        now = datetime.now(UTC)
        status = fold(initial_status(now), Observation(tuple(self.attempts)), now)
        return result_of(name, self.plan.claim.name, status)


def _plan(given: Given, *, allow_http: bool) -> TransferPlan:
    """What is to be done, as a run that nobody began before."""
    policy = Policy(allowed_schemes=("https", "http") if allow_http else ("https",))
    return make_plan(given.run_again(uuid4().hex).cube, policy)


class _Silent:
    """Shows a run to nobody: its log does that."""

    def attempt(self, number: int, attempts: int) -> None:
        """Says nothing."""

    def progress(self, values: dict[str, Any]) -> None:
        """Says nothing."""

    def pause(self) -> None:
        """Says nothing."""

    def line(self, text: str) -> None:
        """Says nothing."""
