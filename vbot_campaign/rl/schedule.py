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

    The position lives on the device, so that an update neither waits for it nor, once captured in a CUDA graph, leaves
    it behind. It is float64: on a CPU, the numbers are those of Python's own arithmetic.

    Args:
        settings: Kind, first rate and threshold.
        total_epochs: E: learning epochs in the whole training.
        device: Where the position lives.
    """

    def __init__(self, settings: PpoSettings, total_epochs: int, device: torch.device | str = "cpu") -> None:
        self._settings = settings
        self._first_rate = settings.learning_rate
        self._total_epochs = max(total_epochs, 1)
        self._epochs = torch.zeros((), dtype=torch.float64, device=device)
        self.rate = torch.tensor(settings.learning_rate, dtype=torch.float64, device=device)
        """The present learning rate, () float64; changed in place."""

    @property
    def learning_rate(self) -> float:
        """The present learning rate. Reads the device."""
        return float(self.rate)

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The position: what `advance` changes in place."""
        return [self._epochs, self.rate]

    def advance(self, kl: torch.Tensor, epochs: int = 1) -> torch.Tensor:
        """Count epochs and return the next learning rate, () float64, without reading the device.

        Args:
            kl: Mean KL divergence of the epoch that was run last, ().
            epochs: How many to count; those that an early stop leaves out count too, so that a linear schedule ends
                with the training.
        """
        self._epochs += epochs
        if self._settings.lr_scheduler_type == "linear":
            share = (1.0 - self._epochs / self._total_epochs).clamp_min(LINEAR_FLOOR)
            self.rate.copy_(self._first_rate * share)
        elif self._settings.lr_scheduler_type == "kl_adaptive":
            self.rate.copy_(self._adapted(kl.double()))
        return self.rate

    def _adapted(self, kl: torch.Tensor) -> torch.Tensor:
        lowest, highest = RATE_RANGE
        threshold = self._settings.learning_rate_scheduler_kl_threshold
        slower = (self.rate / RATE_FACTOR).clamp_min(lowest)
        faster = (self.rate * RATE_FACTOR).clamp_max(highest)
        # Comparisons with a KL divergence that is not a number are false and keep the rate.
        otherwise = torch.where(kl < threshold / KL_FACTOR, faster, self.rate)
        return torch.where(kl > threshold * KL_FACTOR, slower, otherwise)

    def state_dict(self) -> dict[str, Any]:
        """Return the position as plain numbers. Reads the device."""
        return {"epochs": int(self._epochs), "learning_rate": self.learning_rate, "first_rate": self._first_rate}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a position."""
        self._first_rate = float(state.get("first_rate", self._settings.learning_rate))
        self._epochs.fill_(int(state["epochs"]))
        self.rate.fill_(float(state["learning_rate"]))

    def begin_at(self, share: float) -> None:
        """Begin at a share of the learning rate of the settings; what moves it moves it from there."""
        self._first_rate = self._settings.learning_rate * share
        self.rate.fill_(self._first_rate)

    def move_to(self, epochs: int) -> None:
        """Go on as after so many epochs of the present size; the rate stays until the next one."""
        self._epochs.fill_(epochs)
