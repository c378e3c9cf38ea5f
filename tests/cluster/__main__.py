"""A Kubernetes cluster in one command, and none in another: `python -m tests.cluster up | down | status | ...`."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import traces
from tests.cluster.api import start_api
from tests.cluster.argo_build import build_argo
from tests.cluster.binaries import DIES_WITH_US, build_programs, locked
from tests.cluster.cluster import Cluster, find_cluster, users_kubeconfig
from tests.cluster.errors import ClusterError, say
from tests.cluster.explain import explain
from tests.cluster.packages import SEARCH, ensure_packages
from tests.cluster.places import places_from
from tests.cluster.process import Roster
from tests.cluster.turn import held_turn
from tests.cluster.whole import end_whole, is_healthy, start_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.cluster.places import Places

ROOT = Path(__file__).parents[2]
TIERS = ("api", "whole")


def main(arguments: list[str]) -> int:
    """Does what is asked; 0 where it worked."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("verb", choices=[*VERBS, "test"])
    parser.add_argument("--tier", choices=TIERS, default="whole", help="api: API server and etcd only (default: whole)")
    parser.add_argument("more", nargs="*", help="for test, after --: arguments of pytest")
    asked = parser.parse_args(arguments)
    try:
        if asked.verb == "test":
            return test(asked.more)
        return VERBS[asked.verb](_places(asked.tier), asked.tier)
    except ClusterError as error:
        say(f"cluster: {error}")
        return 1
    except KeyboardInterrupt:
        say("cluster: interrupted; the next time goes on from here")
        return 130


def _places(tier: str) -> Places:
    places = places_from(os.environ)
    return places if tier == "whole" else places.beside(tier)


def up(places: Places, tier: str) -> int:
    """Has the cluster running and says how to use it."""
    began = time.monotonic()
    ensure_packages(tier)
    programs = build_programs(places.cache, tier, os.environ)
    built = time.monotonic()
    with locked(places.lock):
        try:
            _start(places, tier, programs)
        except ClusterError:
            say(explain(Cluster(places.kubeconfig, places.logs)))
            raise
    now = time.monotonic()
    say(f"cluster ({tier}) is ready: {now - began:.1f} s, of which {built - began:.1f} s for programs")
    print(f"export KUBECONFIG={places.kubeconfig}")
    return 0


def _start(places: Places, tier: str, programs: Mapping[str, Path]) -> None:
    if tier == "api":
        start_api(_api_roster(places), places.state, programs)
    elif not is_healthy(places):
        start_whole(places, programs)


def down(places: Places, tier: str) -> int:
    """Ends the cluster; 1 where something of it remains, which is listed."""
    with locked(places.lock):
        if tier == "api":
            _api_roster(places).kill_all()
            shutil.rmtree(places.state, ignore_errors=True)
            remaining: list[str] = []
        else:
            remaining = end_whole(places)
    return _tell(remaining)


def check_clean(places: Places, tier: str) -> int:
    """Looks for what a cluster leaves; for after `down`."""
    del tier
    return _tell(traces.remaining_traces(places, traces.Before({}, [], [])))


def status(places: Places, tier: str) -> int:
    """Says which processes run; 0 where the cluster is up."""
    roster = Roster(places.state / "processes", places.logs, {"PATH": SEARCH})
    for process in roster.recorded():
        print(f"{process.name}: {f'process {process.pid}' if process.alive else 'has ended'}")
    running = is_healthy(places) if tier == "whole" else bool(roster.find("kube-apiserver"))
    print(f"cluster ({tier}): {'up' if running else 'not running'}; logs in {places.logs}")
    return 0 if running else 1


def test(more: list[str]) -> int:
    """Runs the tests that need a cluster: in the user's own, else in one that is up or brought up."""
    places = _places("whole")
    is_users = users_kubeconfig(os.environ, places) is not None
    if is_users:
        say(f"using the cluster of {find_cluster(os.environ).kubeconfig}")
    with held_turn(places.turn):
        have, tier = (build, "api") if is_users else (up, "whole")
        have(places, tier)
        build_argo(places.cache, os.environ)  # not while a test waits for it
        command = [*DIES_WITH_US, sys.executable, "-m", "pytest", "-m", "t2 or t3", *more]  # its turn ends with us
        return subprocess.run(command, cwd=ROOT, check=False).returncode


def build(places: Places, tier: str) -> int:
    """Has all programs in the cache."""
    ensure_packages(tier)
    build_programs(places.cache, tier, os.environ)
    return 0


def _api_roster(places: Places) -> Roster:
    return Roster(places.state / "processes", places.logs, {"PATH": SEARCH})


def _tell(remaining: list[str]) -> int:
    print("nothing remains of the cluster" if not remaining else "remains of the cluster:\n  " + "\n  ".join(remaining))
    return 1 if remaining else 0


VERBS: dict[str, Callable[[Places, str], int]] = {
    "up": up,
    "down": down,
    "status": status,
    "build": build,
    "check-clean": check_clean,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
