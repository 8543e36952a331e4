"""Our PPO against skrl's and rsl_rl's: same rollout, same weights, same losses, gradients and next weights.

Each library computes returns, advantages, losses and gradients with its own unchanged code (``update``); only its
configuration is set to agree with ours. Everything runs in float64, so that what differs is not rounding.

Conventions that differ, and how they are made to agree:

=====================  ==================================  =================================  ====================
what                   ours                                skrl 2.1.1                         rsl_rl 5.5.1
=====================  ==================================  =================================  ====================
clipped value loss     clipped prediction (as skrl)        clipped prediction                 larger of both errors
value normalization    running                             running, variance of n - 1         none: ours frozen
observation statistics learned after the update            learned within the first epoch     none: ours frozen
gradient clipping      all parameters together             all parameters together            per network: off
cut episodes           value of the last state             value of the observation it gets   value of the state
                                                                                              before: off
mini-batches           one, because each library draws its own order
=====================  ==================================  =================================  ====================
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import rsl_rl.algorithms
import skrl.agents.torch.ppo
import torch
from rsl_rl.models import MLPModel
from rsl_rl.storage import RolloutStorage as RslStorage
from skrl.agents.torch.ppo import PPO_CFG
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from skrl.resources.preprocessors.torch import RunningStandardScaler
from skrl.resources.schedulers.torch import KLAdaptiveLR
from tensordict import TensorDict

from tests.support.toy_env import PointEnv
from vbot_campaign.envs.vec_env import StepResult
from vbot_campaign.rl.learner import IterationStats, Learner
from vbot_campaign.rl.policy import ActorCritic
from vbot_campaign.spec.training import PpoSettings

NUM_ENVS, ROLLOUTS, OBSERVATION_SIZE, ACTION_SIZE = 32, 12, 6, 3
ITERATIONS = 4

pytestmark = pytest.mark.usefixtures("float64")


class ScriptedEnv(PointEnv):
    """Random observations, rewards and endings, whatever the actions."""

    observation_size = OBSERVATION_SIZE
    action_size = ACTION_SIZE

    def __init__(self) -> None:
        super().__init__(NUM_ENVS, seed=0)
        generator = torch.Generator().manual_seed(0)
        self.observations = torch.randn(ROLLOUTS + 1, NUM_ENVS, OBSERVATION_SIZE, generator=generator)
        self.finals = torch.randn(ROLLOUTS, NUM_ENVS, OBSERVATION_SIZE, generator=generator)
        # Small, so that returns stay below 5, where a frozen normalizer would cut them.
        self.rewards = 0.3 * torch.randn(ROLLOUTS, NUM_ENVS, generator=generator)
        ending = torch.rand(ROLLOUTS, NUM_ENVS, generator=generator)
        self.terminated, self.truncated = ending < 0.1, ending > 0.9
        self._step = 0

    def reset(self) -> torch.Tensor:
        return self.observations[0]

    def step(self, actions: torch.Tensor) -> StepResult:
        step, self._step = self._step, self._step + 1
        return StepResult(
            self.observations[step + 1],
            self.rewards[step],
            self.terminated[step],
            self.truncated[step],
            self.finals[step],
        )


@dataclass
class Ours:
    """One iteration of our learner, with the networks as they were before it."""

    env: ScriptedEnv
    settings: PpoSettings
    before: ActorCritic
    learner: Learner
    stats: IterationStats

    def gradients(self) -> dict[str, torch.Tensor]:
        return {name: p.grad for name, p in self.learner.policy.named_parameters() if p.grad is not None}


def run_ours(**settings: Any) -> Ours:
    ppo = PpoSettings.model_validate(
        {
            "rollouts": ROLLOUTS,
            "learning_epochs": 3,
            "mini_batches": 1,
            "learning_rate": 0.01,
            "lr_scheduler_type": "none",
            "entropy_loss_scale": 0.02,
            "initial_log_std": -0.3,
            "policy_hidden_layer_sizes": (16, 12, 8),
            "value_hidden_layer_sizes": (20, 10),
            **settings,
        }
    )
    env = ScriptedEnv()
    learner = Learner(env, ppo, iterations=ITERATIONS, seed=0, device="cpu")
    before = copy.deepcopy(learner.policy)
    return Ours(env, ppo, before, learner, learner.iterate())


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = 1e-6) -> None:
    """Compare tensors by name, relative to the largest number in each."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        scale = tensor.abs().max().item()
        assert scale > 0, name
        assert (found[name] - tensor).abs().max().item() <= tolerance * scale, name


