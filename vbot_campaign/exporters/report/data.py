"""The numbers of a report, without a word about how they are shown."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vbot_campaign import fs
from vbot_campaign.events import STOP_PAUSED
from vbot_campaign.exporters import rows, trial_config
from vbot_campaign.exporters.curves import Curves, read_curves
from vbot_campaign.exporters.report import evaluations
from vbot_campaign.exporters.report.evaluations import Played
from vbot_campaign.exporters.trial_config import TrialConfig
from vbot_campaign.paths import CampaignPaths, StudyPaths, TrialPaths
from vbot_campaign.spec.study import AnyParameter, Integer, LogUniform, Uniform
from vbot_campaign.study.importance import parameter_importances
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView
from vbot_campaign.study.usage import is_gpu

TOP = 5
"""Trials whose files are read: configurations and curves. Of all others only the database is asked."""
QUANTILES = (0.1, 0.5, 0.9)
MIN_BAND = 5
"""Trials with a report at an env step from which quantiles are given."""


@dataclass(frozen=True)
class HistoryPoint:
    """The study right after one trial ended."""

    trial: int
    state: TrialState
    score: float | None
    hours: float
    """Since the first trial began."""
    env_steps: int
    """Trained by all trials that had ended."""
    best: float | None
    """Highest score of a complete trial until then."""


@dataclass(frozen=True)
class Failure:
    """Trials that failed for one cause."""

    cause: str
    """The reason of the first of them."""
    trials: tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """What the study used."""

    gpu_hours: float
    slot_hours: float
    """Hours of CPU slots."""
    core_hours: float | None
    """The same times the threads of a slot; None where no worker has said how many it had."""
    env_steps: int
    again: int
    """Env steps that were trained twice, because an attempt was interrupted after its last checkpoint."""
    attempts: int
    interrupted: int
    """Attempts that others had to go on from; one that was paused at a rung is none."""
    pruned_steps: int
    """Env steps that pruned trials were spared."""
    share_saved: float
    """The same as a share of what all ended trials would have taken without pruning."""
    checkpoint_bytes: int
    steps_per_s: float | None
    """Median speed of a trial."""


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows."""

    snapshot: StudySnapshot
    paths: StudyPaths
    made: datetime
    ranked: tuple[TrialView, ...]
    """Complete trials, the best first; where none is complete yet, pruned ones."""
    history: tuple[HistoryPoint, ...]
    """By the time at which trials ended."""
    band: tuple[tuple[int, float, float, float], ...]
    """Env step, and the quantiles `QUANTILES` of the scores that trials reported there."""
    importances: dict[str, dict[str, float]]
    configs: dict[int, TrialConfig]
    """Of the `TOP` trials."""
    curves: dict[int, Curves]
    played: dict[int, Played]
    meta: dict[str, Any]
    """``experiment_meta.json`` of the best trial."""
    failures: tuple[Failure, ...]
    cost: Cost

    @property
    def top(self) -> tuple[TrialView, ...]:
        """The best trials."""
        return self.ranked[:TOP]

    def count(self, *states: TrialState) -> int:
        """Return how many trials are in one of the states."""
        return sum(trial.state in states for trial in self.snapshot.trials)


def collect(paths: CampaignPaths, snapshot: StudySnapshot, made: datetime) -> ReportData:
    """Return the numbers of a study's report. Files are read of the best trials only.

    Args:
        paths: The runs folder.
        snapshot: The study.
        made: The time to give the report.
    """
    folder = paths.study(snapshot.spec.study)
    ranked = ranking(snapshot)
    top = ranked[:TOP]
    meta = _meta(folder, top)
    return ReportData(
        snapshot=snapshot,
        paths=folder,
        made=made,
        ranked=ranked,
        history=history(snapshot.trials),
        band=band(snapshot.trials),
        importances=parameter_importances(snapshot),
        configs={t.number: trial_config.resolve(folder, snapshot.spec, t, snapshot.warm_start) for t in top},
        curves={t.number: read_curves(TrialPaths(folder.root / t.folder), points=120) for t in top if t.folder},
        played=evaluations.kept(folder, ranked[: evaluations.EVALUATED]),
        meta=meta,
        failures=failures(snapshot.trials),
        cost=cost(snapshot, meta),
    )


def ranking(snapshot: StudySnapshot) -> tuple[TrialView, ...]:
    """Return the complete trials by score, the best first; pruned ones where none is complete."""
    for state in (TrialState.COMPLETE, TrialState.PRUNED):
        found = [trial for trial in snapshot.trials if trial.state is state and trial.score is not None]
        if found:
            return tuple(sorted(found, key=lambda trial: (-(trial.score or 0.0), trial.number)))
    return ()


