"""A Prefect server on loopback, as `python -m prefect server start` runs it, with PostgreSQL or SQLite.

It can be ended, killed and started again at its address; it dies with the thread that starts it, so start it from the
main one. The first start of a version migrates an empty database, which takes longer than all else; what that leaves is
kept in the cache, and later servers begin with it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Protocol

from datacube_operator.install_prefect import SERVER, server_folders

from tests.canary import CANARY, find_canary
from tests.cluster.api import DIES_WITH_TEST
from tests.cluster.binaries import locked
from tests.cluster.places import places_from
from tests.cluster.process import Roster, wait_for
from tests.servers.ports import HOST, lasting_port
from tests.servers.postgres import start_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.servers.postgres import Postgres

AUTH: Final = f"datacube:{CANARY}-prefect"
READY_SECONDS: Final = 90.0
CLIENT: Final = "7f9d5f0c-tests"
NAME: Final = "prefect"
BUSY_TRIES: Final = 20
"""SQLite is written by one at a time; who comes meanwhile is told to come again."""

_REQUEST = re.compile(r'"([A-Z]+) (\S+) HTTP/1\.1" (\d{3})')
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Database(Protocol):
    """Where a server keeps what it knows."""

    @property
    def url(self) -> str:
        """As the server is told of it."""

    @property
    def kind(self) -> str:
        """Names those whose contents can be exchanged."""

    def begin_with(self, template: Path) -> None:
        """Fills it, which is empty, with what `keep` wrote."""

    def keep(self, template: Path) -> None:
        """Writes all that it holds into a file."""


@dataclass(frozen=True)
class Request:
    """A request that the server has answered."""

    method: str
    path: str
    status: int


@dataclass
class PrefectServer:
    """A server, which runs unless it was stopped or killed."""

    folder: Path
    database: Database
    settings: Mapping[str, str] = field(default_factory=dict)
    auth: str = field(default=AUTH, repr=False)
    port: int = field(default_factory=lasting_port)

    @property
    def ui_url(self) -> str:
        """Where its pages are."""
        return f"http://{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """Where its API is: `PREFECT_API_URL`."""
        return f"{self.ui_url}/api"

    @property
    def log(self) -> Path:
        """What it says, all starts in one file."""
        return self._roster.logs / f"{NAME}.log"

    @property
    def client_environment(self) -> dict[str, str]:
        """What a client of it is started with."""
        return {"PREFECT_API_URL": self.url, "PREFECT_API_AUTH_STRING": self.auth, "DO_NOT_TRACK": "1"}

    @property
    def authorization(self) -> str:
        """The header that every request but those for its health has to carry."""
        return f"Basic {base64.b64encode(self.auth.encode()).decode()}"

    @property
    def requests(self) -> list[Request]:
        """All that it has answered so far, in order, but for the questions whether it is ready."""
        found = (Request(m, p, int(s)) for m, p, s in _REQUEST.findall(self.log.read_text(errors="replace")))
        return [request for request in found if request.path != "/api/health"]

    def ask(self, method: str, path: str, body: Any = None, authorization: str | None = None) -> Any:
        """Returns what its API answers, which is JSON; raises `HTTPError` where it refuses."""
        request = urllib.request.Request(f"{self.url}{path}", method=method)  # noqa: S310 - a server of our own
        request.add_header("Authorization", self.authorization if authorization is None else authorization)
        if method != "GET":
            known = self.ask("GET", f"/csrf-token?client={CLIENT}", authorization=authorization)
            request.add_header("Prefect-Csrf-Client", CLIENT)
            request.add_header("Prefect-Csrf-Token", known["token"])
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        for _ in range(BUSY_TRIES):
            try:
                return _answer(request)
            except urllib.error.HTTPError as error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
                error.close()
                time.sleep(0.2)
        return _answer(request)

    def start(self) -> None:
        """Has it running and ready, with what it knew before."""
        self.begin()
        self.until_ready()

    def begin(self) -> None:
        """Has it running; it ends with the thread that calls this."""
        command = [sys.executable, "-P", "-m", "prefect", "server", "start", f"--host={HOST}", f"--port={self.port}"]
        self._roster.ensure(NAME, [*DIES_WITH_TEST, *command])

    def until_ready(self) -> None:
        """Returns once it answers."""
        (process,) = self._roster.recorded()

        def is_ready() -> bool:
            self._roster.must_run(process)
            return self.is_healthy()

        wait_for(is_ready, READY_SECONDS, f"Prefect is not ready in {READY_SECONDS:.0f} s: see {self.log}")

    def stop(self) -> None:
        """Ends it in peace."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it in the middle of whatever it does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Has it answer nothing, with all connections open, until `thaw`."""
        self._tell(signal.SIGSTOP)

    def thaw(self) -> None:
        """Has it go on."""
        self._tell(signal.SIGCONT)

    def _tell(self, number: signal.Signals) -> None:
        for process in self._roster.recorded():
            os.kill(process.pid, number)

    def is_healthy(self) -> bool:
        """Whether it answers."""
        try:
            with _OPENER.open(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def leaks(self) -> list[Path]:
        """Files of it that hold a planted secret; all that its database holds is looked through as well."""
        content = self.folder / "content"
        content.unlink(missing_ok=True)
        self.database.keep(content)
        return find_canary(content, *(self.folder / place for place in ("prefect", "logs", "postgres/logs")))

    def _end(self, how: signal.Signals) -> None:
        for process in self._roster.recorded():
            process.end(how)

    @property
    def _roster(self) -> Roster:
        return Roster(self.folder / "processes", self.folder / "logs", self._environment)

    @property
    def _environment(self) -> dict[str, str]:
        """As it is installed, and with a line in its log for each request."""
        return {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "PREFECT_API_DATABASE_CONNECTION_URL": self.database.url,
            "PREFECT_SERVER_API_AUTH_STRING": self.auth,
            "PREFECT_SERVER_LOGGING_LEVEL": "INFO",
            **SERVER,
            **server_folders(str(self.folder)),
            **self.settings,
        }


def _answer(request: urllib.request.Request) -> Any:
    with _OPENER.open(request, timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None


@contextmanager
def start_prefect(folder: Path, **settings: str) -> Iterator[PrefectServer]:
    """Runs a server with a PostgreSQL of its own, in `folder`; `settings` are further variables of it.

    Raises:
        ClusterError: PostgreSQL is not installed, or one of the two does not start.
    """
    with start_postgres(folder / "postgres") as postgres:
        postgres.create(NAME)
        with _started(folder, _PostgresDatabase(postgres), settings) as server:
            yield server


@contextmanager
def start_prefect_with_sqlite(folder: Path, **settings: str) -> Iterator[PrefectServer]:
    """Runs a server that keeps all in a file, as one without PostgreSQL does."""
    with _started(folder, _SqliteDatabase(folder / "prefect.db"), settings) as server:
        yield server


@contextmanager
def _started(folder: Path, database: Database, settings: Mapping[str, str]) -> Iterator[PrefectServer]:
    folder.mkdir(parents=True, exist_ok=True)
    server = PrefectServer(folder, database, settings)
    template = places_from(os.environ).cache / f"prefect-{version('prefect')}.{database.kind}"
    try:
        with locked(template.with_name(f".{template.name}.lock")):
            _begin(server, template)
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder / "pages", ignore_errors=True)


def _begin(server: PrefectServer, template: Path) -> None:
    """Gives a server the database of an earlier one of its version; has the first one write it down."""
    if template.exists():
        server.database.begin_with(template)
        return
    server.start()
    part = template.with_name(f"{template.name}.part")
    part.unlink(missing_ok=True)
    server.database.keep(part)
    part.rename(template)


@dataclass(frozen=True)
class _PostgresDatabase:
    server: Postgres

    @property
    def kind(self) -> str:
        return f"postgres-{self.server.programs.parts[-2]}.sql"

    @property
    def url(self) -> str:
        return self.server.url_of(NAME).replace("postgresql://", "postgresql+asyncpg://")

    def begin_with(self, template: Path) -> None:
        self.server.restore(NAME, template)

    def keep(self, template: Path) -> None:
        self.server.dump(NAME, template)


@dataclass(frozen=True)
class _SqliteDatabase:
    file: Path
    kind: str = "sqlite"

    @property
    def url(self) -> str:
        return f"sqlite+aiosqlite:///{self.file}"

    def begin_with(self, template: Path) -> None:
        shutil.copyfile(template, self.file)

    def keep(self, template: Path) -> None:
        """Takes what stands in the write-ahead log too, which a copy of the file would lack."""
        with closing(sqlite3.connect(self.file)) as source, closing(sqlite3.connect(template)) as target:
            source.backup(target)
