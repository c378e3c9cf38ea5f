"""The Prefect server of the tests: it asks for its password, keeps what it knows, and ends with its test."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
from typing import TYPE_CHECKING

import pytest
from prefect.client.constants import SERVER_API_VERSION

from tests.canary import CANARY
from tests.cluster.errors import ClusterError
from tests.cluster.process import start_of, wait_for
from tests.servers.postgres import Postgres, start_postgres
from tests.servers.prefect import Request, start_prefect_with_sqlite
from tests.support import ROOT, needs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.prefect import PrefectServer

pytestmark = pytest.mark.t1

STARTS_AND_SLEEPS = """
import sys, time
from pathlib import Path
from tests.servers.prefect import start_prefect

with start_prefect(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(100)
"""


def status_of(server: PrefectServer, path: str, authorization: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.ask("GET", path, authorization=authorization)
    caught.value.close()
    return caught.value.code


def ends_in_peace(server: PrefectServer) -> int:
    """How often it has ended by itself so far, instead of being killed."""
    return server.log.read_text().count("Finished server process")


def test_server_asks_for_its_auth_string_everywhere_but_for_its_health(prefect_server: PrefectServer) -> None:
    before = len(prefect_server.requests)
    assert prefect_server.ask("GET", "/health", authorization="") is True
    assert status_of(prefect_server, "/version", "") == 401
    assert status_of(prefect_server, "/version", "Basic ZGF0YWN1YmU6d3Jvbmc=") == 401
    assert prefect_server.ask("GET", "/version") == SERVER_API_VERSION
    asked = [request for request in prefect_server.requests[before:] if request.path == "/api/version"]
    assert asked == [Request("GET", "/api/version", status) for status in (401, 401, 200)]


def test_server_tells_nobody_of_itself_and_is_asked_where_its_pages_come_from(prefect_server: PrefectServer) -> None:
    settings = prefect_server.ask("GET", "/admin/settings")
    assert settings["server"]["analytics_enabled"] is False
    assert settings["server"]["ui"]["api_url"] == "/api"


def test_server_knows_what_it_knew_when_it_is_killed_or_stopped_and_started_again(
    prefect_server: PrefectServer,
) -> None:
    url, flow = prefect_server.url, prefect_server.ask("POST", "/flows/", {"name": "kept"})
    before = ends_in_peace(prefect_server)
    prefect_server.kill()
    assert not prefect_server.is_healthy()
    assert ends_in_peace(prefect_server) == before
    prefect_server.start()
    prefect_server.stop()
    assert not prefect_server.is_healthy()
    assert ends_in_peace(prefect_server) == before + 1
    prefect_server.start()
    assert prefect_server.ask("GET", "/flows/name/kept")["id"] == flow["id"]
    assert prefect_server.url == url


@pytest.fixture(scope="module")
def server_with_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with start_prefect_with_sqlite(tmp_path_factory.mktemp("sqlite") / "server") as made:
        yield made


def test_server_with_sqlite_begins_empty_and_knows_what_it_knew(server_with_sqlite: PrefectServer) -> None:
    assert server_with_sqlite.ask("POST", "/flows/count", {}) == 0
    server_with_sqlite.ask("POST", "/flows/", {"name": "kept"})
    server_with_sqlite.kill()
    server_with_sqlite.start()
    assert server_with_sqlite.ask("POST", "/flows/count", {}) == 1


def test_secret_that_a_server_is_told_is_found_and_its_own_are_not(
    prefect_server: PrefectServer, server_with_sqlite: PrefectServer
) -> None:
    assert prefect_server.leaks() == server_with_sqlite.leaks() == []
    server_with_sqlite.ask("POST", "/flows/", {"name": f"flow-{CANARY}"})
    assert server_with_sqlite.leaks() == [server_with_sqlite.folder / "content"]


def test_server_and_its_database_end_when_the_test_is_killed(tmp_path: Path) -> None:
    needs("postgresql")
    command = [sys.executable, "-c", STARTS_AND_SLEEPS, str(tmp_path / "server")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as test:
        assert test.stdout is not None
        assert test.stdout.readline() == "ready\n"
        found = [json.loads(file.read_text()) for file in (tmp_path / "server").rglob("processes/*.json")]
        assert {process["name"] for process in found} == {"postgres", "prefect"}
        test.send_signal(signal.SIGKILL)
    wait_for(lambda: not any(start_of(p["pid"]) == p["started"] for p in found), 10, "the servers go on")


def test_postgres_refuses_a_wrong_password_and_leaves_nothing(tmp_path: Path) -> None:
    needs("postgresql")
    with start_postgres(tmp_path / "postgres") as postgres:
        assert postgres.query("postgres", "select current_user, 1") == ["prefect|1"]
        stranger = Postgres(postgres.port, postgres.programs, password="wrong")
        with pytest.raises(ClusterError, match="password authentication failed"):
            stranger.query("postgres", "select 1")
    assert [file.name for file in (tmp_path / "postgres").iterdir()] != []
    assert not (tmp_path / "postgres/data").exists()
