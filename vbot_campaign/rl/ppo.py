"""The PPO update (Schulman et al. 2017, arXiv 1707.06347) with skrl's loss terms and names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import nn

from vbot_campaign.errors import DivergedError
from vbot_campaign.rl.policy import ActorCritic
from vbot_campaign.rl.schedule import LearningRateSchedule
from vbot_campaign.spec.training import PpoSettings

_ROW = ("policy loss", "value loss", "entropy loss", "gradient norm")
"""What is kept of every gradient step."""


@dataclass(frozen=True)
class Batch:
    """Transitions to learn from: a whole rollout, or a mini-batch of it. All contiguous."""

    observations: torch.Tensor
    """Normalized, (batch, observation_size)."""
    actions: torch.Tensor
    """(batch, action_size)."""
    log_probs: torch.Tensor
    """Of the actions under the policy that took them, (batch,)."""
    values: torch.Tensor
    """Predicted before the step, in normalized units, (batch,)."""
    returns: torch.Tensor
    """In normalized units, (batch,)."""
    advantages: torch.Tensor
    """Normalized over the rollout, (batch,)."""

    def __len__(self) -> int:
        return self.advantages.shape[0]

    def select(self, indices: torch.Tensor) -> Batch:
        """Return a copy of the transitions ``indices``, (n,)."""
        return Batch(*(getattr(self, field.name).index_select(0, indices) for field in fields(self)))


@dataclass(frozen=True)
class LossParts:
    """The weighted terms of the loss, each (). Their sum is minimized."""

    policy: torch.Tensor
    value: torch.Tensor
    entropy: torch.Tensor
    kl: torch.Tensor
    """Approximate KL divergence from the policy that took the actions; not part of the loss, no gradient."""

    @property
    def total(self) -> torch.Tensor:
        """The loss, ()."""
        return self.policy + self.value + self.entropy


@dataclass(frozen=True)
class UpdateStats:
    """Means over the gradient steps of one update."""

    policy: float
    value: float
    entropy: float
    kl: float
    """Mean over the last epoch: how far the update went from the policy that took the actions."""
    grad_norm: float
    """Before clipping."""
    gradient_steps: int

    @property
    def loss(self) -> dict[str, float]:
        """The weighted loss terms by name."""
        return {"policy": self.policy, "value": self.value, "entropy": self.entropy}


def ppo_loss(policy: ActorCritic, batch: Batch, settings: PpoSettings) -> LossParts:
    """Compute the loss of a mini-batch; depends on nothing but its arguments.

    Args:
        policy: Networks to differentiate.
        batch: The mini-batch.
        settings: Clip ranges and weights.
    """
    log_ratio = policy.log_prob(policy.mean(batch.observations), batch.actions) - batch.log_probs
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - settings.ratio_clip, 1.0 + settings.ratio_clip)
    surrogate = torch.min(batch.advantages * ratio, batch.advantages * clipped)
    with torch.no_grad():
        # Estimator k3 of http://joschu.net/blog/kl-approx.html: never negative, little variance.
        kl = (ratio - 1.0 - log_ratio).mean()
    return LossParts(
        policy=-surrogate.mean(),
        value=settings.value_loss_scale * _value_error(policy.value(batch.observations), batch, settings),
        entropy=-settings.entropy_loss_scale * policy.entropy(),
        kl=kl,
    )


def _value_error(predicted: torch.Tensor, batch: Batch, settings: PpoSettings) -> torch.Tensor:
    # As in skrl, a prediction that moved further than the clip range has no gradient at all; other libraries take
    # the larger of the clipped and the unclipped error.
    if settings.clip_predicted_values:
        moved = (predicted - batch.values).clamp(-settings.value_clip, settings.value_clip)
        predicted = batch.values + moved
    return nn.functional.mse_loss(predicted, batch.returns)


class PpoUpdate:
    """Improves a policy from one batch after another.

    One Adam over all parameters, whose gradients are clipped together. The device is read once per update, plus once
    per epoch for the ``kl_adaptive`` schedule and once per mini-batch where ``kl_threshold`` is set.

    Args:
        policy: Networks to train.
        settings: Hyperparameters.
        iterations: Updates in the whole training; the linear schedule ends there.
    """

    def __init__(self, policy: ActorCritic, settings: PpoSettings, iterations: int) -> None:
        self.policy = policy
        self.settings = settings
        self.schedule = LearningRateSchedule(settings, iterations * settings.learning_epochs)
        self.optimizer = torch.optim.Adam(policy.parameters(), lr=settings.learning_rate, eps=1e-8, fused=True)
        self._parameters = list(policy.parameters())

    def update(self, batch: Batch, generator: torch.Generator, *, iteration: int) -> UpdateStats:
        """Take ``learning_epochs * mini_batches`` gradient steps.

        Args:
            batch: The whole rollout.
            generator: Source of the mini-batches' order, on the batch's device.
            iteration: Number of the iteration, for messages.

        Raises:
            DivergedError: A loss term or the gradient's norm is not finite.
        """
        rows: list[torch.Tensor] = []
        for epoch in range(self.settings.learning_epochs):
            finished, kl = self._run_epoch(batch, generator, rows)
            epochs = 1 if finished else self.settings.learning_epochs - epoch
            self._set_learning_rate(self.schedule.advance(kl, epochs))
            if not finished:
                break
        return _summarize(rows, kl, iteration)

    def _run_epoch(
        self, batch: Batch, generator: torch.Generator, rows: list[torch.Tensor]
    ) -> tuple[bool, torch.Tensor]:
        kls = []
        for mini_batch in self._mini_batches(batch, generator):
            loss = ppo_loss(self.policy, mini_batch, self.settings)
            kls.append(loss.kl)
            # The first step of all is taken whatever the KL says, so that an update always learns something.
            if rows and 0 < self.settings.kl_threshold < loss.kl.item():
                return False, torch.stack(kls).mean()
            grad_norm = self._step(loss.total)
            rows.append(torch.stack([loss.policy, loss.value, loss.entropy, grad_norm]).detach())
        return True, torch.stack(kls).mean()

    def _mini_batches(self, batch: Batch, generator: torch.Generator) -> Iterator[Batch]:
        order = torch.randperm(len(batch), generator=generator, device=batch.advantages.device)
        for indices in order.tensor_split(self.settings.mini_batches):
            yield batch.select(indices)

    def _step(self, loss: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        # Without clipping the limit is infinite, and only the norm is computed.
        limit = self.settings.grad_norm_clip or math.inf
        grad_norm = nn.utils.clip_grad_norm_(self._parameters, limit)
        self.optimizer.step()
        return grad_norm

    def _set_learning_rate(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate


def _summarize(rows: list[torch.Tensor], kl: torch.Tensor, iteration: int) -> UpdateStats:
    # The one read of the device: all gradient steps at once, and the KL divergence as one more row.
    table = torch.stack([*rows, kl.expand(len(_ROW))]).tolist()
    steps, last_kl = table[:-1], table[-1][0]
    for step in steps:
        _require_finite(step, iteration)
    policy, value, entropy, grad_norm = (sum(column) / len(steps) for column in zip(*steps, strict=True))
    return UpdateStats(policy, value, entropy, last_kl, grad_norm, len(steps))


def _require_finite(step: list[float], iteration: int) -> None:
    for name, number in zip(_ROW, step, strict=True):
        if not math.isfinite(number):
            raise DivergedError(
                f"iteration {iteration}: the {name} is {number}, not a finite number. "
                "Lower ppo.learning_rate, or check the environment for rewards and observations that are not finite."
            )
