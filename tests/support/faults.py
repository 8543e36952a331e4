"""Real faults of the machine around a program: no rights, a full disk, a held lock; and the command line in a test."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from vbot_campaign import cli
from vbot_campaign.study.study import close_readers

NOBODY = 65534


@contextlib.contextmanager
def public_folder() -> Iterator[Path]:
    """Make a folder that every user can reach; those that pytest makes are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="vbot_campaign_"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def without_root() -> Iterator[None]:
    """Give up root's right to write everywhere for the block."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a small disk on a new folder; the test is skipped where that is not allowed."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(["mount", *options], capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int = 0) -> None:
    """Write a file that takes all the space of a disk but ``leave`` bytes."""
    free = shutil.disk_usage(folder).free - leave
    with contextlib.suppress(OSError), (folder / "filler").open("wb") as file:
        file.write(b"x" * max(0, free))


@contextlib.contextmanager
def write_lock(database: Path) -> Iterator[None]:
    """Hold the one write lock of a database for the block, as a second program would."""
    with contextlib.closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextlib.contextmanager
def write_lock_for(database: Path, seconds: float) -> Iterator[threading.Event]:
    """Hold the write lock for some seconds, beside the block, from the moment that its event is set."""
    begin = threading.Event()

    def hold() -> None:
        begin.wait(240)
        with write_lock(database):
            threading.Event().wait(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield begin
    finally:
        begin.set()
        thread.join()


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    output: str
    error: str


def command(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> Answer:
    """Run the command line in this process; databases that it keeps open are closed afterwards."""
    capfd.readouterr()
    before, sys.argv = sys.argv, ["vbot-campaign", *map(str, arguments)]
    try:
        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before
        close_readers()
    return Answer(code, *capfd.readouterr())


def refused(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that must be refused with exit code 2, and return its one line."""
    answer = command(capfd, *arguments)
    assert answer.code == 2, answer
    assert answer.output == ""
    assert answer.error.startswith("error: ")
    assert len(answer.error.splitlines()) == 1, answer.error
    assert "Traceback" not in answer.error
    return answer.error
