"""What runs on the node: has the trial's folder, starts the worker on it, and hands out what that writes."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import vbot_campaign
from vbot_campaign import fs
from vbot_campaign.errors import StudyError
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.training import ThreadSettings
from vbot_campaign.study.owner import Owner
from vbot_campaign.supervisor.process import WorkerProcess
from vbot_campaign.supervisor.raycluster.pieces import Batch, Held, Piece, Reader, Writer
from vbot_campaign.supervisor.slots import Slot, worker_environment

WARM_START = "warm_start.pt"
"""Name of the policy that a trial starts from; it lies beside the folder, not in it."""
_BOUND = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() == int(sys.argv[1]):
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"cannot start the worker {sys.argv[2]}: {error.strerror}.")
"""
"""Program that ends with its parent and becomes another program, which keeps to that."""


@dataclass(frozen=True)
class Launch:
    """How to start a worker, whatever node that is on."""

    folder: str
    """Name of the trial's folder."""
    command: tuple[str, ...]
    """Program and arguments, without the folder; an empty program is the node's Python."""
    worker_folder: str | None
    """Where it runs on the node, if not in the trial's folder."""
    slot: Slot
    threads: ThreadSettings
    version: str = vbot_campaign.__version__


@dataclass(frozen=True)
class Status:
    """How a worker is."""

    owner: Owner | None = None
    """None before it was started."""
    has_ended: bool = False
    code: int | None = None
    memory_mb: float | None = None
    oom_killed: bool = False
    prints_stacks: bool = False


class Attendant:
    """Has one attempt. None of its methods waits for anything.

    Args:
        launch: How to start the worker, once the files are there.

    Raises:
        StudyError: This node has another version of the program.
    """

    def __init__(self, launch: Launch) -> None:
        if launch.version != vbot_campaign.__version__:
            raise StudyError(
                f"vbot-campaign {vbot_campaign.__version__} is installed on this node, the supervisor has "
                f"{launch.version}; install the same on both."
            )
        self._launch = launch
        self._base = Path(tempfile.mkdtemp(prefix="vbot-campaign-"))
        self._folder = TrialPaths(self._base / "trial" / launch.folder)
        self._folder.root.mkdir(parents=True)
        self._writers = {name: Writer(root) for name, root in (("", self._folder.root), (WARM_START, self._base))}
        self._reader = Reader(self._folder)
        self._worker: WorkerProcess | None = None

    def status(self) -> Status:
        """Return how the worker is."""
        worker = self._worker
        if worker is None:
            return Status()
        end = worker.poll()
        if end is not None:
            return Status(worker.owner, True, end.code, oom_killed=worker.oom_killed())
        return Status(worker.owner, memory_mb=worker.memory_mb(), prints_stacks=worker.catches("SIGUSR1"))

    def put(self, pieces: Sequence[Piece]) -> None:
        """Write pieces of files into the folder.

        Raises:
            CheckpointCorruptError: A file is not what was sent.
        """
        for piece in pieces:
            self._writers.get(piece.name, self._writers[""]).write(piece)

    def begin(self) -> Status:
        """Start the worker, unless it was started.

        Raises:
            StudyError: It cannot be started here.
        """
        if self._worker is None:
            self._name_warm_start()
            self._worker = self._spawn()
        return self.status()

    def sync(self, held: Mapping[str, Held]) -> tuple[Status, Batch]:
        """Return how the worker is and what it has written.

        Args:
            held: What the supervisor has already.
        """
        status = self.status()  # first, so that what is read then is all that a worker wrote that has ended
        return status, self._reader.read(held)

    def signal(self, name: str) -> None:
        """Send a signal to the worker and what it has started."""
        worker = self._worker
        if worker is None:
            return
        match signal.Signals[name]:
            case signal.SIGTERM:
                worker.terminate()
            case signal.SIGKILL:
                worker.kill()
            case _:
                worker.dump_stacks()

    def clear(self) -> None:
        """Kill what still runs and remove all files."""
        if self._worker is not None:
            self._worker.kill()
        shutil.rmtree(self._base, ignore_errors=True)

    def _name_warm_start(self) -> None:
        # The supervisor's file is not on this node; its copy is.
        spec = fs.read_json(self._folder.spec)
        if spec.get("warm_start") is not None:
            fs.write_json(self._folder.spec, {**spec, "warm_start": str(self._base / WARM_START)})

    def _spawn(self) -> WorkerProcess:
        launch = self._launch
        program, *arguments = launch.command
        command = [program or sys.executable, *arguments]
        if sys.platform == "linux":
            # Ray kills this process when the node is given up or the attempt is another's; its worker goes with it.
            command = [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), *command]
        cwd = Path(launch.worker_folder) if launch.worker_folder is not None else self._folder.root
        if not cwd.is_dir():
            raise StudyError(f"the folder {cwd} of the trainer is not on the node {Owner.here().host}.")
        # Ray has chosen the GPU and hides all others.
        visible = "" if launch.slot.device == "cpu" else os.environ.get("CUDA_VISIBLE_DEVICES", "")
        slot = dataclasses.replace(launch.slot, visible_devices=visible)
        # Ray's own variables may hold the cluster's token, and a worker may be anyone's code.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return WorkerProcess.spawn(self._folder, worker_environment(slot, launch.threads, environ), command, cwd)
