"""What several mirrors say about one trial, as plain rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from vbot_campaign.paths import StudyPaths
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.study.snapshot import AttemptView, CheckpointView, TrialState, TrialView, WarmStartView

_STATUS = {TrialState.COMPLETE: "completed"}


def experiment_id(study: str, trial: int) -> str:
    """Return the name of a trial that is unique over studies."""
    return f"{study}_trial_{trial:04d}"


def status(state: TrialState) -> str:
    """Return a state in the word that readers of the YAML files look for: a complete trial is ``completed``."""
    return _STATUS.get(state, state.value)


def score(trial: TrialView) -> float | None:
    """Return a trial's score; a failed trial has none, whatever it reported before."""
    return None if trial.state is TrialState.FAILED else trial.score


def metrics(trial: TrialView) -> dict[str, float]:
    """Return what a trial achieved, in natural units; empty when it failed or has reported nothing yet."""
    if trial.state is TrialState.FAILED or not trial.parts:
        return {}
    parts = dict(trial.parts)
    if "episode_length" in parts:
        parts["episode_length_mean"] = parts.pop("episode_length")
    if "survival_rate" in parts:
        parts["termination_rate"] = 1.0 - parts["survival_rate"]
    return parts


def outcomes(trial: TrialView) -> dict[str, float]:
    """Return the share of each outcome in the evaluation; empty without one."""
    if trial.state is TrialState.FAILED or not trial.evaluation:
        return {}
    return EpisodeTotals.from_dict(trial.evaluation).rates() or {}


def hours(trial: TrialView) -> float | None:
    """Return the hours that a trial's ended attempts took together, or None before the first one ended."""
    spans = [span for attempt in trial.attempts if (span := span_hours(attempt)) is not None]
    return round(sum(spans), 6) if spans else None


def span_hours(attempt: AttemptView) -> float | None:
    """Return the hours that an attempt took, or None while it lasts."""
    # Six decimals are four milliseconds.
    return round((attempt.ended - attempt.started).total_seconds() / 3600, 6) if attempt.ended is not None else None


def best_checkpoint(trial: TrialView) -> CheckpointView | None:
    """Return the trial's best policy, or its latest checkpoint where none was chosen."""
    best = [checkpoint for checkpoint in trial.checkpoints if checkpoint.kind == "best"]
    return max(best or trial.checkpoints, key=lambda checkpoint: checkpoint.env_steps, default=None)


def warm_start(paths: StudyPaths, start: WarmStartView | None) -> dict[str, Any] | None:
    """Return what every trial of a study starts from, with the path of the study's copy; None for random weights."""
    if start is None:
        return None
    return {"path": paths.warm_start.relative_to(paths.root).as_posix(), **asdict(start)}


def attempt_rows(trial: TrialView) -> list[dict[str, Any]]:
    """Return a trial's attempts, without what identifies a process."""
    return [
        {
            "attempt": attempt.number,
            "slot": attempt.slot,
            "host": attempt.host,
            "started_at": attempt.started,
            "ended_at": attempt.ended,
            "duration_hours": span_hours(attempt),
            "reason": attempt.reason,
            "exit_code": attempt.exit_code,
            "first_env_step": attempt.first_env_step,
            "last_env_step": attempt.last_env_step,
            "memory_peak_mb": attempt.memory_peak_mb,
        }
        for attempt in trial.attempts
    ]
