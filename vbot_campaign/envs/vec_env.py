"""What a learner needs of an environment: many copies, stepped together, resetting themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from vbot_campaign.spec.outcomes import EpisodeTotals


@dataclass(frozen=True)
class StepResult:
    """What one step returned. Tensors stay valid until the next call of `VecEnv.step`."""

    observations: torch.Tensor
    """Float32, (num_envs, observation_size); for an environment that was just reset, the new episode's first."""
    rewards: torch.Tensor
    """Float32, (num_envs,)."""
    terminated: torch.Tensor
    """Bool, (num_envs,): the episode ended in a state without a future (a fall)."""
    truncated: torch.Tensor
    """Bool, (num_envs,): the episode was cut (clock, success); never both."""
    final_observations: torch.Tensor
    """Float32, (num_envs, observation_size): before any reset, so that a cut episode can be bootstrapped."""


class VecEnv(Protocol):
    """Many environments of one kind, stepped together on one device.

    An environment whose episode ended is reset inside the same step.
    """

    num_envs: int
    observation_size: int
    action_size: int
    device: torch.device

    def reset(self) -> torch.Tensor:
        """Start a new episode everywhere and return observations, (num_envs, observation_size) float32."""
        ...

    def step(self, actions: torch.Tensor) -> StepResult:
        """Take one control step with actions of shape (num_envs, action_size)."""
        ...

    def take_totals(self) -> EpisodeTotals:
        """Return the totals of the episodes finished since the last call, and start again from zero."""
        ...

    def take_term_means(self) -> dict[str, float]:
        """Return each reward term's mean weighted value per env step since the last call; they sum to the reward."""
        ...

    def take_broken_share(self) -> float:
        """Return the share of env steps since the last call that left a robot in a state that no robot can be in."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything the future depends on, as tensors and plain numbers (`torch.load(weights_only=True)`)."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly from a `state_dict` of an environment with the same settings."""
        ...

    def load_generators(self, state: dict[str, Any]) -> None:
        """Go on with the random numbers of a `state_dict` of an environment with another ``num_envs``.

        Nothing else of it is taken over; call `reset` next.
        """
        ...

    def observe(self) -> torch.Tensor:
        """Return the current observations without stepping, (num_envs, observation_size) float32."""
        ...

    def count_first_episodes_only(self) -> None:
        """From the next `reset` on, count only the first episode of each environment in `take_totals`.

        Totals collected so far are dropped. For evaluations: there is no way back.
        """
        ...

    def all_first_episodes_done(self) -> bool:
        """Tell whether every environment has finished its first episode since the last `reset`."""
        ...