def history(trials: Sequence[TrialView]) -> tuple[HistoryPoint, ...]:
    """Return the ended trials by time with the best score until then."""
    begun = min((trial.started for trial in trials if trial.started), default=None)
    points, steps, best = [], 0, None
    ended = [(trial.ended, trial) for trial in trials if trial.state.is_finished and trial.ended is not None]
    for time, trial in sorted(ended, key=lambda pair: (pair[0], pair[1].number)):
        steps += trial.env_steps
        if trial.state is TrialState.COMPLETE and trial.score is not None:
            best = trial.score if best is None else max(best, trial.score)
        hours = (time - begun).total_seconds() / 3600 if begun else 0.0
        points.append(HistoryPoint(trial.number, trial.state, rows.score(trial), hours, steps, best))
    return tuple(points)


def band(trials: Sequence[TrialView]) -> tuple[tuple[int, float, float, float], ...]:
    """Return quantiles of the reported scores at each env step of the grid that enough trials reached."""
    by_step: dict[int, list[float]] = defaultdict(list)
    for trial in trials:
        for step, value in trial.reports.items():
            by_step[step].append(value)
    return tuple(
        (step, *(quantile(values, share) for share in QUANTILES))  # type: ignore[misc]  # three quantiles
        for step, values in sorted(by_step.items())
        if len(values) >= MIN_BAND
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile with linear interpolation between neighbours, as NumPy's default."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def position_in_range(parameter: AnyParameter, value: Any) -> float | None:
    """Return where a number lies in the range of its parameter, 0..1; None where that has no range."""
    if not isinstance(parameter, Uniform | LogUniform | Integer):
        return None
    low, high, at = float(parameter.low), float(parameter.high), float(value)
    if isinstance(parameter, LogUniform) or (isinstance(parameter, Integer) and parameter.log):
        low, high, at = (math.log(abs(v)) for v in (low, high, at))
    return (at - low) / (high - low) if high != low else None


def failures(trials: Sequence[TrialView]) -> tuple[Failure, ...]:
    """Return failed trials grouped by what their reasons have in common, the most frequent first."""
    groups: dict[str, list[TrialView]] = defaultdict(list)
    for trial in trials:
        if trial.state is TrialState.FAILED:
            groups[re.sub(r"0x[0-9a-fA-F]+|[0-9]+", "#", trial.reason)].append(trial)
    found = [Failure(group[0].reason, tuple(trial.number for trial in group)) for group in groups.values()]
    return tuple(sorted(found, key=lambda failure: -len(failure.trials)))


def cost(snapshot: StudySnapshot, meta: dict[str, Any]) -> Cost:
    """Return what a study used.

    Args:
        snapshot: The study; attempts that have not ended count until now as nothing.
        meta: ``experiment_meta.json`` of one trial, for the threads of a slot.
    """
    hours = _slot_hours(snapshot.trials)
    threads = max((meta.get("threads") or {}).values(), default=0)
    ended = [t for t in snapshot.trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    budget = snapshot.spec.env_steps_per_trial
    spared = sum(max(budget - t.env_steps, 0) for t in ended if t.state is TrialState.PRUNED)
    attempts = [a for t in snapshot.trials for a in t.attempts]
    speeds = [t.env_steps_per_s for t in snapshot.trials if t.env_steps_per_s]
    return Cost(
        gpu_hours=hours["gpu"] / snapshot.spec.workers.slots_per_gpu,
        slot_hours=hours["cpu"],
        core_hours=hours["cpu"] * threads if threads else None,
        env_steps=snapshot.env_steps_used,
        again=sum(_again(trial) for trial in snapshot.trials),
        attempts=len(attempts),
        interrupted=sum(a.reason != STOP_PAUSED for trial in snapshot.trials for a in trial.attempts[:-1]),
        pruned_steps=spared,
        share_saved=spared / (budget * len(ended)) if ended else 0.0,
        checkpoint_bytes=sum(c.bytes for t in snapshot.trials for c in t.checkpoints),
        steps_per_s=quantile(speeds, 0.5) if speeds else None,
    )


def _slot_hours(trials: Sequence[TrialView]) -> Counter[str]:
    hours: Counter[str] = Counter(gpu=0, cpu=0)
    for attempt in (attempt for trial in trials for attempt in trial.attempts):
        if attempt.ended is not None:
            kind = "gpu" if is_gpu(attempt.slot) else "cpu"
            hours[kind] += (attempt.ended - attempt.started).total_seconds() / 3600  # type: ignore[assignment]
    return hours


def _again(trial: TrialView) -> int:
    pairs = zip(trial.attempts, trial.attempts[1:], strict=False)
    return sum(max(before.last_env_step - after.first_env_step, 0) for before, after in pairs)


def _meta(folder: StudyPaths, top: Sequence[TrialView]) -> dict[str, Any]:
    for trial in top:
        try:
            meta = fs.read_json(TrialPaths(folder.root / str(trial.folder)).meta)
        except (OSError, ValueError):
            continue
        if isinstance(meta, dict):
            return meta
    return {}
