"""PPO on one environment: collect a rollout, improve the policy, report."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from vbot_campaign.envs.vec_env import StepResult, VecEnv
from vbot_campaign.errors import CheckpointError, SpecError
from vbot_campaign.rl.divergence import require_finite, require_finite_rewards, require_sound_physics
from vbot_campaign.rl.normalization import RunningNormalizer
from vbot_campaign.rl.policy import ActorCritic
from vbot_campaign.rl.ppo import PpoUpdate, UpdateStats
from vbot_campaign.rl.rollout import Batch, RolloutStorage, compute_gae, normalize_advantages
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.training import Part, PpoSettings, WarmStartRules


@dataclass(frozen=True)
class IterationStats:
    """What one iteration did."""

    iteration: int
    """1 for the first."""
    env_steps: int
    """Transitions since the start of the training, over all environments."""
    reward_mean: float
    """Per env step, before any scaling."""
    terms: dict[str, float]
    """Mean weighted value per env step of each reward term."""
    episodes: EpisodeTotals
    """Episodes that finished in this iteration."""
    loss: dict[str, float]
    """Mean weighted terms: policy, value, entropy."""
    kl: float
    learning_rate: float
    """Of the next update."""
    std: float
    """Mean action noise after the update."""
    grad_norm: float
    """Mean, before clipping."""
    seconds: dict[str, float]
    """Wall time of ``environment`` (with physics), ``policy`` (inference) and ``update``. Differs in every run."""


@dataclass
class _Stopwatch:
    """Sums wall time by activity; `lap` charges the time since the last lap."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("environment", "policy", "update"), 0.0))
    _last: float = field(default_factory=time.perf_counter)

    def lap(self, activity: str) -> None:
        now = time.perf_counter()
        self.seconds[activity] += now - self._last
        self._last = now


