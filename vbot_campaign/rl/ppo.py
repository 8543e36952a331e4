"""The PPO update (Schulman et al. 2017, arXiv 1707.06347) with skrl's loss terms and names."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from vbot_campaign.rl.adam import EagerAdam
from vbot_campaign.rl.captured_update import Capture, CapturedUpdate, capture_cuda_graph
from vbot_campaign.rl.divergence import require_finite
from vbot_campaign.rl.policy import ActorCritic
from vbot_campaign.rl.rollout import Batch
from vbot_campaign.rl.schedule import LearningRateSchedule
from vbot_campaign.spec.training import PpoSettings

_ROW = ("policy loss", "value loss", "entropy loss", "gradient norm")
"""What is kept of every gradient step."""

_log = logging.getLogger(__name__)


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

    @classmethod
    def from_record(cls, record: list[float], *, iteration: int) -> UpdateStats:
        """Read what `PpoUpdate.update` left on the device.

        Args:
            record: Its numbers.
            iteration: Number of the iteration, for messages.

        Raises:
            DivergedError: A loss term or the gradient's norm is not finite.
        """
        *flat, kl = record
        steps = [flat[start : start + len(_ROW)] for start in range(0, len(flat), len(_ROW))]
        for step in steps:
            for name, number in zip(_ROW, step, strict=True):
                require_finite(name, number, iteration)
        policy, value, entropy, grad_norm = (sum(column) / len(steps) for column in zip(*steps, strict=True))
        return cls(policy, value, entropy, kl, grad_norm, len(steps))


def ppo_loss(policy: ActorCritic, batch: Batch, settings: PpoSettings) -> LossParts:
    """Compute the loss of a mini-batch; depends on nothing but its arguments.

    With ``mixed_precision`` the hidden layers, which are nearly all of the work, multiply in bfloat16. The output
    layers, everything behind them, the weights and their gradients are float32 all the same.

    Args:
        policy: Networks to differentiate.
        batch: The mini-batch.
        settings: Clip ranges and weights.
    """
    mean, value = _forward(policy, batch.observations, settings)
    log_ratio = policy.log_prob(mean, batch.actions) - batch.log_probs
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - settings.ratio_clip, 1.0 + settings.ratio_clip)
    surrogate = torch.min(batch.advantages * ratio, batch.advantages * clipped)
    with torch.no_grad():
        # Estimator k3 of http://joschu.net/blog/kl-approx.html: never negative, little variance.
        kl = (ratio - 1.0 - log_ratio).mean()
    return LossParts(
        policy=-surrogate.mean(),
        value=settings.value_loss_scale * _value_error(value, batch, settings),
        entropy=-settings.entropy_loss_scale * policy.entropy(),
        kl=kl,
    )


def _forward(
    policy: ActorCritic, observations: torch.Tensor, settings: PpoSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    # Mean actions (batch, action_size) and values (batch,) of the type of the observations.
    with _autocast(observations.device, settings):
        features = policy.policy_net(observations), policy.value_net(observations)
    for_mean, for_value = (each.to(observations.dtype) for each in features)
    return policy.mean_layer(for_mean), policy.value_layer(for_value).squeeze(-1)


def _autocast(device: torch.device, settings: PpoSettings) -> torch.autocast:
    # No cache of cast weights: each is used once per pass, and a CUDA graph must not hold on to one.
    return torch.autocast(device.type, torch.bfloat16, enabled=settings.mixed_precision, cache_enabled=False)


@torch.no_grad()
def with_log_probs_of(policy: ActorCritic, batch: Batch, settings: PpoSettings) -> Batch:
    """Return the batch with the log-probabilities that `ppo_loss` finds before the first gradient step.

    Actions are chosen in float32, because that is the policy that is evaluated and shipped. In bfloat16 the same
    weights give other means: with trained policies, logarithms of the ratio differed by 0.05 (standard deviation) and
    by 0.4 at most before anything was learned, which is clipped and passes for a KL divergence. So both sides of the
    ratio come from the same arithmetic, and it is one before the first gradient step, as it has to be. What that
    leaves out is the ratio of the two arithmetics, which no gradient step changes and whose mean is one.
    """
    with _autocast(batch.observations.device, settings):
        features = policy.policy_net(batch.observations)
    mean = policy.mean_layer(features.to(batch.observations.dtype))
    return replace(batch, log_probs=policy.log_prob(mean, batch.actions))


def _value_error(predicted: torch.Tensor, batch: Batch, settings: PpoSettings) -> torch.Tensor:
    # As in skrl, a prediction that moved further than the clip range has no gradient at all; other libraries take
    # the larger of the clipped and the unclipped error.
    if settings.clip_predicted_values:
        moved = (predicted - batch.values).clamp(-settings.value_clip, settings.value_clip)
        predicted = batch.values + moved
    return nn.functional.mse_loss(predicted, batch.returns)


class PpoUpdate:
    """Improves a policy from one batch after another.

    One Adam over all parameters, whose gradients are clipped together. Nothing in an update waits for the device, and
    on a GPU all of it is one CUDA graph. The exception is ``kl_threshold``: to end early, the divergence is read once
    per mini-batch, and the update is not captured.

    Args:
        policy: Networks to train, on their device.
        settings: Hyperparameters.
        iterations: Updates in the whole training; the linear schedule ends there.
        capture: What records an update once so that it can be replayed; None takes every step anew. On a GPU a CUDA
            graph unless given.
    """

    def __init__(
        self, policy: ActorCritic, settings: PpoSettings, iterations: int, *, capture: Capture | None = None
    ) -> None:
        self.policy = policy
        self.settings = settings
        device = policy.log_std_parameter.device
        self._on_gpu = device.type == "cuda"
        self.schedule = LearningRateSchedule(settings, iterations * settings.learning_epochs, device)
        # Adam's kernel reads float32 on a GPU; on a CPU it takes the number as it is.
        rate = self.schedule.rate.to(torch.float32 if self._on_gpu else torch.float64, copy=True)
        self.optimizer = EagerAdam(policy.parameters(), lr=rate, eps=1e-8, fused=True)
        self._parameters = list(policy.parameters())
        self.capture = capture or (capture_cuda_graph if self._on_gpu else None)
        """See the argument; None switches it off."""
        self._captured: CapturedUpdate | None = None

    def update(self, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        """Take ``learning_epochs * mini_batches`` gradient steps.

        Args:
            batch: The whole rollout.
            generator: Source of the mini-batches' order, on the batch's device.

        Returns:
            Numbers for `UpdateStats.from_record`, still on the device; valid until the next update.
        """
        orders = self._orders(len(batch), generator)
        if self.capture is None or self.settings.kl_threshold > 0:
            return self._run(batch, orders)
        drawn = torch.stack(list(orders))
        if self._captured is None:
            self._captured = self._try_capture(self.capture, batch, drawn)
        return self._captured.replay(batch, drawn) if self._captured else self._run(batch, drawn.unbind())

    def _orders(self, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        # Drawn as they are needed, so that an update that ends early leaves the rest of the stream alone.
        for _ in range(self.settings.learning_epochs):
            yield torch.randperm(size, generator=generator, device=generator.device)

    def _try_capture(self, capture: Capture, batch: Batch, orders: torch.Tensor) -> CapturedUpdate | None:
        try:
            return CapturedUpdate(self._run, batch, orders, self._state_tensors, capture)
        except RuntimeError as error:
            # Slower, and right all the same: no reason to lose a training over a driver that will not capture.
            _log.warning("the update cannot be captured (%s); going on without", error)
            self.capture = None
            return None

    def _run(self, batch: Batch, orders: Iterable[torch.Tensor]) -> torch.Tensor:
        if self.settings.mixed_precision:
            batch = with_log_probs_of(self.policy, batch, self.settings)
        rows: list[torch.Tensor] = []
        for epoch, order in enumerate(orders):
            finished, kl = self._run_epoch(batch, order, rows)
            epochs = 1 if finished else self.settings.learning_epochs - epoch
            self._learning_rate.copy_(self.schedule.advance(kl, epochs))
            if not finished:
                break
        return torch.cat([*rows, kl.unsqueeze(0)])

    def _run_epoch(self, batch: Batch, order: torch.Tensor, rows: list[torch.Tensor]) -> tuple[bool, torch.Tensor]:
        kls = []
        for mini_batch in self._mini_batches(batch, order):
            loss = ppo_loss(self.policy, mini_batch, self.settings)
            kls.append(loss.kl)
            # The first step of all is taken whatever the KL says, so that an update always learns something.
            if rows and 0 < self.settings.kl_threshold < loss.kl.item():
                return False, torch.stack(kls).mean()
            grad_norm = self._step(loss.total)
            rows.append(torch.stack([loss.policy, loss.value, loss.entropy, grad_norm]).detach())
        return True, torch.stack(kls).mean()

    def _mini_batches(self, batch: Batch, order: torch.Tensor) -> Iterator[Batch]:
        for indices in order.tensor_split(self.settings.mini_batches):
            yield batch.select(indices)

    def _step(self, loss: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        # Without clipping the limit is infinite, and only the norm is computed.
        limit = self.settings.grad_norm_clip or math.inf
        grad_norm = nn.utils.clip_grad_norm_(self._parameters, limit)
        if self._on_gpu:
            # Adam wants this flag while it is captured and warns of it at any other time; the kernel is the same.
            self.optimizer.param_groups[0]["capturable"] = torch.cuda.is_current_stream_capturing()
        self.optimizer.step()
        return grad_norm

    @property
    def _learning_rate(self) -> torch.Tensor:
        rate: torch.Tensor = self.optimizer.param_groups[0]["lr"]
        return rate

    def _state_tensors(self) -> list[torch.Tensor]:
        # All that an update changes in place.
        moments = [tensor for state in self.optimizer.state.values() for tensor in state.values()]
        return [*self._parameters, *moments, self._learning_rate, *self.schedule.tensors]

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state, the same on every device. Its tensors are the live ones."""
        state = self.optimizer.state_dict()
        plain = {"lr": self.schedule.learning_rate, "capturable": False}
        return {**state, "param_groups": [{**group, **plain} for group in state["param_groups"]]}

    def begin_at(self, share: float) -> None:
        """Begin at a share of the learning rate of the settings; only before the first update."""
        self.schedule.begin_at(share)
        self._learning_rate.copy_(self.schedule.rate)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`, of whatever device. The learning rate is that of `schedule`: load it first."""
        own = self.optimizer.state_dict()
        # Options such as the rate's tensor stay as made here; new moments end what was captured with the old ones.
        self.optimizer.load_state_dict({**own, "state": copy.deepcopy(state["state"])})
        self._learning_rate.copy_(self.schedule.rate)
        self._captured = None