# skrl


class SkrlModel(GaussianMixin, DeterministicMixin, Model):
    """Our networks as a skrl model with two roles."""

    def __init__(self, networks: ActorCritic) -> None:
        Model.__init__(
            self,
            observation_space=gymnasium.spaces.Box(-math.inf, math.inf, (OBSERVATION_SIZE,)),
            action_space=gymnasium.spaces.Box(-math.inf, math.inf, (ACTION_SIZE,)),
            device="cpu",
        )
        GaussianMixin.__init__(self)
        DeterministicMixin.__init__(self)
        self.networks = networks

    def act(self, inputs: dict[str, Any], *, role: str = "") -> tuple[torch.Tensor, dict[str, Any]]:
        mixin = GaussianMixin if role == "policy" else DeterministicMixin
        return mixin.act(self, inputs, role=role)

    def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[torch.Tensor, dict[str, Any]]:
        if role == "policy":
            return self.networks.mean(inputs["observations"]), {"log_std": self.networks.log_std_parameter}
        return self.networks.value(inputs["observations"]).unsqueeze(-1), {}


class ExactScaler(RunningStandardScaler):
    """skrl's scaler, but merging the variance of the samples instead of the estimate with n - 1."""

    def _parallel_variance(self, input_mean: torch.Tensor, input_var: torch.Tensor, input_count: int) -> None:
        super()._parallel_variance(input_mean, input_var * (input_count - 1) / input_count, input_count)


class FrozenScaler(RunningStandardScaler):
    """skrl's scaler without learning."""

    def forward(self, x: torch.Tensor | None, *, train: bool = False, **kwargs: Any) -> torch.Tensor | None:
        return super().forward(x, **kwargs)


class Float64Memory(RandomMemory):
    """skrl's memory; its tensors have the type of the networks."""

    def create_tensor(self, name: str, *, dtype: torch.dtype | None = None, **kwargs: Any) -> bool:
        return super().create_tensor(name, dtype=torch.float64 if dtype is torch.float32 else dtype, **kwargs)


def make_skrl(ours: Ours, folder: Path, **extra: Any) -> skrl.agents.torch.ppo.PPO:
    settings = ours.settings
    model = SkrlModel(copy.deepcopy(ours.before))
    cfg = PPO_CFG(
        rollouts=ROLLOUTS,
        learning_epochs=settings.learning_epochs,
        mini_batches=1,
        discount_factor=settings.discount_factor,
        gae_lambda=settings.lambda_param,
        learning_rate=settings.learning_rate,
        observation_preprocessor=FrozenScaler,
        observation_preprocessor_kwargs={"size": OBSERVATION_SIZE, "device": "cpu"},
        value_preprocessor=ExactScaler,
        value_preprocessor_kwargs={"size": 1, "device": "cpu"},
        grad_norm_clip=settings.grad_norm_clip,
        ratio_clip=settings.ratio_clip,
        value_clip=settings.value_clip if settings.clip_predicted_values else 0.0,
        entropy_loss_scale=settings.entropy_loss_scale,
        value_loss_scale=settings.value_loss_scale,
        time_limit_bootstrap=settings.time_limit_bootstrap,
        **extra,
    )
    cfg.experiment.directory = str(folder)
    cfg.experiment.write_interval = cfg.experiment.checkpoint_interval = 0
    agent = skrl.agents.torch.ppo.PPO(
        models={"policy": model, "value": model},
        memory=Float64Memory(memory_size=ROLLOUTS, num_envs=NUM_ENVS, device="cpu"),
        observation_space=model.observation_space,
        action_space=model.action_space,
        device="cpu",
        cfg=cfg,
    )
    agent.init()
    agent.enable_training_mode(True)
    return agent


