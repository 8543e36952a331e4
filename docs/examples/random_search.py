"""A foreign trainer: augmented random search of a linear policy (Mania et al. 2018, arXiv 1803.07055), version V2.

No gradients and no PPO: every robot walks one episode with its own random change of one matrix, and the matrix moves
towards the changes that earned more. In a study file beside this script::

    trainer: {command: [python, random_search.py]}

Of the study's settings it uses all of the environment, the sizes and budgets, and ``ppo.learning_rate`` as step size.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from vbot_campaign import reporter
from vbot_campaign.envs.registry import env_for
from vbot_campaign.envs.vbot.task import VbotNavigation
from vbot_campaign.errors import CampaignError
from vbot_campaign.spec.loading import read_trial_spec
from vbot_campaign.spec.training import TrialSpec
from vbot_campaign.worker.evaluation import evaluate_checkpoint

FIRST_SCALE = 0.3
CHANGE_SCALE = 0.05
BEST_SHARE = 0.5


class RandomSearch:
    """The matrix, and mean and variance of the observations so far. Nothing else needs to be saved."""

    def __init__(self, observations: int, actions: int, seed: int) -> None:
        self.seed = seed
        self.matrix = FIRST_SCALE * np.random.default_rng(seed).standard_normal((actions, observations))
        self.mean, self.variance, self.count = np.zeros(observations), np.ones(observations), 1.0

    def iterate(self, env: VbotNavigation, iteration: int, step_size: float) -> float:
        """Walk an episode with each change and its opposite, move the matrix, and return the mean reward per episode.

        The changes follow from seed and iteration: a resumed search draws what an uninterrupted one would.
        """
        pairs = env.num_envs // 2
        changes = np.random.default_rng((self.seed, iteration)).standard_normal((pairs, *self.matrix.shape))
        matrices = self.matrix + CHANGE_SCALE * np.concatenate([changes, -changes])
        rewards, going = np.zeros(2 * pairs), np.ones(2 * pairs, dtype=bool)
        observations, seen = env.reset().numpy(), []
        for _ in range(env.max_steps):
            seen.append(observations)
            scaled = np.clip((observations - self.mean) / np.sqrt(self.variance), -5.0, 5.0)
            result = env.step(torch.from_numpy(np.einsum("nao,no->na", matrices, scaled)).float())
            rewards += np.where(going, result.rewards.numpy(), 0.0)
            going &= ~(result.terminated | result.truncated).numpy()
            observations = result.observations.numpy()
        self._move(changes, rewards[:pairs], rewards[pairs:], step_size)
        self._learn_scale(np.concatenate(seen))
        return float(rewards.mean())

    def _move(self, changes: np.ndarray, forth: np.ndarray, back: np.ndarray, step_size: float) -> None:
        best = np.argsort(-np.maximum(forth, back))[: max(1, round(BEST_SHARE * len(changes)))]
        spread = np.concatenate([forth[best], back[best]]).std() + 1e-8
        self.matrix += (
            step_size / (spread * len(best)) * np.einsum("n,nao->ao", forth[best] - back[best], changes[best])
        )

    def _learn_scale(self, observations: np.ndarray) -> None:
        new, total = len(observations), self.count + len(observations)
        delta = observations.mean(axis=0) - self.mean
        squares = self.variance * self.count + observations.var(axis=0) * new + delta**2 * self.count * new / total
        self.mean, self.variance, self.count = self.mean + delta * new / total, np.maximum(squares / total, 1e-6), total

    def save(self, file: IO[bytes]) -> None:
        """Write a point to continue from."""
        np.savez(file, matrix=self.matrix, mean=self.mean, variance=self.variance, count=self.count)

    def load(self, path: Path) -> None:
        """Continue from a point."""
        with np.load(path) as state:
            self.matrix, self.mean, self.variance = state["matrix"], state["mean"], state["variance"]
            self.count = float(state["count"])

    def save_policy(self, file: IO[bytes]) -> None:
        """Write the policy in skrl's layout, which `vbot-campaign evaluate` and `play` read."""
        actions, observations = self.matrix.shape
        tensors: dict[str, Any] = {
            "log_std_parameter": torch.full((actions,), -2.0),
            "policy_net.0.weight": torch.from_numpy(self.matrix).float(),
            "policy_net.0.bias": torch.zeros(actions),
            "mean_layer.weight": torch.eye(actions),
            "mean_layer.bias": torch.zeros(actions),
            "value_net.0.weight": torch.zeros(1, observations),
            "value_net.0.bias": torch.zeros(1),
            "value_layer.weight": torch.zeros(1, 1),
            "value_layer.bias": torch.zeros(1),
        }
        statistics = {"running_mean": torch.from_numpy(self.mean), "running_variance": torch.from_numpy(self.variance)}
        scaler = {**statistics, "current_count": torch.tensor(self.count, dtype=torch.float64)}
        torch.save({"policy": tensors, "value": tensors, "state_preprocessor": scaler}, file)


def environment(spec: TrialSpec, iteration: int) -> VbotNavigation:
    """Return the study's environment for one iteration, every robot at the start of its episode."""
    training = spec.training
    env = env_for(training, threads=spec.threads.physics, training=False, seed=training.seed + iteration)
    env.count_first_episodes_only()
    return env


def read_spec(folder: Path) -> TrialSpec:
    """Return what to train, checked."""
    try:
        spec = read_trial_spec(folder / "trial.json")
    except CampaignError as error:
        raise reporter.Invalid(str(error)) from error
    if spec.training.num_envs % 2:
        raise reporter.Invalid(f"workers.num_envs: {spec.training.num_envs} is odd; changes are tried in pairs")
    return spec


def train(trial: reporter.Trial) -> dict[str, Any]:
    """Search until the budget of env steps is used, evaluate, and return the result."""
    spec = read_spec(trial.folder)
    training = spec.training
    torch.set_num_threads(spec.threads.torch)
    first = environment(spec, 0)
    search = RandomSearch(first.observation_size, first.action_size, training.seed)
    if trial.resume_file is not None:
        search.load(trial.resume_file)
    while trial.env_steps < training.env_steps:
        reason = trial.stop_reason()
        if reason is not None:
            trial.checkpoint(search.save, suffix=".npz")
            return trial.stopped(reason)
        env = environment(spec, trial.iteration + 1)
        reward = search.iterate(env, trial.iteration + 1, training.ppo.learning_rate)
        steps = trial.env_steps + env.num_envs * env.max_steps
        trial.progress(steps, env.take_totals().as_dict(), episode_reward=reward)
        if trial.iteration % training.checkpoints.every_iterations == 0:
            trial.checkpoint(search.save, suffix=".npz")
    trial.checkpoint(search.save, suffix=".npz")
    policy = trial.checkpoint(search.save_policy, best=True)
    path = trial.folder / "checkpoints" / policy
    evaluation = evaluate_checkpoint(path, training=training, threads=spec.threads.physics)
    return trial.finished(evaluation.episodes.as_dict())


if __name__ == "__main__":
    sys.exit(reporter.main(train))
