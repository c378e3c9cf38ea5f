"""`datacube run` and `datacube plan`: documents in, transfers done in their order, statuses out."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import yaml
from rich.console import Console

from datacube_flows.api.datacube import DataCube
from datacube_flows.api.reasons import Reason
from datacube_flows.cli import exit_codes
from datacube_flows.cli.display import Display
from datacube_flows.cli.documents import Documents, read_documents
from datacube_flows.cli.validate import check_documents, told_to
from datacube_flows.core.manifests import Installation
from datacube_flows.core.plan import Policy, TransferPlan, make_plan
from datacube_flows.engines.child import ChildSettings
from datacube_flows.engines.inline import InlineEngine
from datacube_flows.engines.machine import Machine, RunInterrupted
from datacube_flows.engines.volumes import LocalVolumes
from datacube_flows.words import outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from datacube_flows.api.status import DataCubeStatus

BAR_SECONDS = 0.2
LINE_SECONDS = 5.0


class EngineName(StrEnum):
    """What runs a document on this machine, whatever the document says of a cluster's engine."""

    INLINE = "inline"
    PREFECT = "prefect"


class Engine(Protocol):
    """Runs plans on this machine."""

    @property
    def holds_exit(self) -> bool:
        """Whether threads of it would hold the end of this process up."""

    def run(self, plan: TransferPlan) -> DataCubeStatus:
        """Runs a plan to its end; RunInterrupted where a person ended it."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    files: list[Path]
    volumes: Path
    secrets: tuple[str, ...]
    allow_http: bool
    ca_bundle: Path | None
    engine: EngineName = EngineName.INLINE

    @property
    def policy(self) -> Policy:
        """What this machine allows."""
        return Policy(allowed_schemes=("https", "http") if self.allow_http else ("https",))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One document and how it ended."""

    cube: DataCube
    status: DataCubeStatus

    def to_wire(self) -> dict[str, Any]:
        """The resource as a cluster shows it, without the spec, which may hold literal secrets."""
        cube = self.cube
        metadata = {"name": cube.metadata.name, "namespace": cube.metadata.namespace}
        return {
            "apiVersion": cube.api_version,
            "kind": cube.kind,
            "metadata": metadata,
            "status": self.status.to_wire(),
        }


class _Ended(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C."""


def run_documents(request: Request, output: str, *, keep_going: bool, dry_run: bool) -> int:
    """Runs every document in order and returns the exit code; all are checked before the first one starts."""
    console = Console(stderr=True)
    with told_to(console):
        documents = read_documents(request.files)
        for assignment in request.secrets:
            documents.add_secret(assignment)
        cubes = check_documents(documents, request.policy)
        plans = [_plan(cube, request.policy, dry_run=dry_run) for cube in cubes]
    for notice in documents.notices:
        console.print(notice, style="yellow", markup=False, highlight=False)
    return _run_all(list(zip(cubes, plans, strict=True)), request, documents, console, output, keep_going=keep_going)


def _plan(cube: DataCube, policy: Policy, *, dry_run: bool) -> TransferPlan:
    plan = make_plan(cube, policy)
    return plan.model_copy(update={"dry_run": True, "retries": 0}) if dry_run else plan


def _run_all(
    work: list[tuple[DataCube, TransferPlan]],
    request: Request,
    documents: Documents,
    console: Console,
    output: str,
    *,
    keep_going: bool,
) -> int:
    display = Display(console)
    machine = _machine(request, documents, display, console)
    signal.signal(signal.SIGTERM, _end)
    done: list[Outcome] = []
    codes: list[int] = []
    holds_exit = False
    try:
        with told_to(console), _engine(request.engine, machine) as engine:
            for cube, plan in work:
                status, code = _run_one(engine, cube, plan, display)
                done.append(Outcome(cube, status))
                codes.append(code)
                if code in (exit_codes.INTERRUPTED, exit_codes.TERMINATED) or (code and not keep_going):
                    break
            holds_exit = engine.holds_exit
    except KeyboardInterrupt as interrupt:
        codes.append(_interrupted(interrupt))
    if len(done) < len(work):
        display.line(f"not started: {', '.join(plan.name for _, plan in work[len(done) :])}", style="yellow")
    _print(done, output)
    if holds_exit:
        _leave(exit_codes.worst(codes))
    return exit_codes.worst(codes)


def _run_one(engine: Engine, cube: DataCube, plan: TransferPlan, display: Display) -> tuple[DataCubeStatus, int]:
    display.begin(plan.name, _title(cube, plan))
    try:
        status = engine.run(plan)
        code = exit_codes.code_of(Reason(outcome(status)[0]))
    except RunInterrupted as interrupt:
        status, code = interrupt.status, _interrupted(interrupt.__cause__)
    display.end(status)
    return status, code


def _interrupted(by: BaseException | None) -> int:
    return exit_codes.TERMINATED if isinstance(by, _Ended) else exit_codes.INTERRUPTED


@contextmanager
def _engine(name: EngineName, machine: Machine) -> Iterator[Engine]:
    if name is EngineName.INLINE:
        yield InlineEngine(machine)
        return
    from datacube_flows.cli.prefect import prefect_engine, where_history_is

    with prefect_engine(machine, os.environ) as engine:
        yield engine
        if not engine.has_pages:
            machine.listener.line(where_history_is(os.environ))


def _machine(request: Request, documents: Documents, display: Display, console: Console) -> Machine:
    installation = Installation(
        allow_http=request.allow_http, progress_seconds=BAR_SECONDS if console.is_terminal else LINE_SECONDS
    )
    settings = ChildSettings(
        installation,
        ca_bundle=str(request.ca_bundle.resolve()) if request.ca_bundle else "",
        path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    )
    volumes = LocalVolumes(request.volumes.resolve())
    for name in documents.claims:
        volumes.make_claim({"metadata": {"name": name}})
    return Machine(volumes, documents.lookup, display, settings)


def _title(cube: DataCube, plan: TransferPlan) -> str:
    claim = f"pvc {plan.claim.name}:/{plan.claim.sub_path}"
    source, sink = cube.spec.source.type, cube.spec.sink.type
    return f"{claim} -> {sink}" if plan.kind.is_upload else f"{source} -> {claim}"


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _Ended


def _leave(code: int) -> NoReturn:
    """Ends the process at once: what still tries to reach a server that is away would hold it for half a minute."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _print(done: list[Outcome], output: str) -> None:
    resources = [o.to_wire() for o in done]
    if output == "yaml":
        sys.stdout.write(yaml.safe_dump_all(resources, sort_keys=False, allow_unicode=True))
    elif output == "json":
        one = resources[0] if len(resources) == 1 else {"apiVersion": "v1", "kind": "List", "items": resources}
        sys.stdout.write(json.dumps(one, indent=2, ensure_ascii=False) + "\n")
