"""What the supervisor costs: time in which a slot trains nothing, and its own share of a core."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise
from pathlib import Path

import psutil

from tests.benchmarks.rows import Row
from tests.support.campaign import Campaign, finish, progress_lines
from vbot_campaign.events import Result
from vbot_campaign.paths import TrialPaths
from vbot_campaign.study.snapshot import AttemptView, TrialView


@dataclass(frozen=True)
class Handover:
    """The seconds between the training of one trial and that of the next on the same slot."""

    noticed: float
    """The old worker wrote its result until its end was booked."""
    placed: float
    """Until the next worker was started."""
    started: float
    """Until that worker began its first iteration."""


def measure(folder: Path, quick: bool) -> list[Row]:
    """Run a study of trials of about two seconds, in which starting and stopping is all there is to see."""
    campaign = Campaign(folder)
    changes = {"budget": {"trials": 6 if quick else 12}, "workers": {"num_envs": 32, "slots": 2, "recording": "none"}}
    cpu, wall = _run(campaign, campaign.write(**changes))
    trials = campaign.snapshot().trials
    handovers = [_handover(campaign, old, new) for old, new in _neighbours(trials)]
    parts = {name: statistics.median(vars(h)[name] for h in handovers) for name in ("noticed", "placed", "started")}
    return [
        Row("slot idle per trial", sum(parts.values()), "s", 2, note="of it:"),
        Row("  worker's end noticed", parts["noticed"], "s", 2),
        Row("  next worker started", parts["placed"], "s", 2),
        Row("  worker's start-up", parts["started"], "s", 2, note="imports, model, first folder"),
        Row("supervisor, share of one core", 100 * cpu / wall, "%", 1, note=f"over {wall:.0f} s"),
        Row("trials per minute", 60 * len(trials) / wall, "", 1),
    ]


def _run(campaign: Campaign, file: Path) -> tuple[float, float]:
    """Run the study and return the supervisor's CPU seconds and the wall seconds, from the first worker on."""
    process = campaign.start("run", file)
    campaign.wait_for(process, lambda: campaign.trial_folder(0) is not None)
    supervisor = psutil.Process(process.pid)
    begun, cpu_begun = time.monotonic(), _cpu(supervisor)
    cpu, wall = 0.0, 1e-9
    while process.poll() is None:
        try:
            cpu, wall = _cpu(supervisor) - cpu_begun, time.monotonic() - begun
        except psutil.Error:
            break
        time.sleep(0.1)
    finish(process)
    return cpu, wall


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _neighbours(trials: tuple[TrialView, ...]) -> list[tuple[TrialView, TrialView]]:
    """Return each trial with the next one on its slot."""

    def attempt(trial: TrialView) -> AttemptView:
        return trial.attempts[0]

    by_slot = sorted(trials, key=lambda trial: (attempt(trial).slot, attempt(trial).started))
    groups = (list(group) for _, group in groupby(by_slot, key=lambda trial: attempt(trial).slot))
    return [pair for group in groups for pair in pairwise(group)]


def _handover(campaign: Campaign, old: TrialView, new: TrialView) -> Handover:
    ended, started = old.attempts[0].ended, new.attempts[0].started
    result = Result.read(_folder(campaign, old).result)
    assert ended is not None
    assert result is not None
    first = progress_lines(_folder(campaign, new))[0]
    trained = datetime.fromisoformat(first["time"]).timestamp() - first["timing"]["seconds"]
    return Handover(
        noticed=(ended - datetime.fromisoformat(result.time)).total_seconds(),
        placed=(started - ended).total_seconds(),
        started=trained - started.timestamp(),
    )


def _folder(campaign: Campaign, trial: TrialView) -> TrialPaths:
    return TrialPaths(campaign.study.root / str(trial.folder))
