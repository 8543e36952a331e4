"""The processes of one toy study, started by the public commands and found by the folder they work in."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from vbot_campaign.chaos import toy_study
from vbot_campaign.chaos.progress import StudyProgress
from vbot_campaign.paths import RUNS_VARIABLE, CampaignPaths
from vbot_campaign.spec.settings import FILE, STORAGE_VARIABLE

COMMAND = (sys.executable, "-m", "vbot_campaign.cli")
WORKER_MODULE = "vbot_campaign.worker"
GONE_S = 30.0
"""Time for a killed process to be gone; one that waits for a disk takes a while."""


class ToyCampaign:
    """A folder with a toy study and its runs, and the command line on it.

    Args:
        folder: Made if missing; nothing else may work in it.
        trials: How many the study has.
    """

    def __init__(self, folder: Path, trials: int = toy_study.TRIALS) -> None:
        self.folder = folder
        self.trials = trials
        self.runs = CampaignPaths(folder / "runs")
        self.paths = self.runs.study(toy_study.NAME)
        self.progress = StudyProgress(self.paths, toy_study.ITERATION)
        self.commands = 0
        """How often `run` or `resume` was called."""
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._worker: psutil.Process | None = None

    def run(self) -> None:
        """Start the study from its file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # The audit of the reward at the start is another process, and says nothing about faults.
        self._start("run", "--no-audit", str(toy_study.write_toy_study(self.folder, self.trials)))

    def resume(self) -> None:
        """Continue it by name, as a person would."""
        self._start("resume", toy_study.NAME)

    def _start(self, *arguments: str) -> None:
        self.commands += 1
        with self.output.open("ab") as output:
            self._supervisor = subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        # Exactly the same lines are promised on the CPU only.
        hidden = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "COLUMNS": "80"}
        return {**os.environ, **hidden, RUNS_VARIABLE: str(self.runs.root), STORAGE_VARIABLE: FILE}

    @property
    def output(self) -> Path:
        """Everything that the commands printed."""
        return self.folder / "output.txt"

    def last_words(self) -> str:
        """Return the last line that a command printed."""
        lines = self.output.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "")

    @property
    def exit_code(self) -> int | None:
        """Of the last command, None while it runs."""
        return None if self._supervisor is None else self._supervisor.poll()

    @property
    def supervisor(self) -> psutil.Process | None:
        """The live supervisor."""
        if self._supervisor is None or self._supervisor.poll() is not None:
            return None
        return psutil.Process(self._supervisor.pid)

    @property
    def worker(self) -> psutil.Process | None:
        """The live worker, whoever its parent is by now."""
        if self._worker is None or is_gone(self._worker):
            self._worker = next((found for found in self.processes() if WORKER_MODULE in _cmdline(found)), None)
        return self._worker

    def processes(self) -> list[psutil.Process]:
        """Return every live process that works in the folder: it is named in its command line or is where it runs."""
        here = str(self.folder)
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(here in argument for argument in process.cmdline()) or process.cwd() == here:
                    found.append(process)
        return [process for process in found if process.pid != os.getpid() and not is_gone(process)]

    def kill_all(self) -> None:
        """Kill every process in one instant, as a power cut would."""
        # Suspended first, the supervisor starts no worker between the look and the kill.
        supervisor = self.supervisor
        if supervisor is not None:
            supervisor.suspend()
        self.kill(*self.processes())

    def kill(self, *victims: psutil.Process) -> None:
        """Send SIGKILL to processes in the order given, and wait until they are gone."""
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        deadline = time.monotonic() + GONE_S
        while not all(is_gone(victim) for victim in victims) and time.monotonic() < deadline:
            time.sleep(0.01)
        if self._supervisor is not None and any(victim.pid == self._supervisor.pid for victim in victims):
            self._supervisor.wait(GONE_S)


def is_gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended. Where nobody reaps orphans it stays behind as a zombie, which is gone too."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _cmdline(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []
