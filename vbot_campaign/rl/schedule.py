"""How the learning rate moves, epoch by epoch."""

from __future__ import annotations

from typing import Any

import torch

from vbot_campaign.spec.training import PpoSettings

LINEAR_FLOOR = 0.01
"""Smallest share of the first learning rate on the linear schedule."""
KL_FACTOR = 2.0
RATE_FACTOR = 1.5
RATE_RANGE = (1.0e-6, 1.0e-2)


class LearningRateSchedule:
    """The learning rate after every learning epoch, with the rules and constants of skrl.

    ``none`` keeps it. ``linear`` multiplies the first rate with ``max(1 - e / E, 0.01)`` where e counts the epochs so
    far. ``kl_adaptive`` divides it by 1.5 when an epoch's mean KL divergence is above twice the threshold, and
    multiplies it by 1.5 when it is below half of it, between 1e-6 and 1e-2.

    Args:
        settings: Kind, first rate and threshold.
        total_epochs: E: learning epochs in the whole training.
    """

    def __init__(self, settings: PpoSettings, total_epochs: int) -> None:
        self._settings = settings
        self._total_epochs = max(total_epochs, 1)
        self.epochs = 0
        self.learning_rate = settings.learning_rate

    def advance(self, kl: torch.Tensor, epochs: int = 1) -> float:
        """Count epochs and return the next learning rate.

        Args:
            kl: Mean KL divergence of the epoch that was run last, (). Read from the device only by ``kl_adaptive``.
            epochs: How many to count; those that an early stop leaves out count too, so that a linear schedule ends
                with the training.
        """
        self.epochs += epochs
        if self._settings.lr_scheduler_type == "linear":
            share = max(1.0 - self.epochs / self._total_epochs, LINEAR_FLOOR)
            self.learning_rate = self._settings.learning_rate * share
        elif self._settings.lr_scheduler_type == "kl_adaptive":
            self.learning_rate = self._adapt(kl.item())
        return self.learning_rate

    def _adapt(self, kl: float) -> float:
        lowest, highest = RATE_RANGE
        threshold = self._settings.learning_rate_scheduler_kl_threshold
        if kl > threshold * KL_FACTOR:
            return max(self.learning_rate / RATE_FACTOR, lowest)
        if kl < threshold / KL_FACTOR:
            return min(self.learning_rate * RATE_FACTOR, highest)
        return self.learning_rate

    def state_dict(self) -> dict[str, Any]:
        """Return the position as plain numbers."""
        return {"epochs": self.epochs, "learning_rate": self.learning_rate}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a position."""
        self.epochs = int(state["epochs"])
        self.learning_rate = float(state["learning_rate"])
