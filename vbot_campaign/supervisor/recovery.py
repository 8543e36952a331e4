"""What a supervisor finds when it takes over a study, and what it makes of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vbot_campaign import events, fs
from vbot_campaign.errors import StudyBusyError
from vbot_campaign.paths import StudyPaths, TrialPaths
from vbot_campaign.spec.budget import phase_budget
from vbot_campaign.study.ledger import Lease
from vbot_campaign.study.owner import Owner
from vbot_campaign.study.snapshot import AttemptView, StudySnapshot, TrialState, TrialView
from vbot_campaign.study.usage import RAY, total_gpu_hours
from vbot_campaign.supervisor.budget import BudgetUse, may_ask, used_up
from vbot_campaign.supervisor.process import AdoptedProcess

STRANGER_GRACE_S = 30.0
"""Time for a process that holds a trial's folder without being known to stop on request."""


@dataclass(frozen=True)
class ResumePlan:
    """What was found and what will be done, in lines for a person."""

    lines: tuple[str, ...]
    finished: bool
    """Whether there is nothing left to do."""
    used_up: str | None = None
    """Which budget is used up, so that nothing is trained, even where trials are unfinished."""


def plan_from(paths: StudyPaths, snapshot: StudySnapshot) -> ResumePlan:
    """Return what a resume of a study would do. Changes nothing.

    Args:
        paths: The study's folder.
        snapshot: The study now.
    """
    unfinished = [trial for trial in snapshot.trials if not trial.state.is_finished]
    used = total_gpu_hours(snapshot.spec.workers, snapshot.trials, datetime.now(UTC))
    use = BudgetUse(len(snapshot.trials), snapshot.hours_used, snapshot.env_steps_used, used)
    gone = used_up(snapshot.spec.budget, use)
    none_queued = snapshot.spec.sampler.name == "queue" and not snapshot.queue
    finished = not unfinished and (gone is not None or none_queued or not may_ask(snapshot.spec.budget, use))
    head = f"study {snapshot.spec.study}: {_counts(snapshot)}"
    if finished:
        if none_queued and gone is None:
            return ResumePlan((head, "finished: every queued trial has ended."), True)
        why = gone or "the budget of trials is used"
        return ResumePlan((head, f"finished: {why}. Raise the budget to go on."), True, gone)
    lines = [head, *(_line(paths, trial) for trial in unfinished), *_next(snapshot, use, gone)]
    return ResumePlan(tuple(lines), False, gone)


def resume_point(paths: StudyPaths, trial: TrialView) -> int:
    """Return the env step of the newest resume checkpoint whose file is there, or 0."""
    points = (c.env_steps for c in trial.checkpoints if c.kind == "resume" and (paths.root / c.path).exists())
    return max(points, default=0)


def folder_in_reach(paths: StudyPaths, trial: TrialView) -> TrialPaths | None:
    """Return the folder of the newest resume checkpoint that is here, for a trial whose own folder is not."""
    here = [c for c in trial.checkpoints if c.kind == "resume" and (paths.root / c.path).exists()]
    newest = max(here, key=lambda checkpoint: checkpoint.env_steps, default=None)
    return None if newest is None else TrialPaths((paths.root / newest.path).parent.parent)


def out_of_reach(trial: TrialView) -> str:
    """Say what a trial that starts from its beginning cannot go on from, because it lies elsewhere; or nothing."""
    point = max((c.env_steps for c in trial.checkpoints if c.kind == "resume"), default=0)
    if point == 0 or not trial.attempts:
        return ""
    return f": its checkpoint at {point:,} env steps is out of reach, on {trial.attempts[-1].host}"


def without_supervisor(snapshot: StudySnapshot) -> StudySnapshot:
    """Return a snapshot as it looks when the supervisor has gone."""
    return dataclasses.replace(snapshot, supervisor=None, slots=())


def given(folder: TrialPaths, attempt: AttemptView) -> dict[str, Any] | None:
    """Return the ``trial.json`` that an attempt was given; None when there is none, or another attempt's."""
    try:
        content = fs.read_json(folder.spec)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("token") == attempt.token else None