def replay_skrl(agent: skrl.agents.torch.ppo.PPO, ours: Ours) -> None:
    """Show skrl our rollout and let it update."""
    env = ours.env
    for step in range(ROLLOUTS):
        observations, actions = env.observations[step], ours.learner.storage.actions[step]
        agent.act(observations, None, timestep=0, timesteps=1)
        inputs = {"observations": agent._observation_preprocessor(observations), "taken_actions": actions}
        agent._current_log_prob = agent.policy.act(inputs, role="policy")[1]["log_prob"].detach()
        agent._current_values = agent._current_values.detach()
        agent.record_transition(
            observations=observations,
            states=None,
            actions=actions,
            rewards=env.rewards[step].unsqueeze(-1).clone(),
            next_observations=env.finals[step],
            next_states=None,
            terminated=env.terminated[step].unsqueeze(-1),
            truncated=env.truncated[step].unsqueeze(-1),
            infos={},
            timestep=0,
            timesteps=1,
        )
    # skrl knows only one next observation; ours after the rollout is that of the new episode where one ended.
    agent._current_next_observations = env.observations[-1]
    agent.enable_models_training_mode(True)
    agent.update(timestep=0, timesteps=1)


def skrl_losses(agent: skrl.agents.torch.ppo.PPO) -> dict[str, float]:
    return {name: agent.tracking_data[f"Loss / {name.title()} loss"][-1] for name in ("policy", "value", "entropy")}


def skrl_tensors(agent: skrl.agents.torch.ppo.PPO, *, gradients: bool) -> dict[str, torch.Tensor]:
    named = agent.policy.networks.named_parameters()
    return {name: p.grad if gradients else p.detach() for name, p in named}


