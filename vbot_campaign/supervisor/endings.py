"""Attempts that have ended, and what it means for their trials and for the study."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

from vbot_campaign import fs
from vbot_campaign.events import Ended, Result
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.training import TrainingSpec
from vbot_campaign.study.artifacts import upload_artifacts
from vbot_campaign.study.snapshot import AttemptView, TrialView
from vbot_campaign.study.training import trial_training
from vbot_campaign.supervisor import recovery
from vbot_campaign.supervisor.alerts import Alert, no_improvement
from vbot_campaign.supervisor.decisions import Decision
from vbot_campaign.supervisor.memory import fewer_envs
from vbot_campaign.supervisor.monitor import TrialMonitor
from vbot_campaign.supervisor.process import Exit, exit_words
from vbot_campaign.supervisor.retention import enforce_disk_budget
from vbot_campaign.supervisor.scheduler import Stop
from vbot_campaign.supervisor.state import Context, Worker
from vbot_campaign.supervisor.verdict import Ending, Fate, Verdict, judge

FAILURES_IN_A_ROW = 2

_ALERTS = {
    Ended.DIVERGED: ("warning", "diverged"),
    Ended.OUT_OF_MEMORY: ("warning", "out_of_memory"),
    Ended.DISK_FULL: ("error", "disk_full"),
}
"""Level and cause of the alert at an end of an attempt."""


class Endings:
    """Books the end of attempts.

    Args:
        context: What is worked on.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._study = context.study
        self._state = context.state

    def take_in(self, trial: TrialView, monitor: TrialMonitor, seen: datetime | None = None) -> None:
        """Book the last attempt of a trial, which ended while nobody looked; what is booked already stays.

        Args:
            trial: An unfinished trial with an attempt and without a worker.
            monitor: Follows it.
            seen: Until when its supervisor lived, where that was another's and its files lie elsewhere.
        """
        last = trial.attempts[-1]
        monitor.follow(last)
        for alert in monitor.poll().alerts:
            self._context.alert(alert, last.number)
        self._state.env_steps[trial.number] = max(trial.new_env_steps, monitor.new_env_steps)
        end = Ending(words="its supervisor died", asked_to_stop=True)
        verdict = self._judge(trial.number, last, monitor, end)
        if last.ended is None or not verdict.fate.goes_on:
            ended = _last_sign(monitor.folder, last, seen)
            self._settle(trial.number, last, verdict, None, monitor.memory_mb, ended=ended)

    def end(self, worker: Worker, exit_: Exit) -> None:
        """Book the attempt of a worker that has just ended."""
        del self._state.workers[worker.trial]
        self._state.waiting[worker.trial] = self._study.ledger.deaths(worker.trial)
        asked = worker.stop_asked is not None
        end = Ending(
            code=exit_.code,
            words=exit_.words or exit_words(exit_.code, worker.monitor.folder.log),
            asked_to_stop=asked and worker.hung is None,
            hung=worker.hung,
            oom_killed=not asked and exit_.code in (None, -9) and worker.process.oom_killed(),
        )
        verdict = self._judge(worker.trial, worker.attempt, worker.monitor, end)
        memory_mb = worker.monitor.memory_mb or worker.memory_mb
        self._settle(worker.trial, worker.attempt, verdict, exit_.code, memory_mb)

    def refuse(self, trial: int, reason: str) -> None:
        """Fail a trial that no worker can be started on."""
        self._state.waiting.pop(trial, None)
        self._conclude(trial, Verdict(Fate.FAILED, reason, Ended.INVALID), None)

    def give_up(self, trial: int, reason: str) -> None:
        """Fail a trial whose attempts keep dying."""
        self._state.waiting.pop(trial)
        last = self._study.trial(trial).attempts[-1].reason or ""
        verdict = Verdict(Fate.FAILED, f"{reason}, the last: {last}", Ended.FAILED, f"died: {last}")
        self._conclude(trial, verdict, None)
        self._context.alert(Alert("error", "repeated_failures", verdict.reason, trial))
        self._count_failure(f"trial {trial}: {last}", verdict.kind)

    def end_paused(self, trial: int, reason: str) -> None:
        """End a paused trial that will not go on any more; its last score stays."""
        self._state.waiting.pop(trial)
        self._conclude(trial, Verdict(Fate.PRUNED, reason), None)

    def _judge(self, trial: int, attempt: AttemptView, monitor: TrialMonitor, end: Ending) -> Verdict:
        view = self._study.trial(trial)
        point = recovery.resume_point(self._context.paths, view)
        end = dataclasses.replace(end, progressed=point > attempt.first_env_step)
        is_paused = view.rung is not None and view.rung.paused is not None
        prune_reason = self._study.ledger.entry(trial).prune_reason
        return judge(monitor.result(attempt.token), end, prune_reason, is_paused=is_paused)

    def _settle(
        self,
        trial: int,
        attempt: AttemptView,
        verdict: Verdict,
        code: int | None,
        memory_mb: float | None,
        *,
        ended: datetime | None = None,
    ) -> None:
        self._remove_leftovers(trial)
        if verdict.fate is Fate.OUT_OF_MEMORY:
            verdict = self._shrink(trial, attempt, verdict)
        died = verdict.fate is Fate.DIED
        self._study.ledger.close_attempt(
            trial,
            attempt.number,
            reason=verdict.reason,
            exit_code=code,
            died=died,
            memory_peak_mb=memory_mb,
            ended=ended,
        )
        if verdict.cause in _ALERTS:
            level, cause = _ALERTS[verdict.cause]
            self._context.alert(Alert(level, cause, verdict.reason, trial), attempt.number)
        if verdict.fate.goes_on:
            self._state.waiting[trial] = self._state.waiting.get(trial, 0) + died
            if verdict.fate is not Fate.PAUSED:  # that one's reason is kept with the verdict of the pruner
                self._study.ledger.update_trial(trial, reason=f"interrupted: {verdict.reason}")
            decision = Decision(verdict.fate.value, verdict.reason, trial, attempt.number, attempt.slot)
            self._context.decide(decision)
            return
        self._state.waiting.pop(trial, None)
        self._conclude(trial, verdict, attempt)
        if verdict.is_systematic:
            self._count_failure(f"trial {trial}: {verdict.reason}", verdict.kind)
        else:
            self._state.failures.clear()

    def _remove_leftovers(self, trial: int) -> None:
        monitor = self._state.monitors.get(trial)
        if monitor is not None:
            fs.remove_parts(monitor.folder.root)
            fs.remove_parts(monitor.folder.checkpoints)

    def _shrink(self, trial: int, attempt: AttemptView, verdict: Verdict) -> Verdict:
        """Book fewer environments for the next attempt, or end a trial that has too few already."""
        training = self._training(trial, attempt)
        fewer = fewer_envs(training)
        if fewer is None:
            reason = f"out of memory even with {training.num_envs} environments: {verdict.reason}"
            return Verdict(Fate.FAILED, reason.replace(": out of memory", "", 1), Ended.OUT_OF_MEMORY)
        self._study.set_num_envs(trial, fewer)
        self._state.monitors.pop(trial, None)  # the next one counts with shorter iterations
        reason = f"{verdict.reason}; goes on with {fewer} environments instead of {training.num_envs}"
        return dataclasses.replace(verdict, reason=reason)

    def _training(self, trial: int, attempt: AttemptView) -> TrainingSpec:
        view = self._study.trial(trial)
        # With what the attempt itself was given, so that a crash between two bookings does not halve twice.
        given = recovery.given(TrialPaths(self._context.paths.root / (view.folder or "")), attempt)
        num_envs = given["training"]["num_envs"] if given is not None else self._study.num_envs(trial)
        return trial_training(self._study.spec, view).model_copy(update={"num_envs": num_envs})

    def _conclude(self, trial: int, verdict: Verdict, attempt: AttemptView | None) -> None:
        monitor = self._state.monitors.pop(trial, None)
        result: Result | None = None
        if monitor is not None and attempt is not None:
            result = monitor.result(attempt.token)
        self._show_files(trial)
        score = None
        if verdict.fate is Fate.COMPLETE and result is not None and result.score is not None:
            score = result.score
            self._study.complete(trial, score, result.parts, result.episodes)
        elif verdict.fate is Fate.PRUNED:
            self._study.prune(trial, verdict.reason)
        else:
            self._study.fail(trial, verdict.reason)
        number = None if attempt is None else attempt.number
        self._context.decide(Decision(verdict.fate.value, verdict.reason, trial, number, score=score))
        self._keep_within_disk_budget()
        alert = no_improvement(self._study.snapshot().trials, self._study.spec.alerts.no_improvement_trials)
        if alert is not None:
            self._context.alert(alert)

    def _show_files(self, trial: int) -> None:
        """Put a trial's files where the dashboard shows them; its row can be written only before it is told."""
        folder = self._study.trial(trial).folder
        if folder is None:
            return
        paths = self._context.paths
        try:
            with self._study.ledger.tenure.holding(trial):
                upload_artifacts(
                    self._study.storage, paths.campaign, self._study.spec.study, trial, TrialPaths(paths.root / folder)
                )
        except OSError as error:
            if not self._state.artifacts_failed:
                reason = f"the dashboard cannot show the files of trials: {error}"
                self._context.decide(Decision("artifacts_failed", reason, trial))
            self._state.artifacts_failed = True

    def _keep_within_disk_budget(self) -> None:
        removed = enforce_disk_budget(self._study, self._context.paths)
        if removed:
            freed = sum(removal.bytes for removal in removed) / 1e9
            reason = f"{len(removed)} checkpoints of ended trials removed, {freed:.2f} GB: checkpoints.disk_budget_gb"
            self._context.decide(Decision("thinned_out", reason))

    def _count_failure(self, what: str, kind: str) -> None:
        failures = self._state.failures
        if failures and failures[-1] != kind:
            failures.clear()
        failures.append(kind)
        if len(failures) >= FAILURES_IN_A_ROW:
            reason = f"{len(failures)} trials in a row failed in the same way, the last: {what}"
            self._context.alert(Alert("error", "repeated_failures", reason))
            self._context.stop.failed = True
            self._context.stop.raise_to(Stop.ASK, reason)


def _last_sign(folder: TrialPaths, attempt: AttemptView, seen: datetime | None) -> datetime:
    """Return when an attempt whose end nobody saw last wrote something; its start where it never did.

    Not when that was found out: a machine that was off for a night has used no GPU.
    """
    if attempt.ended is not None:
        return attempt.ended
    files = [file for file in (folder.metrics, folder.log, folder.result) if file.exists()]
    unseen = attempt.started if seen is None else seen
    last = max((datetime.fromtimestamp(file.stat().st_mtime, UTC) for file in files), default=unseen)
    return min(max(last, attempt.started), datetime.now(UTC))