def live_worker(paths: StudyPaths, trial: TrialView) -> AdoptedProcess | None:
    """Return the worker that trains a trial although its supervisor has gone, or None.

    Args:
        paths: The study's folder.
        trial: An unfinished trial.

    Raises:
        StudyBusyError: A live process that no supervisor has started holds the trial's folder, and does not stop.
    """
    if trial.folder is None or not trial.attempts:
        return None
    folder, attempt = TrialPaths(paths.root / trial.folder), trial.attempts[-1]
    worker = _worker_of(folder, attempt)
    if worker is None:
        _clear(trial.number, folder, attempt)
    return worker


def _worker_of(folder: TrialPaths, attempt: AttemptView) -> AdoptedProcess | None:
    if attempt.ended is not None or attempt.slot.startswith(RAY):
        return None
    if attempt.pid is not None and attempt.pid_started is not None:
        owner = Owner(attempt.host, attempt.pid, attempt.pid_started)
        return AdoptedProcess(attempt.pid, attempt.pid_started) if owner.is_alive() else None
    # The supervisor died before it had written down the number of the process; or before there was one.
    return AdoptedProcess.find(folder) if given(folder, attempt) is not None else None


def _clear(trial: int, folder: TrialPaths, attempt: AttemptView) -> None:
    # A worker that dies drops its lock a moment before or after its number goes, so a stranger is given some time.
    if not fs.is_locked(folder.lock):
        return
    events.request_stop(folder.stop_request, "stop", attempt.token)
    deadline = time.monotonic() + STRANGER_GRACE_S
    while fs.is_locked(folder.lock):
        if time.monotonic() > deadline:
            raise StudyBusyError(
                f"trial {trial}: a process that is not in the database holds {folder.lock}. End it and resume."
            )
        time.sleep(0.1)


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
    last = trial.attempts[-1]
    if last.slot.startswith(RAY) and last.ended is None:
        return f"{name}: its worker is adopted if it still runs on the Ray cluster; else it {_continues(paths, trial)}"
    if trial.state is TrialState.RUNNING:
        return f"{name}: its worker (pid {last.pid}) is alive; will be adopted"
    if trial.is_paused:
        return f"{name}: {trial.reason}; goes on when it is among them"
    where = _continues(paths, trial)
    return f"{name}: interrupted at env step {trial.env_steps:,} (attempt {last.number}); {where}"


def _continues(paths: StudyPaths, trial: TrialView) -> str:
    point = _point_on_disk(TrialPaths(paths.root / (trial.folder or "")))
    return f"continues at {point:,}" if point else "starts again, it has no checkpoint"


def _point_on_disk(folder: TrialPaths) -> int:
    # The worker may have written more than its dead supervisor has booked.
    lines = fs.read_lines(folder.checkpoint_log)
    names = {line["file"]: line["env_steps"] for line in lines if line.get("kind") == "resume"}
    return max((steps for name, steps in names.items() if (folder.checkpoints / name).exists()), default=0)


def _next(snapshot: StudySnapshot, use: BudgetUse, gone: str | None) -> Sequence[str]:
    if gone is not None:
        return [f"{gone}: nothing will be trained; raise the budget to go on"]
    budget = phase_budget(snapshot.spec.budget, "search")
    new = None if budget.trials is None else max(0, budget.trials - use.trials)
    left = [] if new is None else [f"{new} new trial{'' if new == 1 else 's'}"]
    left += [] if budget.hours is None else [f"{budget.hours - use.hours:.2f} h"]
    left += [] if budget.gpu_hours is None else [f"{budget.gpu_hours - use.gpu_hours:.2f} GPU-hours"]
    left += [] if budget.env_steps is None else [f"{budget.env_steps - use.env_steps:,} env steps"]
    return [f"left of the budget: {', '.join(left)}"] if left else []


def busy_error(study: str, lease: Lease | None) -> StudyBusyError:
    """Return the error that names who holds a study, and since when."""
    who = "another supervisor"
    if lease is not None:
        since = lease.since.isoformat(timespec="seconds").replace("+00:00", "Z")
        who = f"the supervisor with pid {lease.owner.pid} on {lease.owner.host} since {since}"
    return StudyBusyError(
        f"study '{study}' is run by {who}. Watch it with `vbot-campaign status {study}`, "
        f"or stop it with `vbot-campaign stop {study}`."
    )
