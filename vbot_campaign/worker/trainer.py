"""What trains an attempt, and how it is found by its name."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vbot_campaign.errors import SpecError
from vbot_campaign.events import Result
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.trainable import require
from vbot_campaign.spec.trainer import ENTRY_POINT_GROUP, trainer_entry_point, trainer_problems
from vbot_campaign.spec.training import CommandTrainer, TrialSpec
from vbot_campaign.worker.signals import StopSignal


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows."""

    env_steps: int
    budget: int
    score: float | None
    """Score of the training episodes at the last point of the grid."""
    env_steps_per_s: float


class Trainer(Protocol):
    """Trains one attempt in its folder, and resumes it from what an earlier attempt left there.

    Its caller (`worker.attempt`) holds the folder's lock, catches the first SIGTERM, and writes ``result.json`` from
    what `run` returns or raises. Everything else in the folder is the trainer's.
    """

    @property
    def env_steps(self) -> int:
        """Transitions so far, over all environments and attempts."""

    @property
    def iteration(self) -> int:
        """Iterations so far."""

    @property
    def last_checkpoint(self) -> str | None:
        """Name of the newest checkpoint to continue from."""

    def run(self, on_progress: Callable[[Progress], None] | None = None) -> Result:
        """Train to the end of the budget or until asked to stop.

        Args:
            on_progress: Called after every iteration.

        Raises:
            DivergedError: Loss, weights or physics are not finite any more.
            CampaignError: The configuration cannot be trained.
        """


TrainerFactory = Callable[[TrialPaths, TrialSpec, StopSignal], Trainer]
"""What an entry point names: the folder, what to train, and whether a signal asked to stop."""


def load_trainer(trainer: str | CommandTrainer) -> TrainerFactory:
    """Import the trainer that ``trial.json`` names.

    Raises:
        SpecError: There is none of that name, its package is missing or broken, or it is a command.
    """
    if isinstance(trainer, CommandTrainer):
        where = f"cd {shlex.quote(str(trainer.folder or '.'))} && {shlex.join(trainer.command)} TRIAL_DIR"
        raise SpecError(f"trainer: this trial is trained by a command of its own. Run it by hand with: {where}")
    require(trainer_problems(trainer))
    if trainer == "builtin":
        from vbot_campaign.worker.training import Training

        return Training
    if trainer == "skrl":
        from vbot_campaign.worker.trainers.skrl_ppo import SkrlTraining

        return SkrlTraining
    return _load_entry_point(trainer)


def _load_entry_point(name: str) -> TrainerFactory:
    point = trainer_entry_point(name)
    if point is None:
        raise SpecError(f"trainer: '{name}' is not installed here any more.")
    try:
        factory: TrainerFactory = point.load()
    except (ImportError, AttributeError) as error:
        where = f"entry point '{name}' of {ENTRY_POINT_GROUP}"
        raise SpecError(f"trainer: {where} cannot be loaded: {error}. Install its package again.") from error
    return factory
