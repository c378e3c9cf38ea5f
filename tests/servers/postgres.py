"""A PostgreSQL on loopback: made in a folder, ended with the test. Its data are thrown away, so it waits for no disk.

The programs are Debian's. They refuse to run as root; there they run as Debian's user `postgres`, who may enter the
folder whoever's it is.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.canary import CANARY
from tests.cluster.errors import ClusterError
from tests.cluster.packages import POSTGRES, SEARCH
from tests.cluster.process import Roster, wait_for
from tests.servers.ports import HOST, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

USER: Final = "prefect"
PASSWORD: Final = f"postgres-{CANARY}"
OWNER: Final = "postgres"
"""Whom Debian's packages make for the server."""

READY_SECONDS: Final = 30.0
TRIES: Final = 3

_AS_OWNER = ("setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups")
_MAY_ENTER = ("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override")
_DIES_WITH_TEST = ("setpriv", "--pdeathsig", "INT", "--")
"""SIGINT is the server's fast shutdown, which leaves no shared memory behind."""

_SETTINGS: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "mmap",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "200",
}


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    port: int
    programs: Path
    user: str = USER
    password: str = field(default=PASSWORD, repr=False)

    @property
    def url(self) -> str:
        """The address of its first database."""
        return self.url_of(OWNER)

    def url_of(self, database: str) -> str:
        """The address of a database."""
        return f"postgresql://{self.user}:{self.password}@{HOST}:{self.port}/{database}"

    def create(self, database: str) -> None:
        """Makes an empty database."""
        self._run("createdb", database)

    def dump(self, database: str, file: Path) -> None:
        """Writes all that a database holds into a file, as SQL."""
        self._run("pg_dump", "--no-owner", f"--file={file}", f"--dbname={database}")

    def restore(self, database: str, file: Path) -> None:
        """Puts what another database held into an empty one."""
        self._psql(database, "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction", f"--file={file}")

    def query(self, database: str, sql: str) -> list[str]:
        """Returns the lines that `psql` shows, values parted by `|`."""
        return self._psql(database, "--tuples-only", "--no-align", f"--command={sql}")

    def is_ready(self) -> bool:
        """Whether it takes connections."""
        asked = [str(self.programs / "pg_isready"), "--quiet", f"--host={HOST}", f"--port={self.port}"]
        return subprocess.run(asked, check=False).returncode == 0

    def _psql(self, database: str, *arguments: str) -> list[str]:
        return self._run("psql", "--no-psqlrc", f"--dbname={database}", *arguments)

    def _run(self, program: str, *arguments: str) -> list[str]:
        environ = {
            "PATH": SEARCH,
            "LC_ALL": "C.UTF-8",
            "PGHOST": HOST,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
        }
        return _check([str(self.programs / program), *arguments], environ).splitlines()


def find_postgres() -> Path | None:
    """Returns the folder of the newest server's programs, None where there is none."""
    found = sorted(Path("/").glob(POSTGRES.lstrip("/")), key=lambda program: float(program.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def start_postgres(folder: Path) -> Iterator[Postgres]:
    """Runs a server with its data and its log in `folder` while the block runs, however this process ends.

    Raises:
        ClusterError: PostgreSQL is not installed, or does not start.
    """
    programs = find_postgres()
    if programs is None:
        raise ClusterError("PostgreSQL is missing: run `make install` as root, or install Debian's package postgresql")
    data = _make_data(folder, programs)
    roster = Roster(folder / "processes", folder / "logs", {"PATH": SEARCH, "LC_ALL": "C.UTF-8"})
    try:
        yield _start(roster, programs, data)
    finally:
        for process in roster.recorded():
            process.end(signal.SIGINT)
        shutil.rmtree(data)


def _make_data(folder: Path, programs: Path) -> Path:
    """Makes the files of a server, whose only user has a password."""
    data, password = folder / "data", folder / "password"
    data.mkdir(parents=True)
    if os.geteuid() == 0:
        shutil.chown(data, OWNER, OWNER)
    password.touch(mode=0o600)
    password.write_text(PASSWORD)
    command = [str(programs / "initdb"), f"--pgdata={data}", f"--username={USER}", f"--pwfile={password}"]
    command += ["--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--wal-segsize=1"]
    try:
        _check([*_unprivileged(), *command], {"PATH": SEARCH, "LC_ALL": "C.UTF-8"})
    finally:
        password.unlink()
    return data


def _start(roster: Roster, programs: Path, data: Path) -> Postgres:
    """Starts the server; tries another port where one was taken between being found free and being bound."""
    for tries_left in reversed(range(TRIES)):
        server = Postgres(*free_ports(1), programs)
        try:
            _start_at(server, roster, data)
        except ClusterError:
            roster.kill_all()
            if not tries_left:
                raise
        else:
            break
    return server


def _start_at(server: Postgres, roster: Roster, data: Path) -> None:
    settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
    command = [str(server.programs / "postgres"), "-D", str(data), "-p", str(server.port), *settings]
    process = roster.ensure("postgres", [*_unprivileged(), *_DIES_WITH_TEST, *command])

    def is_ready() -> bool:
        roster.must_run(process)
        return server.is_ready()

    wait_for(is_ready, READY_SECONDS, f"PostgreSQL is not ready in {READY_SECONDS:.0f} s: see {roster.logs}")


def _unprivileged() -> Sequence[str]:
    """What a program is started through that refuses to run as root."""
    return (*_AS_OWNER, *_MAY_ENTER, "--") if os.geteuid() == 0 else ()


def _check(command: list[str], environ: dict[str, str]) -> str:
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"{Path(command[0]).name} failed: {done.stderr.strip()}")
    return done.stdout