class Learner:
    """Trains a policy on an environment, iteration by iteration.

    Owns the networks, normalizers, optimizer and random generators, and nothing it does touches torch's global
    generator. `state_dict` holds everything the future depends on: on a CPU with the same thread counts, training
    continued from it in another process gives the same numbers, bit for bit.

    Args:
        env: Steps ``num_envs`` environments together.
        settings: Hyperparameters.
        iterations: Iterations in the whole training; a linear schedule ends there.
        seed: Source of the first weights, the action noise and the order of mini-batches.
        device: Where networks and rollout live; the environment's own device unless given.
        freeze: Parts that do not change: ``policy``, ``value``, ``normalizer``.
        schedule_begin: Env step at which the learning rate's schedule begins.

    Raises:
        SpecError: A rollout has fewer transitions than mini-batches.
    """

    def __init__(
        self,
        env: VecEnv,
        settings: PpoSettings,
        *,
        iterations: int,
        seed: int,
        device: torch.device | str | None = None,
        freeze: Collection[Part] = (),
        schedule_begin: int = 0,
    ) -> None:
        _check_batch_size(env.num_envs, settings)
        self.env = env
        self.settings = settings
        self._schedule_begin = schedule_begin
        self.device = torch.device(env.device if device is None else device)
        self.iteration = 0
        self.env_steps = 0
        init_seed, noise_seed, order_seed = _derive_seeds(seed, 3)
        self.policy = _new_policy(env, settings, init_seed).to(self.device)
        self._noise = torch.Generator(self.device).manual_seed(noise_seed)
        self._order = torch.Generator(self.device).manual_seed(order_seed)
        for name, parameter in self.policy.named_parameters():
            parameter.requires_grad_(_part_of(name) not in freeze)  # without a gradient Adam passes over it
        frozen = settings.freeze_normalizers or "normalizer" in freeze
        self.observation_normalizer = RunningNormalizer(env.observation_size, self.device, frozen=frozen)
        self.value_normalizer = RunningNormalizer(1, self.device, frozen=frozen)
        self._update = PpoUpdate(self.policy, settings, iterations)
        self.storage = RolloutStorage(
            settings.rollouts, env.num_envs, env.observation_size, env.action_size, self.device
        )
        """The rollout of the last iteration."""
        self._started = False
        self._observations = torch.empty(0)

    def iterate(self) -> IterationStats:
        """Take ``rollouts`` steps in every environment and update the policy once.

        Raises:
            DivergedError: Physics, rewards, loss or weights are not finite; the networks are of no use any more.
        """
        self.iteration += 1
        stopwatch = _Stopwatch()
        reward_mean = self._collect(stopwatch)
        numbers = self._read(reward_mean, self._learn())
        stopwatch.lap("update")
        self.env_steps += self.storage.rewards.numel()
        return self._stats(numbers, stopwatch.seconds)

    @torch.no_grad()
    def _collect(self, stopwatch: _Stopwatch) -> torch.Tensor:
        # Returns the mean unscaled reward per env step, ().
        observations = self._observations if self._started else self.env.reset()
        reward_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        stopwatch.lap("environment")
        for step in range(self.settings.rollouts):
            actions = self._act(step, observations.to(self.device))
            stopwatch.lap("policy")
            result = self.env.step(actions.to(self.env.device))
            stopwatch.lap("environment")
            reward_sum += result.rewards.sum(dtype=torch.float64).to(self.device)
            self._record(step, result)
            observations = result.observations
            stopwatch.lap("policy")
        self._started, self._observations = True, observations
        return reward_sum / self.storage.rewards.numel()

    def _act(self, step: int, observations: torch.Tensor) -> torch.Tensor:
        storage = self.storage
        inputs = self.observation_normalizer.normalize(observations)
        noise = torch.randn(storage.actions.shape[1:], generator=self._noise, device=self.device)
        actions, log_probs = self.policy.act(inputs, noise)
        storage.observations[step] = observations
        storage.actions[step] = actions
        storage.log_probs[step] = log_probs
        storage.values[step] = self._values(inputs)
        return actions

    def _record(self, step: int, result: StepResult) -> None:
        rewards = self.storage.rewards[step]
        torch.mul(result.rewards.to(self.device), self.settings.rewards_shaper_scale, out=rewards)
        if self.settings.time_limit_bootstrap:
            self._bootstrap(rewards, result)
        self.storage.ended[step] = (result.terminated | result.truncated).to(self.device)

    def _bootstrap(self, rewards: torch.Tensor, result: StepResult) -> None:
        # A cut episode would have gone on: its last state's value stands for the rewards that were not collected.
        cut = result.truncated.nonzero().squeeze(-1)
        if len(cut) > 0:
            inputs = self.observation_normalizer.normalize(result.final_observations[cut].to(self.device))
            rewards.index_add_(0, cut.to(self.device), self._values(inputs), alpha=self.settings.discount_factor)

    def _values(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.value_normalizer.denormalize(self.policy.value(inputs))

    def _learn(self) -> torch.Tensor:
        record = self._update.update(self._batch(), self._order)
        # Only now, so that the policy that is updated is the one that acted, down to its normalization.
        self.observation_normalizer.update(self.storage.observations)
        return record

    @torch.no_grad()
    def _batch(self) -> Batch:
        storage, settings = self.storage, self.settings
        last_inputs = self.observation_normalizer.normalize(self._observations.to(self.device))
        returns, advantages = compute_gae(
            storage.rewards,
            storage.values,
            storage.ended,
            self._values(last_inputs),
            discount_factor=settings.discount_factor,
            lambda_param=settings.lambda_param,
        )
        return Batch(
            observations=self.observation_normalizer.normalize(storage.observations).flatten(0, 1),
            actions=storage.actions.flatten(0, 1),
            log_probs=storage.log_probs.flatten(),
            values=self._learn_and_normalize(storage.values),
            returns=self._learn_and_normalize(returns),
            advantages=normalize_advantages(advantages).flatten(),
        )

    def _learn_and_normalize(self, values: torch.Tensor) -> torch.Tensor:
        # Predictions first, returns second, each under the statistics of that moment: the order of skrl.
        column = values.reshape(-1, 1)
        self.value_normalizer.update(column)
        return self.value_normalizer.normalize(column).squeeze(-1)

    @torch.no_grad()
    def _read(self, reward_mean: torch.Tensor, record: torch.Tensor) -> list[float]:
        # The one read of the device in an iteration: all of its numbers at once. A sum is finite where all is.
        observed = self.storage.observations.sum()
        weights = torch.stack([weight.sum() for weight in self.policy.parameters()]).sum()
        finite = [reward_mean, observed.double(), weights.double()]
        more = torch.stack([*finite, self._update.schedule.rate, self.policy.std().double()])
        numbers: list[float] = torch.cat([more, record.double()]).tolist()
        return numbers

    def _stats(self, numbers: list[float], seconds: dict[str, float]) -> IterationStats:
        reward_mean, observed, weights, learning_rate, std, *record = numbers
        terms = self.env.take_term_means()
        require_sound_physics(self.env.take_broken_share(), self.iteration)
        require_finite_rewards(reward_mean, terms, self.iteration)
        require_finite("sum of the observations", observed, self.iteration)
        update = UpdateStats.from_record(record, iteration=self.iteration)
        require_finite("sum of the weights", weights, self.iteration)
        return IterationStats(
            iteration=self.iteration,
            env_steps=self.env_steps,
            reward_mean=reward_mean,
            terms=terms,
            episodes=self.env.take_totals(),
            loss=update.loss,
            kl=update.kl,
            learning_rate=learning_rate,
            std=std,
            grad_norm=update.grad_norm,
            seconds=seconds,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything the future depends on, with the keys of a checkpoint file (`rl.checkpoint`).

        The tensors are the live ones: save them before the next `iterate`.
        """
        weights = self.policy.state_dict()
        return {
            "policy": weights,
            "value": weights,
            "optimizer": self._update.state_dict(),
            "state_preprocessor": self.observation_normalizer.state_dict(),
            "value_preprocessor": self.value_normalizer.state_dict(),
            "vbot_campaign": {
                "counters": {"iteration": self.iteration, "env_steps": self.env_steps},
                "schedule": self._update.schedule.state_dict(),
                "generators": {"noise": self._noise.get_state(), "order": self._order.get_state()},
                "env": self.env.state_dict(),
                "started": self._started,
                # Not computed again: a vectorized function may round differently for another memory layout.
                "observations": self._observations,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly from a `state_dict` of a learner with the same settings.

        With another ``num_envs`` all that was learned goes on, schedule and random numbers too; the robots start anew.

        Raises:
            CheckpointError: It holds a policy only, or networks of other sizes.
        """
        own = state.get("vbot_campaign", {})
        if "env" not in own:
            raise CheckpointError(
                "the checkpoint holds a policy only, without what training needs to continue. "
                "Use an agent_<env_steps>.pt file, or start a new training from it."
            )
        self._take_over(state, WarmStartRules().load)
        self._update.schedule.load_state_dict(own["schedule"])
        self._update.load_state_dict(state["optimizer"])
        self._load_generators(own["generators"], own["counters"])
        self.iteration = int(own["counters"]["iteration"])
        self.env_steps = int(own["counters"]["env_steps"])
        if own["started"] and len(own["observations"]) != self.env.num_envs:
            self._update.schedule.move_to(self._epochs_at(self.env_steps - self._schedule_begin))
            self.env.load_generators(own["env"])
            return
        self.env.load_state_dict(own["env"])
        self._started = bool(own["started"])
        self._observations = own["observations"]

    def _epochs_at(self, env_steps: int) -> int:
        # Learning epochs of the present size that lead to an env step.
        return round(env_steps * self.settings.learning_epochs / self.storage.rewards.numel())

    def _load_generators(self, states: dict[str, torch.Tensor], counters: dict[str, int]) -> None:
        generators = {"noise": self._noise, "order": self._order}
        try:
            for name, generator in generators.items():
                generator.set_state(states[name].cpu())
        except RuntimeError:
            # Written on another kind of device, whose generators are of another kind. Training goes on, no longer bit
            # for bit, with numbers that the same checkpoint always leads to.
            for seed, generator in zip(_derive_seeds(counters["env_steps"], 2), generators.values(), strict=True):
                generator.manual_seed(seed)

    def warm_start(self, state: dict[str, Any], rules: WarmStartRules | None = None) -> None:
        """Take over parts of a checkpoint; all others, and all counters, start anew.

        Args:
            state: Content of a checkpoint as `rl.checkpoint.load` returns it.
            rules: Which; networks and normalizers unless given. What they freeze is an argument of the constructor.

        Raises:
            CheckpointError: Networks or normalizers of other sizes, or it lacks what is to be taken over.
        """
        rules = rules or WarmStartRules()
        self._take_over(state, rules.load)
        if not rules.reset_schedule:
            self._update.begin_at(_rate_share(state))
        if "optimizer" in rules.load:
            _require_own(state, "the optimizer's state", "Leave optimizer out of load.")
            self._update.load_state_dict(state["optimizer"])

    def _take_over(self, state: dict[str, Any], load: Collection[Part]) -> None:
        try:
            weights = {name: tensor for name, tensor in state["policy"].items() if _part_of(name) in load}
            kept = {name: tensor for name, tensor in self.policy.state_dict().items() if _part_of(name) not in load}
            self.policy.load_state_dict({**kept, **weights})
            if "normalizer" in load:
                self.observation_normalizer.load_state_dict(state["state_preprocessor"])
            if "normalizer" in load and "value_preprocessor" in state:
                self.value_normalizer.load_state_dict(state["value_preprocessor"])
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"the checkpoint does not fit this training: {reason}. "
                "Set ppo.policy_hidden_layer_sizes and ppo.value_hidden_layer_sizes to those it was trained with."
            ) from None


def _part_of(parameter: str) -> Part:
    return "value" if parameter.startswith("value_") else "policy"


def _rate_share(state: Mapping[str, Any]) -> float:
    """Return the share of its first learning rate that a training had come down to."""
    _require_own(state, "the position of its learning-rate schedule", "Write reset_schedule: true.")
    own = state["vbot_campaign"]
    return float(own["schedule"]["learning_rate"]) / float(own["settings"]["ppo"]["learning_rate"])


def _require_own(state: Mapping[str, Any], what: str, advice: str) -> None:
    own = state.get("vbot_campaign", {})
    if "schedule" not in own or "settings" not in own or "optimizer" not in state or own.get("trainer") is not None:
        raise CheckpointError(f"the checkpoint does not have {what}: no training of this program wrote it. {advice}")


def _check_batch_size(num_envs: int, settings: PpoSettings) -> None:
    transitions = num_envs * settings.rollouts
    if transitions < settings.mini_batches:
        raise SpecError(
            f"ppo.mini_batches: {settings.mini_batches} is more than the {transitions} transitions of a rollout "
            f"(num_envs {num_envs} x ppo.rollouts {settings.rollouts}). Lower it or raise one of those."
        )


def _derive_seeds(seed: int, count: int) -> list[int]:
    # Drawn instead of counted up, so that neighbouring seeds share no stream.
    numbers = torch.randint(2**63 - 1, (count,), generator=torch.Generator().manual_seed(seed))
    return [int(number) for number in numbers]


def _new_policy(env: VecEnv, settings: PpoSettings, seed: int) -> ActorCritic:
    # PyTorch's initializers draw from the global CPU generator: lend it a seed and put it back.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return ActorCritic(
            env.observation_size,
            env.action_size,
            settings.policy_hidden_layer_sizes,
            settings.value_hidden_layer_sizes,
            settings.initial_log_std,
        )
