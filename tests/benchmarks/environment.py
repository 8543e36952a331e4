"""The environment without a learner: physics, observations, rewards, resets."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

from tests.benchmarks.rows import Row
from vbot_campaign.envs.registry import env_for
from vbot_campaign.envs.vbot.task import VbotNavigation
from vbot_campaign.spec.training import TrainingSpec
from vbot_campaign.supervisor.slots import available_cores

FLOOR = 45_000.0
"""Env steps per second on two cores."""
TASK_CEILING = 25.0
"""Percent of the environment's time that is not physics."""


def measure(folder: Path, quick: bool) -> list[Row]:
    """Step the default environment with the noise that a training begins with, so that robots fall and start anew."""
    threads = available_cores()
    torch.set_num_threads(threads)
    training = TrainingSpec(env_steps=1)
    env = _make(training, threads)
    rollout = torch.randn(training.ppo.rollouts, env.num_envs, env.action_size, generator=torch.Generator())
    _play(env, rollout)
    seconds, shares = [], []
    for _ in range(4 if quick else 24):
        env.take_physics_seconds()
        started = time.perf_counter()
        _play(env, rollout)
        seconds.append(time.perf_counter() - started)
        shares.append(100.0 * (1.0 - env.take_physics_seconds() / seconds[-1]))
    speed = training.steps_per_iteration / statistics.median(seconds)
    return [
        Row("environment, env steps", speed, "steps/s", floor=FLOOR),
        Row("task code's share of its time", statistics.median(shares), "%", 1, ceiling=TASK_CEILING),
        Row("threads, physics and task", threads, "", note=f"{training.num_envs} environments"),
    ]


def _make(training: TrainingSpec, threads: int) -> VbotNavigation:
    env = env_for(training, threads=threads, training=True)
    env.reset()
    return env


def _play(env: VbotNavigation, rollout: torch.Tensor) -> None:
    for actions in rollout:
        env.step(actions)
