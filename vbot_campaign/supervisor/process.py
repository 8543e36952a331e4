"""One worker process: start it, signal its whole group, see it end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from vbot_campaign.errors import StudyError
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.trainer import PYTHON
from vbot_campaign.spec.training import CommandTrainer

WORKER_COMMAND = (sys.executable, "-m", "vbot_campaign.worker")


def command_of(trainer: str | CommandTrainer) -> tuple[tuple[str, ...], Path | None]:
    """Return the command of a worker, without the trial's folder, and the folder it runs in (None: this one).

    A program that is named by a path of its own starts at that folder too, which not every system does by itself.
    """
    if isinstance(trainer, str):
        return WORKER_COMMAND, None
    program, *arguments = trainer.command
    if program in PYTHON:
        program = sys.executable
    elif trainer.folder is not None and Path(program).name != program:
        program = str(trainer.folder / program)
    return (program, *arguments), trainer.folder


class WorkerProcess:
    """A worker in its own session and process group, so that a Ctrl-C in the terminal reaches the supervisor only."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        """Use `spawn` instead."""
        self._popen = popen
        self.pid = popen.pid
        self.started = _create_time(popen.pid)
        """Start time in seconds since the epoch."""

    @classmethod
    def spawn(
        cls, folder: TrialPaths, environ: Mapping[str, str], command: Sequence[str], cwd: Path | None = None
    ) -> WorkerProcess:
        """Start a worker on a trial folder; everything it prints is appended to ``worker.log``.

        Args:
            folder: The folder, with its ``trial.json``.
            environ: Its whole environment.
            command: Program and arguments, without the folder.
            cwd: Where it runs, if not here.

        Raises:
            StudyError: The program cannot be started.
        """
        with folder.log.open("ab") as log:
            try:
                popen = subprocess.Popen(
                    [*command, str(folder.root.absolute())],
                    cwd=cwd,
                    env=dict(environ),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise StudyError(f"cannot start the worker {command[0]}: {error.strerror}.") from error
        return cls(popen)

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        if self._popen.returncode is None and _has_exited(self.pid):
            # Whatever it started goes with it. Until it is reaped its number, and so the group's, cannot be reused.
            signal_group(self.pid, signal.SIGKILL)
        return self._popen.poll()

    def terminate(self) -> None:
        """Ask the whole group to stop."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the whole group."""
        self._signal(signal.SIGKILL)

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the end; None when it still runs after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while (code := self.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return code

    def _signal(self, number: signal.Signals) -> None:
        if self._popen.returncode is None:
            signal_group(self.pid, number)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process group; one that is gone is none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def exit_words(code: int | None, log: Path) -> str:
    """Say how a process ended, with the last line it printed.

    Args:
        code: Exit code, negative for a signal, None when nobody saw it end.
        log: What it printed.
    """
    if code is None:
        return "ended unseen"
    if code < 0:
        return f"killed by {_signal_name(-code)}"
    last = _last_line(log)
    return f"exit code {code} without a result" + (f": {last}" if last else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def _create_time(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return time.time()


def _has_exited(pid: int) -> bool:
    if not hasattr(os, "waitid"):
        return False
    with contextlib.suppress(ChildProcessError):
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return False
