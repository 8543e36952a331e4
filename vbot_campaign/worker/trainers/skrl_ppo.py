"""skrl's PPO on our environment: its agent, memory, scalers and schedulers; our networks, files and evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import torch
from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from skrl.resources.preprocessors.torch import RunningStandardScaler
from skrl.resources.schedulers.torch import KLAdaptiveLR

from vbot_campaign.envs.vec_env import StepResult, VecEnv
from vbot_campaign.errors import CheckpointError, SpecError
from vbot_campaign.rl.divergence import require_finite, require_finite_rewards, require_sound_physics
from vbot_campaign.rl.learner import IterationStats
from vbot_campaign.rl.normalization import LIMIT
from vbot_campaign.rl.policy import ActorCritic
from vbot_campaign.rl.schedule import LINEAR_FLOOR
from vbot_campaign.spec.training import PpoSettings, TrialSpec, WarmStartRules
from vbot_campaign.worker.training import Training

_LOSSES = {name: f"Loss / {name.title()} loss" for name in ("policy", "value", "entropy")}


class SkrlTraining(Training):
    """Trains an attempt with skrl's PPO."""

    def make_learner(self, env: VecEnv, spec: TrialSpec) -> SkrlLearner:
        """See `Training.make_learner`."""
        training = spec.training
        iterations = training.schedule_iterations
        return SkrlLearner(env, training.ppo, iterations=iterations, seed=training.seed, device=spec.device)


class SkrlModel(GaussianMixin, DeterministicMixin, Model):  # type: ignore[misc]
    """Our networks as a model of skrl with two roles, ``policy`` and ``value``."""

    def __init__(self, networks: ActorCritic, device: torch.device) -> None:
        spaces = {"observation_space": _box(networks.observation_size), "action_space": _box(networks.action_size)}
        Model.__init__(self, **spaces, device=device)
        GaussianMixin.__init__(self, role="policy")
        DeterministicMixin.__init__(self, role="value")
        self.networks = networks

    def act(self, inputs: dict[str, Any], *, role: str = "") -> tuple[torch.Tensor, dict[str, Any]]:
        """Return actions or values, as skrl asks for the role."""
        mixin = GaussianMixin if role == "policy" else DeterministicMixin
        output: tuple[torch.Tensor, dict[str, Any]] = mixin.act(self, inputs, role=role)
        return output

    def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[torch.Tensor, dict[str, Any]]:
        """Return mean actions (batch, action_size) or values (batch, 1)."""
        observations = inputs["observations"]
        if role == "policy":
            return self.networks.mean(observations), {"log_std": self.networks.log_std_parameter}
        return self.networks.value(observations).unsqueeze(-1), {}


class FrozenScaler(RunningStandardScaler):  # type: ignore[misc]
    """skrl's scaler without learning."""

    def forward(self, x: torch.Tensor | None, *, train: bool = False, **others: Any) -> torch.Tensor | None:
        """Scale; ``train`` is ignored."""
        scaled: torch.Tensor | None = super().forward(x, **others)
        return scaled


