"""What a supervisor sees of a worker, and the workers of this machine: start one or find it again, signal its group."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from vbot_campaign.errors import StudyError
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.trainer import PYTHON
from vbot_campaign.spec.training import CommandTrainer
from vbot_campaign.study.owner import Owner, process_alive, process_started
from vbot_campaign.supervisor.memory import OomKills

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


@dataclass(frozen=True)
class Exit:
    """That a process has ended."""

    code: int | None
    """Exit code, negative for a signal; None when it was no child of this process."""
    words: str | None = None
    """How it ended, where that is known and the code does not say it."""


class Process(ABC):
    """The worker of an attempt, on whatever machine: what a supervisor sees of it and can do to it."""

    @property
    @abstractmethod
    def owner(self) -> Owner | None:
        """Which process it is; None before that is known, because it waits for a place to run."""

    @property
    @abstractmethod
    def words(self) -> str:
        """What a person calls it."""

    @property
    @abstractmethod
    def is_seen(self) -> bool:
        """Whether it runs and its files can be read: only then does its silence say anything of it."""

    @abstractmethod
    def poll(self) -> Exit | None:
        """Return how it ended, or None while it runs. What it had started is killed with it.

        What it wrote lies in the trial's folder here: all of it, once its end is returned.
        """

    @abstractmethod
    def terminate(self) -> None:
        """Ask the whole group to stop."""

    @abstractmethod
    def kill(self) -> None:
        """Kill the whole group, a frozen one too."""

    @abstractmethod
    def dump_stacks(self) -> bool:
        """Ask the worker to print the stacks of its threads; False when it would not understand."""

    @abstractmethod
    def memory_mb(self) -> float | None:
        """Return its resident memory in MB."""

    @abstractmethod
    def oom_killed(self) -> bool:
        """Tell whether the kernel where it runs has killed a process for its memory since it was taken up."""

    def wait(self, timeout_s: float) -> Exit | None:
        """Wait for the end; None when it still runs after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while (end := self.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return end


class LocalProcess(Process):
    """A worker of this machine that leads its own process group, so that a signal reaches all it has started."""

    def __init__(self, pid: int, started: float) -> None:
        self.pid = pid
        self.started = started
        """`process_started` of it."""
        self._oom_kills = OomKills(pid)

    @property
    def owner(self) -> Owner:
        """See `Process.owner`."""
        return Owner(Owner.here().host, self.pid, self.started)

    @property
    def words(self) -> str:
        """See `Process.words`."""
        return f"pid {self.pid}"

    @property
    def is_seen(self) -> bool:
        """See `Process.is_seen`."""
        return True

    @abstractmethod
    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the group, unless the process has ended: its number may be another's by now."""

    def terminate(self) -> None:
        """See `Process.terminate`."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """See `Process.kill`."""
        self._signal(signal.SIGKILL)

    def dump_stacks(self) -> bool:
        """See `Process.dump_stacks`."""
        if not self.catches("SIGUSR1"):
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGUSR1)
        return True

    def catches(self, name: str) -> bool:
        """Tell whether it has a handler for a signal."""
        return _catches(self.pid, name)

    def memory_mb(self) -> float | None:
        """See `Process.memory_mb`."""
        try:
            return round(float(psutil.Process(self.pid).memory_info().rss) / 1e6, 1)
        except psutil.Error:
            return None

    def oom_killed(self) -> bool:
        """See `Process.oom_killed`."""
        return self._oom_kills.has_risen()


class WorkerProcess(LocalProcess):
    """A worker that this process has started, in a session of its own: a Ctrl-C in the terminal does not reach it."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        """Use `spawn` instead."""
        super().__init__(popen.pid, _create_time(popen.pid))
        self._popen = popen

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
                    [*command, _last_argument(folder)],
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

    def poll(self) -> Exit | None:
        """See `Process.poll`."""
        if self._popen.returncode is None and _has_exited(self.pid):
            # Until it is reaped its number, and so the group's, cannot be reused.
            signal_group(self.pid, signal.SIGKILL)
        code = self._popen.poll()
        return None if code is None else Exit(code)

    def _signal(self, number: signal.Signals) -> None:
        if self._popen.returncode is None:
            signal_group(self.pid, number)


class AdoptedProcess(LocalProcess):
    """A worker that an earlier supervisor has started. It is no child of this process, which never learns its code."""

    @classmethod
    def find(cls, folder: TrialPaths) -> AdoptedProcess | None:
        """Return the worker that a supervisor has started on a folder, by its command line and its session.

        For the moment between the start of a process and the record of its number, in which its supervisor can die.
        """
        wanted = _last_argument(folder)
        for process in psutil.process_iter(["cmdline", "status"]):
            ours = (process.info["cmdline"] or [""])[-1] == wanted and _leads_session(process.pid)
            if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
                with contextlib.suppress(psutil.NoSuchProcess):
                    return cls(process.pid, process_started(process.pid))
        return None

    def poll(self) -> Exit | None:
        """See `Process.poll`."""
        if process_alive(self.pid, self.started):
            return None
        if not psutil.pid_exists(self.pid) or _create_time(self.pid) == self.started:
            # The number is free or still its own (nobody has reaped it), so what is left of the group is the worker's.
            signal_group(self.pid, signal.SIGKILL)
        return Exit(None)

    def _signal(self, number: signal.Signals) -> None:
        if process_alive(self.pid, self.started):
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


def _last_argument(folder: TrialPaths) -> str:
    return str(folder.root.absolute())


def _leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except (ProcessLookupError, PermissionError):
        return False


def _catches(pid: int, name: str) -> bool:
    # A signal without a handler would end the process, and a worker may be any program.
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    mask = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(mask, 16) >> (signal.Signals[name] - 1) & 1)


def _create_time(pid: int) -> float:
    try:
        return process_started(pid)
    except psutil.NoSuchProcess:
        return 0.0  # gone already: no process that lives started then


def _has_exited(pid: int) -> bool:
    if not hasattr(os, "waitid"):
        return False
    with contextlib.suppress(ChildProcessError):
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return False