def our_weights(ours: Ours) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in ours.learner.policy.named_parameters()}


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_epochs": 1, "grad_norm_clip": 0.0},
        {"learning_epochs": 1, "grad_norm_clip": 0.3},
        {"learning_epochs": 5},
        {"learning_epochs": 5, "clip_predicted_values": False, "ratio_clip": 0.05},
        {"learning_epochs": 5, "value_clip": 0.01, "discount_factor": 0.8, "lambda_param": 0.6},
    ],
)
def test_an_update_of_skrl_gives_the_same_losses_gradients_and_weights(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    ours = run_ours(**settings)
    agent = make_skrl(ours, tmp_path)

    replay_skrl(agent, ours)

    assert ours.stats.loss == pytest.approx(skrl_losses(agent), rel=1e-6, abs=1e-6)
    assert_same(ours.gradients(), skrl_tensors(agent, gradients=True))
    assert_same(our_weights(ours), skrl_tensors(agent, gradients=False))
    assert_same(ours.learner.value_normalizer.state_dict(), dict(agent._value_preprocessor.state_dict()))


@pytest.mark.parametrize("threshold", [1e-5, 0.004, 0.5])
def test_the_kl_adaptive_rate_is_that_of_skrl(tmp_path: Path, threshold: float) -> None:
    ours = run_ours(lr_scheduler_type="kl_adaptive", learning_rate_scheduler_kl_threshold=threshold, learning_rate=2e-3)
    agent = make_skrl(
        ours,
        tmp_path,
        learning_rate_scheduler=KLAdaptiveLR,
        learning_rate_scheduler_kwargs={"kl_threshold": threshold},
    )

    replay_skrl(agent, ours)

    assert ours.stats.learning_rate == pytest.approx(agent.scheduler.get_last_lr()[0], rel=1e-9)
    assert ours.stats.learning_rate != 2e-3
    assert_same(our_weights(ours), skrl_tensors(agent, gradients=False))


def test_the_linear_rate_is_that_of_a_lambda_schedule_in_skrl(tmp_path: Path) -> None:
    ours = run_ours(lr_scheduler_type="linear")
    epochs = ITERATIONS * ours.settings.learning_epochs
    agent = make_skrl(
        ours,
        tmp_path,
        learning_rate_scheduler=torch.optim.lr_scheduler.LambdaLR,
        learning_rate_scheduler_kwargs={"lr_lambda": lambda epoch: max(1 - epoch / epochs, 0.01)},
    )

    replay_skrl(agent, ours)

    assert ours.stats.learning_rate == pytest.approx(agent.scheduler.get_last_lr()[0], rel=1e-12) == 0.01 * 0.75
    assert_same(our_weights(ours), skrl_tensors(agent, gradients=False))


# rsl_rl


def make_rsl_model(networks: torch.nn.Module, name: str, size: int, distribution: dict[str, Any] | None) -> MLPModel:
    observations = TensorDict({"policy": torch.zeros(NUM_ENVS, OBSERVATION_SIZE)}, batch_size=[NUM_ENVS])
    model = MLPModel(observations, {name: ["policy"]}, name, size, (4,), distribution_cfg=distribution)
    # Its own trunk has an activation before the last layer, ours has none there.
    model.mlp = networks
    return model


def make_rsl(ours: Ours) -> rsl_rl.algorithms.PPO:
    networks, settings = copy.deepcopy(ours.before), ours.settings
    gaussian = {
        "class_name": "rsl_rl.modules.GaussianDistribution",
        "std_type": "log",
        "init_std": math.exp(settings.initial_log_std),
    }
    actor = torch.nn.Sequential(networks.policy_net, networks.mean_layer)
    critic = torch.nn.Sequential(networks.value_net, networks.value_layer)
    observations = TensorDict({"policy": torch.zeros(NUM_ENVS, OBSERVATION_SIZE)}, batch_size=[NUM_ENVS])
    return rsl_rl.algorithms.PPO(
        make_rsl_model(actor, "actor", ACTION_SIZE, gaussian),
        make_rsl_model(critic, "critic", 1, None),
        RslStorage("rl", NUM_ENVS, ROLLOUTS, observations, [ACTION_SIZE]),
        num_learning_epochs=settings.learning_epochs,
        num_mini_batches=1,
        clip_param=settings.ratio_clip,
        gamma=settings.discount_factor,
        lam=settings.lambda_param,
        value_loss_coef=settings.value_loss_scale,
        entropy_coef=settings.entropy_loss_scale,
        learning_rate=settings.learning_rate,
        max_grad_norm=math.inf,
        use_clipped_value_loss=settings.clip_predicted_values,
        schedule="fixed",
    )


def replay_rsl(algorithm: rsl_rl.algorithms.PPO, ours: Ours) -> dict[str, float]:
    """Show rsl_rl our rollout and let it update; return its losses under our names and weights."""
    env = ours.env

    def observed(step: int) -> TensorDict:
        return TensorDict({"policy": env.observations[step]}, batch_size=[NUM_ENVS])

    for step in range(ROLLOUTS):
        algorithm.act(observed(step))
        actions = ours.learner.storage.actions[step]
        algorithm.transition.actions = actions
        algorithm.transition.actions_log_prob = algorithm.actor.get_output_log_prob(actions).detach()
        ended = env.terminated[step] | env.truncated[step]
        algorithm.process_env_step(observed(step + 1), env.rewards[step], ended, {})
    algorithm.compute_returns(observed(ROLLOUTS))
    losses = algorithm.update()
    return {
        "policy": losses["surrogate"],
        "value": ours.settings.value_loss_scale * losses["value"],
        "entropy": -ours.settings.entropy_loss_scale * losses["entropy"],
    }


def rsl_tensors(algorithm: rsl_rl.algorithms.PPO, *, gradients: bool) -> dict[str, torch.Tensor]:
    networks = {
        "policy_net": algorithm.actor.mlp[0],
        "mean_layer": algorithm.actor.mlp[1],
        "value_net": algorithm.critic.mlp[0],
        "value_layer": algorithm.critic.mlp[1],
    }
    named = {f"{part}.{name}": p for part, module in networks.items() for name, p in module.named_parameters()}
    named["log_std_parameter"] = algorithm.actor.distribution.log_std_param
    return {name: p.grad if gradients else p.detach() for name, p in named.items()}


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_epochs": 1, "clip_predicted_values": True},
        {"learning_epochs": 1, "clip_predicted_values": False, "discount_factor": 0.8, "lambda_param": 0.6},
        {"learning_epochs": 5, "clip_predicted_values": False},
        {"learning_epochs": 5, "clip_predicted_values": False, "ratio_clip": 0.05, "value_loss_scale": 0.5},
    ],
)
def test_an_update_of_rsl_rl_gives_the_same_losses_gradients_and_weights(settings: dict[str, Any]) -> None:
    # Clipped values only in a first step, where nothing is clipped yet: after it the conventions differ.
    ours = run_ours(freeze_normalizers=True, time_limit_bootstrap=False, grad_norm_clip=0.0, **settings)
    algorithm = make_rsl(ours)

    losses = replay_rsl(algorithm, ours)

    assert ours.stats.loss == pytest.approx(losses, rel=1e-6, abs=1e-6)
    assert_same(ours.gradients(), rsl_tensors(algorithm, gradients=True))
    assert_same(our_weights(ours), rsl_tensors(algorithm, gradients=False))
