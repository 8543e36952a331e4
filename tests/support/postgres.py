"""A real PostgreSQL server of our own: on the loopback alone, without fsync, gone after the tests."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

OWNER = "ada"
LOCKED = "locked"
"""A user that needs a password; all others are trusted."""
START_TIMEOUT_S = 240
_HBA = f"""
local all all trust
host all {LOCKED} 0.0.0.0/0 scram-sha-256
host all all 0.0.0.0/0 trust
"""
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
    "lc_messages": "C",
    "log_min_messages": "panic",
}
_numbers = itertools.count()


def programs() -> Path | None:
    """Return the folder of the server's programs, or None where there is none. Debian keeps them off the PATH."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    return next((folder for folder in reversed(found) if (folder / "postgres").exists()), None)


class PostgresServer:
    """A server that runs; its databases are made by `database`.

    Args:
        bin_folder: Its programs.
        folder: Its data; a folder of its own.
        address: Where it listens; ``*`` for everywhere.
    """

    def __init__(self, bin_folder: Path, folder: Path, address: str = "127.0.0.1") -> None:
        self._bin = bin_folder
        self._folder = folder
        self._address = address
        self._user = _unprivileged()
        self._process: subprocess.Popen[bytes] | None = None
        if self._user:
            shutil.chown(folder, self._user["user"], self._user["group"])
        make = [bin_folder / "initdb", "-D", self._data, "-U", OWNER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        done = subprocess.run(make, capture_output=True, text=True, cwd=folder, **self._user)
        assert done.returncode == 0, done.stderr
        (self._data / "pg_hba.conf").write_text(_HBA)
        # Not before: making the data takes seconds, in which somebody else may take the port.
        self.port = _free_port("" if address == "*" else address)
        self.start()
        self.execute("postgres", f"CREATE ROLE {LOCKED} LOGIN SUPERUSER")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        listen = [f"-p{self.port}", f"-clisten_addresses={self._address}", f"-cunix_socket_directories={self._folder}"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *listen, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder, start_new_session=True,
                **self._user,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url("postgres", driver=""), connect_timeout=5).close()
                return
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT cuts the connections, SIGQUIT it does without a word."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(START_TIMEOUT_S)
            self._process = None

    def url(self, database: str, *, driver: str = "+psycopg", user: str = OWNER, host: str = "127.0.0.1") -> str:
        """Return the address of one of its databases."""
        return f"postgresql{driver}://{user}@{host}:{self.port}/{database}"

    def url_with_password(self, database: str, password: str) -> str:
        """Give the locked user a password and return the address of one of its databases with it."""
        self.execute("postgres", f"ALTER ROLE {LOCKED} PASSWORD '{password}'")
        return self.url(database, user=f"{LOCKED}:{quote(password)}")

    def execute(self, database: str, statement: str) -> list[Any]:
        """Run one statement by itself and return its rows."""
        with psycopg.connect(self.url(database, driver=""), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database for the block; yield its address."""
        name = f"test_{next(_numbers)}"
        self.execute("postgres", f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.execute("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextlib.contextmanager
def running_server(address: str = "127.0.0.1") -> Iterator[PostgresServer]:
    """Run a server for the block; the test is skipped where its programs are missing."""
    bin_folder = programs()
    if bin_folder is None:
        pytest.skip("no PostgreSQL server is installed here (Debian: apt-get install postgresql)")
    # Not under pytest's folders, which are closed to the user that the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="vbot_campaign_pg_"))
    try:
        server = PostgresServer(bin_folder, folder, address)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> dict[str, Any]:
    """Return how to start a program as somebody else: the server refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    name = "postgres" if "postgres" in names else "nobody"
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
