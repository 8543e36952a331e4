"""What a trial of a study trains."""

from __future__ import annotations

from typing import Any

from vbot_campaign.spec.resolve import resolve_training
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.spec.training import Continuation, TrainingSpec
from vbot_campaign.study.queue import QueuedStart
from vbot_campaign.study.snapshot import TrialView


def trial_training(spec: StudySpec, trial: TrialView) -> TrainingSpec:
    """Return what a trial trains: the study's definition at its point, with what the trial has of its own.

    Raises:
        SpecError: Its values do not go together.
    """
    training = resolve_training(spec, trial.parameters)
    own: dict[str, Any] = {"seed": trial.seed, "num_envs": trial.num_envs}
    if trial.start is not None:
        own["continuation"] = _continuation(trial.start)
    return training.model_copy(update={name: value for name, value in own.items() if value is not None})


def _continuation(start: QueuedStart) -> Continuation:
    return Continuation(
        env_steps=start.env_steps,
        schedule=start.schedule,
        schedule_begin=start.schedule_begin,
        schedule_end=start.schedule_end,
        lr_factor=start.lr_factor,
    )
