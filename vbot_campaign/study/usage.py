"""What the attempts of a study used of its slots."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from vbot_campaign.spec.study import WorkerSettings
from vbot_campaign.study.snapshot import AttemptView, TrialView

RAY = "ray:"
"""What the names of slots on a Ray cluster begin with."""


def is_gpu(slot: str) -> bool:
    """Tell whether a slot is a GPU or a share of one."""
    return slot.removeprefix(RAY).startswith("gpu")


def gpu_hours(workers: WorkerSettings, attempt: AttemptView, now: datetime) -> float:
    """Return the GPU-hours of an attempt; a slot that is a share of a GPU counts as that share.

    Args:
        workers: For how many share a GPU.
        attempt: The attempt.
        now: Where one that has not ended counts to.
    """
    return _hours(attempt, now) / workers.slots_per_gpu if is_gpu(attempt.slot) else 0.0


def total_gpu_hours(workers: WorkerSettings, trials: Iterable[TrialView], now: datetime) -> float:
    """Return the GPU-hours of all attempts."""
    return sum(gpu_hours(workers, attempt, now) for trial in trials for attempt in trial.attempts)


def _hours(attempt: AttemptView, now: datetime) -> float:
    return ((attempt.ended or now) - attempt.started).total_seconds() / 3600.0
