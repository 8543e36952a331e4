"""Attempts at trials: started, adopted, and asked to stop."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from vbot_campaign import events, fs
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.training import ThreadSettings, TrialSpec, WarmStartRules
from vbot_campaign.study.snapshot import AttemptView, TrialView
from vbot_campaign.study.training import trial_training
from vbot_campaign.supervisor import recovery
from vbot_campaign.supervisor.alerts import Alert
from vbot_campaign.supervisor.continuation import place_start
from vbot_campaign.supervisor.decisions import Decision
from vbot_campaign.supervisor.launcher import Launcher, Order
from vbot_campaign.supervisor.monitor import TrialMonitor
from vbot_campaign.supervisor.process import Process
from vbot_campaign.supervisor.slots import Slot
from vbot_campaign.supervisor.state import Context, Worker


class Attempts:
    """Gives trials their workers.

    Args:
        context: What is worked on.
        launcher: Starts them.
        command: Program and arguments of a worker, to which the trial's folder is added.
        worker_folder: Where it runs, if not here.
    """

    def __init__(
        self, context: Context, launcher: Launcher, command: Sequence[str], worker_folder: Path | None
    ) -> None:
        self._context = context
        self._launcher = launcher
        self._study = context.study
        self._paths = context.paths
        self._command = command
        self._worker_folder = worker_folder

    def start(self, trial: TrialView, slot: Slot) -> None:
        """Start a worker on a trial.

        Raises:
            CheckpointError: The checkpoint that the trial goes on from is gone or was altered; nothing was started.
        """
        folder = self._folder(trial)
        first = recovery.resume_point(self._paths, trial)
        if trial.start is not None and first == 0:
            place_start(folder, trial.start)
            self._study.ledger.update_trial(trial.number, env_steps=trial.start.env_steps)
            first = trial.start.env_steps
        attempt = self._study.ledger.open_attempt(trial.number, slot=slot.name, first_env_step=first)
        spec = self._trial_spec(trial, attempt, slot, folder)
        # From here on only this attempt counts: its predecessors' requests and results are void, and one that still
        # lives finds itself fenced by the new token.
        folder.stop_request.unlink(missing_ok=True)
        folder.result.unlink(missing_ok=True)
        fs.write_json(folder.spec, spec.model_dump(mode="json"))
        settings = self._study.spec.workers
        order = Order(trial, spec, slot, folder, self._command, self._worker_folder, settings)
        self._enlist(trial, attempt, slot.name, self._launcher.start(order), folder)
        begin = f"from {self._study.warm_start}" if self._study.warm_start else "from the start"
        reason = begin if first == 0 else f"from the checkpoint at {first:,} env steps"
        if trial.start is not None and first == trial.start.env_steps and trial.start.study is not None:
            reason += f" of trial {trial.start.trial} of {trial.start.study}"
        elif first == 0:
            reason += recovery.out_of_reach(trial)
        if trial.num_envs is not None:
            reason += f", with {trial.num_envs} environments"
        self._context.decide(Decision("started", reason, trial.number, attempt.number, slot.name, env_step=first))

    def adopt(self, trial: TrialView, process: Process, slot: str) -> None:
        """Take over a worker that outlived its supervisor, as it is.

        Args:
            trial: Its trial.
            process: The worker.
            slot: Where it counts as running.
        """
        attempt = trial.attempts[-1]
        worker = self._enlist(trial, attempt, slot, process, TrialPaths(self._paths.root / (trial.folder or "")))
        if self._study.ledger.entry(trial.number).prune_reason is not None:
            self.request_stop(worker, events.STOP_PRUNED)
        elif trial.rung is not None and trial.rung.paused is not None:
            self.pause(worker)
        elif events.stop_requested(worker.monitor.folder.stop_request, attempt.token) is not None:
            worker.stop_asked = self._context.clock()
        reason = f"its worker ({process.words}) outlived the supervisor and trains on"
        self._context.decide(Decision("adopted", reason, trial.number, attempt.number, slot))

    def monitor(self, trial: TrialView, folder: TrialPaths) -> TrialMonitor:
        """Return what follows a trial over all its attempts."""
        monitors = self._context.state.monitors
        if trial.number not in monitors:
            training = trial_training(self._study.spec, trial)
            monitors[trial.number] = TrialMonitor(self._study, trial.number, folder, training)
        return monitors[trial.number]

    def request_stop(self, worker: Worker, reason: str) -> None:
        """Ask a worker to stop after its iteration, and start the clock on it."""
        events.request_stop(worker.monitor.folder.stop_request, reason, worker.attempt.token)
        worker.stop_asked = self._context.clock()

    def prune(self, worker: Worker, reason: str, *, env_step: int | None = None, score: float | None = None) -> None:
        """Ask a worker to stop for good: its trial ends as pruned.

        Args:
            worker: Who is asked.
            reason: Why.
            env_step: Where that was decided.
            score: The score there.
        """
        self._study.ledger.update_trial(worker.trial, prune_reason=reason)
        self.request_stop(worker, events.STOP_PRUNED)
        decision = Decision("pruning", reason, worker.trial, worker.attempt.number, env_step=env_step, score=score)
        self._context.decide(decision)

    def pause(self, worker: Worker) -> None:
        """Ask a worker to write a checkpoint and end, because its trial is paused at a rung."""
        self.request_stop(worker, events.STOP_PAUSED)

    def stop(self, worker: Worker, reason: str) -> None:
        """Ask a worker to stop, in both ways."""
        self.request_stop(worker, "stop")
        worker.process.terminate()
        self._context.decide(Decision("stopping", reason, worker.trial, worker.attempt.number))

    def kill(self, worker: Worker, reason: str) -> None:
        """Kill a worker."""
        worker.stop_asked = self._context.clock()
        worker.process.kill()
        self._context.decide(Decision("killed", reason, worker.trial, worker.attempt.number))

    def dump_stacks(self, worker: Worker, reason: str) -> None:
        """Have a worker that hangs print its stacks, and tell the person."""
        worker.hung, worker.hung_since = reason, self._context.clock()
        where = f", its stacks are in {worker.monitor.folder.log.name}" if worker.process.dump_stacks() else ""
        message = f"{reason}: the worker is ended and another goes on from the last checkpoint{where}"
        self._context.alert(Alert("error", "hang", message, worker.trial), worker.attempt.number)

    def _enlist(
        self, trial: TrialView, attempt: AttemptView, slot: str, process: Process, folder: TrialPaths
    ) -> Worker:
        self._book(trial.number, attempt, process)
        monitor = self.monitor(trial, folder)
        monitor.follow(attempt)
        worker = Worker(trial.number, slot, attempt, process, monitor, is_placed=process.owner is not None)
        self._context.state.workers[trial.number] = worker
        self._context.state.waiting.pop(trial.number, None)
        return worker

    def note_place(self, worker: Worker) -> None:
        """Write down where a worker runs that had to wait for a place; its attempt counts from then on."""
        if worker.is_placed or worker.process.owner is None:
            return
        worker.is_placed, now = True, datetime.now(UTC)
        self._book(worker.trial, worker.attempt, worker.process)
        self._study.ledger.update_attempt(worker.trial, worker.attempt.number, started=now)
        worker.attempt = dataclasses.replace(worker.attempt, started=now)

    def _book(self, trial: int, attempt: AttemptView, process: Process) -> None:
        if (owner := process.owner) is not None:
            values = {"host": owner.host, "pid": owner.pid, "pid_started": owner.pid_started}
            self._study.ledger.update_attempt(trial, attempt.number, **values)

    def _folder(self, trial: TrialView) -> TrialPaths:
        if trial.folder is not None and (self._paths.root / trial.folder).is_dir():
            return TrialPaths(self._paths.root / trial.folder)
        folder = recovery.folder_in_reach(self._paths, trial) or self._paths.new_trial(trial.number)
        folder.root.mkdir(parents=True, exist_ok=True)
        relative = folder.root.relative_to(self._paths.root).as_posix()
        self._study.ledger.update_trial(trial.number, folder=relative)
        self._context.state.monitors.pop(trial.number, None)
        return folder

    def _trial_spec(self, trial: TrialView, attempt: AttemptView, slot: Slot, folder: TrialPaths) -> TrialSpec:
        return TrialSpec(
            study=self._study.spec.study,
            trial=trial.number,
            attempt=attempt.number,
            token=attempt.token,
            training=trial_training(self._study.spec, trial),
            device=slot.device,
            slot=slot.name,
            threads=_threads_of(folder.spec, slot),
            parameters=trial.parameters,
            warm_start=self._paths.warm_start.absolute() if self._study.warm_start else None,
            warm_start_rules=start.rules if (start := self._study.spec.warm_start) else WarmStartRules(),
            recording=self._study.spec.workers.recording,
        )


def _threads_of(trial_json: Path, slot: Slot) -> ThreadSettings:
    # The counts of the first attempt stay: sums, and so the whole training, depend on them.
    try:
        return TrialSpec.model_validate(fs.read_json(trial_json)).threads
    except (FileNotFoundError, ValueError):
        return slot.threads
