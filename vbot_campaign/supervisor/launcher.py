"""Where attempts run, as the supervisor knows it; and this machine, which is where they run by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vbot_campaign.paths import StudyPaths, TrialPaths
from vbot_campaign.spec.study import WorkerSettings
from vbot_campaign.spec.training import TrialSpec
from vbot_campaign.study.snapshot import TrialView
from vbot_campaign.supervisor import recovery
from vbot_campaign.supervisor.process import Process, WorkerProcess
from vbot_campaign.supervisor.slots import Slot, discover_slots, worker_environment


@dataclass(frozen=True)
class Order:
    """An attempt that is to be started. Its ``trial.json`` lies in the folder already."""

    trial: TrialView
    """With the attempts before this one."""
    spec: TrialSpec
    """The content of its ``trial.json``."""
    slot: Slot
    folder: TrialPaths
    command: Sequence[str]
    """Program and arguments of the worker, without the folder."""
    worker_folder: Path | None
    """Where the worker runs, if not here."""
    settings: WorkerSettings


class Launcher(Protocol):
    """Starts workers somewhere, and finds them again after the death of a supervisor.

    Whatever it is, a trial's folder in the runs folder holds what the trial's worker has written, see `Process.poll`.
    """

    def slots(self, settings: WorkerSettings) -> tuple[Slot, ...]:
        """Return how many attempts may run at once, and how each is called.

        Raises:
            CampaignError: There is no place to run a study with these settings.
        """

    def start(self, order: Order) -> Process:
        """Start a worker; it may have to wait for a place to run.

        Raises:
            StudyError: It cannot be started.
        """

    def adopt(self, paths: StudyPaths, trial: TrialView) -> Process | None:
        """Return the worker of a trial's last attempt if it lives on although its supervisor has gone.

        Raises:
            StudyBusyError: A live process that no supervisor has started holds the trial's folder, and does not stop.
        """

    def close(self) -> None:
        """Let go of what is needed to speak with workers, which live on; any further call takes it up again."""


class LocalLauncher:
    """Processes of this machine, on shares of its GPUs or of its CPU."""

    def slots(self, settings: WorkerSettings) -> tuple[Slot, ...]:
        """See `Launcher.slots`."""
        return discover_slots(settings)

    def start(self, order: Order) -> Process:
        """See `Launcher.start`."""
        environ = worker_environment(order.slot, order.spec.threads)
        return WorkerProcess.spawn(order.folder, environ, order.command, order.worker_folder)

    def adopt(self, paths: StudyPaths, trial: TrialView) -> Process | None:
        """See `Launcher.adopt`."""
        return recovery.live_worker(paths, trial)

    def close(self) -> None:
        """See `Launcher.close`; there is nothing."""