class SkrlLearner:
    """Trains a policy with skrl's PPO, iteration by iteration, behind the methods of `rl.learner.Learner`.

    Everything of an update is skrl's. The loop around it is not one of skrl's trainers, because those keep one next
    observation for each transition; where an episode ended they would value the new episode's first state in place of
    the old one's last.

    skrl draws from torch's global generators, so this is for a process of its own.

    Args:
        env: Steps ``num_envs`` environments together.
        settings: Hyperparameters.
        iterations: Iterations in the whole training; a linear schedule ends there.
        seed: Of everything random outside the environment.
        device: Where networks and memory live.
    """

    def __init__(
        self, env: VecEnv, settings: PpoSettings, *, iterations: int, seed: int, device: torch.device | str
    ) -> None:
        self.env = env
        self.device = torch.device(device)
        self.iteration = 0
        self.env_steps = 0
        self._settings = settings
        torch.manual_seed(seed)
        self._networks = ActorCritic(
            env.observation_size,
            env.action_size,
            settings.policy_hidden_layer_sizes,
            settings.value_hidden_layer_sizes,
            settings.initial_log_std,
        )
        model = SkrlModel(self._networks, self.device)
        self.agent = PPO(
            models={"policy": model, "value": model},
            memory=RandomMemory(memory_size=settings.rollouts, num_envs=env.num_envs, device=self.device),
            observation_space=model.observation_space,
            action_space=model.action_space,
            device=self.device,
            cfg=skrl_settings(settings, env.observation_size, iterations=iterations, device=self.device),
        )
        self.agent.init()
        self.agent.enable_training_mode(True)
        self._scalers = {
            "state_preprocessor": self.agent._observation_preprocessor,
            "value_preprocessor": self.agent._value_preprocessor,
        }
        self._observations: torch.Tensor | None = None

    def iterate(self) -> IterationStats:
        """Take ``rollouts`` steps in every environment and let skrl update the policy once.

        Raises:
            DivergedError: A loss or a weight is not finite; the networks are of no use any more.
        """
        self.iteration += 1
        seconds = dict.fromkeys(("environment", "policy", "update"), 0.0)
        observations = self.env.reset() if self._observations is None else self._observations
        rewards = torch.zeros((), dtype=torch.float64)
        for step in range(self._settings.rollouts):
            result = self._step(step, observations.to(self.device), seconds)
            rewards += result.rewards.sum(dtype=torch.float64).cpu()
            observations = result.observations
        self._observations = observations
        steps = self._settings.rollouts * self.env.num_envs
        self.env_steps += steps
        return self._stats(rewards.item() / steps, seconds)

    def _step(self, step: int, observations: torch.Tensor, seconds: dict[str, float]) -> StepResult:
        started = time.perf_counter()
        moment = {"timestep": step, "timesteps": self._settings.rollouts}
        with torch.no_grad():
            actions, _ = self.agent.act(observations, None, **moment)
            acted = time.perf_counter()
            result = self.env.step(actions.to(self.env.device))
            stepped = time.perf_counter()
            self._record(observations, actions, result, moment)
        recorded = time.perf_counter()
        self.agent.post_interaction(**moment)  # the update, when the memory is full
        seconds["environment"] += stepped - acted
        seconds["policy"] += acted - started + recorded - stepped
        seconds["update"] += time.perf_counter() - recorded
        return result

    def _record(
        self, observations: torch.Tensor, actions: torch.Tensor, result: StepResult, moment: dict[str, int]
    ) -> None:
        terminated, truncated = result.terminated, result.truncated
        if not self._settings.time_limit_bootstrap:
            # Without it skrl lets advantages flow over a cut into the next episode; a fall keeps them apart.
            terminated, truncated = terminated | truncated, torch.zeros_like(truncated)
        self.agent.record_transition(
            observations=observations,
            states=None,
            actions=actions,
            # A copy, because skrl adds to it in place.
            rewards=result.rewards.to(self.device, copy=True).unsqueeze(-1),
            next_observations=result.final_observations.to(self.device),
            next_states=None,
            terminated=terminated.to(self.device).unsqueeze(-1),
            truncated=truncated.to(self.device).unsqueeze(-1),
            infos={},
            **moment,
        )

    def _require_finite(self, reward_mean: float, terms: dict[str, float]) -> None:
        require_sound_physics(self.env.take_broken_share(), self.iteration)
        require_finite_rewards(reward_mean, terms, self.iteration)
        for tag, values in self.agent.tracking_data.items():
            if tag.startswith("Loss"):
                require_finite(tag.partition(" / ")[2], values[-1], self.iteration)
        weights = torch.nn.utils.parameters_to_vector(self._networks.parameters())
        require_finite("sum of the weights", weights.sum().item(), self.iteration)

    def _stats(self, reward_mean: float, seconds: dict[str, float]) -> IterationStats:
        terms = self.env.take_term_means()
        self._require_finite(reward_mean, terms)
        tracked = self.agent.tracking_data
        loss = {name: float(tracked[tag][-1]) if tracked.get(tag) else 0.0 for name, tag in _LOSSES.items()}
        # skrl appends to these lists until its own writer, which is not used here, empties them.
        tracked.clear()
        return IterationStats(
            iteration=self.iteration,
            env_steps=self.env_steps,
            reward_mean=reward_mean,
            terms=terms,
            episodes=self.env.take_totals(),
            loss=loss,
            kl=self._kl(),
            learning_rate=float(self.agent.optimizer.param_groups[0]["lr"]),
            std=self._networks.std().item(),
            grad_norm=math.nan,  # skrl computes it and keeps it to itself
            seconds=seconds,
        )

    @torch.no_grad()
    def _kl(self) -> float:
        """Return how far the update went from the policy that acted, by the estimator that skrl and we use."""
        memory = {name: self.agent.memory.get_tensor_by_name(name) for name in ("observations", "actions", "log_prob")}
        inputs = self.agent._observation_preprocessor(memory["observations"].flatten(0, 1))
        log_prob = self._networks.log_prob(self._networks.mean(inputs), memory["actions"].flatten(0, 1))
        log_ratio = log_prob - memory["log_prob"].flatten()
        return float((log_ratio.exp() - 1.0 - log_ratio).mean().item())

    def state_dict(self) -> dict[str, Any]:
        """Return everything the future depends on, with the keys of a checkpoint file (`rl.checkpoint`)."""
        weights = self._networks.state_dict()
        scheduler = self.agent.scheduler
        return {
            "policy": weights,
            "value": weights,
            "optimizer": self.agent.optimizer.state_dict(),
            **{name: _statistics(scaler) for name, scaler in self._scalers.items()},
            "vbot_campaign": {
                "trainer": "skrl",
                "counters": {"iteration": self.iteration, "env_steps": self.env_steps},
                "schedule": scheduler.state_dict() if scheduler is not None else {},
                "generators": _generator_states(self.device),
                "env": self.env.state_dict(),
                "started": self._observations is not None,
                "observations": torch.empty(0) if self._observations is None else self._observations,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict` of a learner with the same settings, or with another ``num_envs``.

        See `Learner.load_state_dict`.

        Raises:
            CheckpointError: It holds a policy only, or networks of other sizes, or another trainer wrote it.
        """
        own = state.get("vbot_campaign", {})
        if "env" not in own or own.get("trainer") != "skrl":
            raise CheckpointError(
                "the checkpoint is none that skrl's training can continue. Use an agent_<env_steps>.pt file of a "
                "training with trainer skrl, or start a new training from it."
            )
        self.warm_start(state)
        self.agent.optimizer.load_state_dict(state["optimizer"])
        if self.agent.scheduler is not None:
            self.agent.scheduler.load_state_dict(own["schedule"])
        self.iteration = int(own["counters"]["iteration"])
        self.env_steps = int(own["counters"]["env_steps"])
        if own["started"] and len(own["observations"]) != self.env.num_envs:
            self._continue_with_other_num_envs(own["env"])
        else:
            self.env.load_state_dict(own["env"])
            self._observations = own["observations"] if own["started"] else None
        # Last, so that nothing draws from them between here and the next step.
        _set_generator_states(own["generators"], self.device)

    def _continue_with_other_num_envs(self, env_state: dict[str, Any]) -> None:
        self.env.load_generators(env_state)
        if isinstance(self.agent.scheduler, torch.optim.lr_scheduler.LambdaLR):
            # It counts epochs; from here on they are of another size.
            size = self._settings.rollouts * self.env.num_envs
            self.agent.scheduler.last_epoch = round(self.env_steps * self._settings.learning_epochs / size)

    def warm_start(self, state: dict[str, Any], rules: WarmStartRules | None = None) -> None:
        """Take over the networks and normalizers of a checkpoint; the optimizer and all counters start anew.

        Raises:
            CheckpointError: Networks or normalizers of other sizes.
            SpecError: Something else than that is asked for.
        """
        if rules not in (None, WarmStartRules()):
            raise SpecError("warm_start: skrl takes over networks and normalizers as they are; use trainer builtin.")
        try:
            self._networks.load_state_dict(state["policy"])
            for name, scaler in self._scalers.items():
                if name in state:
                    _load_statistics(scaler, state[name])
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"the checkpoint does not fit this training: {reason}. "
                "Set ppo.policy_hidden_layer_sizes and ppo.value_hidden_layer_sizes to those it was trained with."
            ) from None


def skrl_settings(settings: PpoSettings, observation_size: int, *, iterations: int, device: torch.device) -> PPO_CFG:
    """Return skrl's configuration for our settings.

    Args:
        settings: Ours.
        observation_size: Numbers per observation.
        iterations: Updates in the whole training.
        device: Where the scalers live.
    """
    scaler = FrozenScaler if settings.freeze_normalizers else RunningStandardScaler
    schedule, schedule_arguments = _schedule(settings, iterations * settings.learning_epochs)
    scale = settings.rewards_shaper_scale
    cfg = PPO_CFG(
        rollouts=settings.rollouts,
        learning_epochs=settings.learning_epochs,
        mini_batches=settings.mini_batches,
        discount_factor=settings.discount_factor,
        gae_lambda=settings.lambda_param,
        learning_rate=settings.learning_rate,
        learning_rate_scheduler=schedule,
        learning_rate_scheduler_kwargs=schedule_arguments,
        observation_preprocessor=scaler,
        observation_preprocessor_kwargs={"size": observation_size, "device": device},
        value_preprocessor=scaler,
        value_preprocessor_kwargs={"size": 1, "device": device},
        grad_norm_clip=settings.grad_norm_clip,
        ratio_clip=settings.ratio_clip,
        value_clip=settings.value_clip if settings.clip_predicted_values else 0.0,
        entropy_loss_scale=settings.entropy_loss_scale,
        value_loss_scale=settings.value_loss_scale,
        kl_threshold=settings.kl_threshold,
        time_limit_bootstrap=settings.time_limit_bootstrap,
        rewards_shaper=None if scale == 1.0 else lambda rewards, *_: rewards * scale,
    )
    # Curves and checkpoints are ours; skrl only makes up a name here and writes nothing under it.
    cfg.experiment.directory = str(Path.cwd())
    cfg.experiment.write_interval = cfg.experiment.checkpoint_interval = 0
    return cfg


def _schedule(settings: PpoSettings, total_epochs: int) -> tuple[type | None, dict[str, Any]]:
    # skrl steps a schedule once per learning epoch, as ours does (`rl.schedule`).
    if settings.lr_scheduler_type == "kl_adaptive":
        return KLAdaptiveLR, {"kl_threshold": settings.learning_rate_scheduler_kl_threshold}
    if settings.lr_scheduler_type == "linear":
        return torch.optim.lr_scheduler.LambdaLR, {
            "lr_lambda": lambda epoch: max(1.0 - epoch / total_epochs, LINEAR_FLOOR)
        }
    return None, {}


def _box(size: int) -> Any:
    return gymnasium.spaces.Box(-math.inf, math.inf, (size,))


def _statistics(scaler: RunningStandardScaler) -> dict[str, torch.Tensor]:
    limit = float(scaler.clip_threshold)
    extra = {} if limit == LIMIT else {"limit": torch.tensor(limit, dtype=torch.float64)}
    return {**scaler.state_dict(), **extra}


def _load_statistics(scaler: RunningStandardScaler, state: Mapping[str, torch.Tensor]) -> None:
    own = scaler.state_dict()
    scaler.load_state_dict({name: state[name].reshape(tensor.shape) for name, tensor in own.items()})
    scaler.clip_threshold = float(state["limit"]) if "limit" in state else LIMIT


def _generator_states(device: torch.device) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_generator_states(states: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    # A checkpoint that was written on a CPU has none for the GPU: training goes on with other noise.
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)
