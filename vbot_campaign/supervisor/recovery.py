"""What a supervisor finds when it takes over a study, and what it makes of it."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vbot_campaign import events, fs
from vbot_campaign.errors import StudyBusyError
from vbot_campaign.paths import StudyPaths, TrialPaths
from vbot_campaign.study.owner import Owner
from vbot_campaign.study.snapshot import AttemptView, StudySnapshot, TrialState, TrialView
from vbot_campaign.supervisor.budget import BudgetUse, may_ask, used_up
from vbot_campaign.supervisor.process import signal_group

ORPHAN_GRACE_S = 30.0


@dataclass(frozen=True)
class ResumePlan:
    """What was found and what will be done, in lines for a person."""

    lines: tuple[str, ...]
    finished: bool
    """Whether there is nothing left to do."""


def plan_from(paths: StudyPaths, snapshot: StudySnapshot) -> ResumePlan:
    """Return what a resume of a study would do. Changes nothing.

    Args:
        paths: The study's folder.
        snapshot: The study now.
    """
    unfinished = [trial for trial in snapshot.trials if not trial.state.is_finished]
    use = BudgetUse(len(snapshot.trials), snapshot.hours_used, snapshot.env_steps_used)
    gone = used_up(snapshot.spec.budget, use)
    finished = not unfinished and (gone is not None or not may_ask(snapshot.spec.budget, use))
    head = f"study {snapshot.spec.study}: {_counts(snapshot)}"
    if finished:
        why = gone or "the budget of trials is used"
        return ResumePlan((head, f"finished: {why}. Raise the budget to go on."), True)
    lines = [head, *(_line(paths, trial) for trial in unfinished), *_next(snapshot, use, gone)]
    return ResumePlan(tuple(lines), False)


def resume_point(paths: StudyPaths, trial: TrialView) -> int:
    """Return the env step of the newest resume checkpoint whose file is there, or 0."""
    points = (c.env_steps for c in trial.checkpoints if c.kind == "resume" and (paths.root / c.path).exists())
    return max(points, default=0)


def without_supervisor(snapshot: StudySnapshot) -> StudySnapshot:
    """Return a snapshot as it looks when the supervisor has gone."""
    return dataclasses.replace(snapshot, supervisor=None, slots=())


def stop_orphans(paths: StudyPaths, trials: Iterable[TrialView]) -> list[str]:
    """Stop workers that outlived their supervisor, and wait until they are gone.

    They write a checkpoint first; one that does not stop within `ORPHAN_GRACE_S` is killed. All are asked before any
    is waited for. (To take them over as they are is the better way, and fits in here.)

    Returns:
        What was done, in lines.

    Raises:
        StudyBusyError: A live process holds a trial's folder and is not known to the database.
    """
    orphans = [orphan for trial in trials if (orphan := _orphan(paths, trial)) is not None]
    for orphan in orphans:
        orphan.ask()
    return [orphan.await_end() for orphan in orphans]


@dataclass(frozen=True)
class _Orphan:
    trial: int
    folder: TrialPaths
    attempt: AttemptView

    @property
    def _owner(self) -> Owner | None:
        if self.attempt.pid is None or self.attempt.pid_started is None:
            return None
        owner = Owner(self.attempt.host, self.attempt.pid, self.attempt.pid_started)
        return owner if owner.is_alive() else None

    def is_alive(self) -> bool:
        return self._owner is not None or fs.is_locked(self.folder.lock)

    def ask(self) -> None:
        events.request_stop(self.folder.stop_request, "stop", self.attempt.token)
        self._signal(signal.SIGTERM)

    def await_end(self) -> str:
        if self._gone_within(ORPHAN_GRACE_S):
            return f"trial {self.trial}: its worker had outlived the supervisor and was stopped with a checkpoint"
        self._signal(signal.SIGKILL)
        if self._gone_within(ORPHAN_GRACE_S):
            return f"trial {self.trial}: its worker had outlived the supervisor, did not stop, and was killed"
        raise StudyBusyError(
            f"trial {self.trial}: a process that is not in the database holds {self.folder.lock}. End it and resume."
        )

    def _signal(self, number: signal.Signals) -> None:
        owner = self._owner
        if owner is not None:
            signal_group(owner.pid, number)

    def _gone_within(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.is_alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True


def _orphan(paths: StudyPaths, trial: TrialView) -> _Orphan | None:
    if trial.folder is None or not trial.attempts:
        return None
    orphan = _Orphan(trial.number, TrialPaths(paths.root / trial.folder), trial.attempts[-1])
    return orphan if orphan.is_alive() else None


def _counts(snapshot: StudySnapshot) -> str:
    states = [trial.state for trial in snapshot.trials]
    unfinished = sum(not state.is_finished for state in states)
    complete, pruned = states.count(TrialState.COMPLETE), states.count(TrialState.PRUNED)
    return f"{complete} complete, {pruned} pruned, {states.count(TrialState.FAILED)} failed, {unfinished} unfinished"


def _line(paths: StudyPaths, trial: TrialView) -> str:
    name = f"trial {trial.number}"
    if not trial.attempts or trial.folder is None:
        return f"{name}: was asked and never started; will start"
    if not (paths.root / trial.folder).is_dir():
        return f"{name}: its folder {trial.folder} is gone; will start again from 0"
    if trial.state is TrialState.RUNNING:
        pid = trial.attempts[-1].pid
        return f"{name}: its worker (pid {pid}) is alive; will be stopped with a checkpoint and continued"
    point = _point_on_disk(TrialPaths(paths.root / trial.folder))
    where = f"continues at {point:,}" if point else "starts again, it has no checkpoint"
    return f"{name}: interrupted at env step {trial.env_steps:,} (attempt {trial.attempts[-1].number}); {where}"


def _point_on_disk(folder: TrialPaths) -> int:
    # The worker may have written more than its dead supervisor has booked.
    lines = fs.read_lines(folder.checkpoint_log)
    names = {line["file"]: line["env_steps"] for line in lines if line.get("kind") == "resume"}
    return max((steps for name, steps in names.items() if (folder.checkpoints / name).exists()), default=0)


def _next(snapshot: StudySnapshot, use: BudgetUse, gone: str | None) -> Sequence[str]:
    if gone is not None:
        return [f"{gone}: nothing will be trained; raise the budget to go on"]
    budget = snapshot.spec.budget
    left = [] if budget.trials is None else [f"{max(0, budget.trials - use.trials)} new trials"]
    left += [] if budget.hours is None else [f"{budget.hours - use.hours:.2f} h"]
    left += [] if budget.env_steps is None else [f"{budget.env_steps - use.env_steps:,} env steps"]
    return [f"left of the budget: {', '.join(left)}"] if left else []
