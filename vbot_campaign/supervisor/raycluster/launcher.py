"""Attempts on a Ray cluster: started there, and found there again."""

from __future__ import annotations

import sys

from vbot_campaign.paths import StudyPaths, TrialPaths
from vbot_campaign.spec.study import WorkerSettings
from vbot_campaign.study.snapshot import AttemptView, TrialView
from vbot_campaign.study.usage import RAY
from vbot_campaign.supervisor import recovery
from vbot_campaign.supervisor.launcher import Order
from vbot_campaign.supervisor.process import Process
from vbot_campaign.supervisor.raycluster.attendant import Launch
from vbot_campaign.supervisor.raycluster.link import Link
from vbot_campaign.supervisor.raycluster.places import cluster_slots, demand
from vbot_campaign.supervisor.raycluster.process import CLEAR_S, RayProcess
from vbot_campaign.supervisor.slots import Slot


class RayLauncher:
    """Attempts as detached actors of a Ray cluster; queueing, placement and the health of nodes are Ray's.

    Args:
        address: Of the cluster, see `Link`.
    """

    def __init__(self, address: str = "auto") -> None:
        self._link = Link(address)

    def open(self) -> None:
        """Connect to the cluster.

        Raises:
            SpecError: Ray is not installed.
            StudyError: No cluster answers at the address.
        """
        self._link.open()

    def slots(self, settings: WorkerSettings) -> tuple[Slot, ...]:
        """See `Launcher.slots`."""
        return cluster_slots(settings, self._link.need("nodes"))

    def start(self, order: Order) -> Process:
        """See `Launcher.start`; what is left of the trial's earlier attempts is ended first."""
        spec = order.spec
        for attempt in order.trial.attempts:
            self._end(spec.study or "", order.trial, attempt)
        program, *arguments = order.command
        launch = Launch(
            folder=order.folder.root.name,
            # The same Python has another path on another machine.
            command=("" if program == sys.executable else program, *arguments),
            worker_folder=None if order.worker_folder is None else str(order.worker_folder),
            slot=order.slot,
            threads=spec.threads,
        )
        name = _name(spec.study or "", order.trial.number, spec.attempt, spec.token)
        needs = demand(order.slot, order.settings)
        return RayProcess(self._link, name, order.folder, spec.warm_start, launch, needs)

    def adopt(self, paths: StudyPaths, trial: TrialView) -> Process | None:
        """See `Launcher.adopt`; a worker that was started on this machine is found here, too."""
        if trial.folder is None or not trial.attempts or not trial.attempts[-1].slot.startswith(RAY):
            return recovery.live_worker(paths, trial)
        folder, attempt = TrialPaths(paths.root / trial.folder), trial.attempts[-1]
        spec = recovery.given(folder, attempt)
        if attempt.ended is not None or spec is None:
            return None
        name = _name(paths.root.name, trial.number, attempt.number, attempt.token)
        if not self._link.need("exists", name):
            return None
        return RayProcess(self._link, name, folder, paths.warm_start if spec.get("warm_start") else None)

    def close(self) -> None:
        """See `Launcher.close`."""
        self._link.close()

    def _end(self, study: str, trial: TrialView, attempt: AttemptView) -> None:
        if attempt.slot.startswith(RAY):
            self._link.ask("destroy", _name(study, trial.number, attempt.number, attempt.token), CLEAR_S)


def _name(study: str, trial: int, attempt: int, token: str) -> str:
    return f"{study}:{trial}:{attempt}:{token}"
