"""The default environment trained by three trainers: ours, skrl's and rsl_rl's, each with its own unchanged loop.

What is made to agree: the environment and its seed, layer sizes and activation, environments, steps per rollout,
epochs, mini-batches, learning rate, discounts, clip ranges, loss weights, the initial action noise, running
normalization of observations. What stays each library's own: everything else, such as the linear layers, the
normalization of values (rsl_rl has none) and how a cut episode is valued.
"""

from __future__ import annotations

import torch

from tests.benchmarks.timed_env import TimedEnv
from vbot_campaign.envs.registry import env_for
from vbot_campaign.rl.learner import Learner
from vbot_campaign.spec.training import PpoSettings, TrainingSpec

SEED = 42


def train(trainer: str, iterations: int, threads: int, device: str) -> dict[str, list[float]]:
    """Train for some iterations and return `TimedEnv.figures`."""
    torch.set_num_threads(threads)
    training = TrainingSpec(env_steps=1, seed=SEED)
    env = env_for(training, threads=threads, training=True)
    # rsl_rl has no linear schedule.
    ppo = training.ppo.model_copy(update={"lr_scheduler_type": "none"})
    timed = TimedEnv(env, ppo.rollouts)
    _train(trainer, timed, ppo, iterations, torch.device(device))
    return timed.figures()


def _train(trainer: str, env: TimedEnv, ppo: PpoSettings, iterations: int, device: torch.device) -> None:
    torch.manual_seed(SEED)
    if trainer == "skrl":
        from tests.benchmarks.peer_skrl import train_skrl

        train_skrl(env, ppo, iterations, device)
    elif trainer == "rsl_rl":
        from tests.benchmarks.peer_rsl_rl import train_rsl_rl

        train_rsl_rl(env, ppo, iterations, device)
    else:
        mixed = ppo.model_copy(update={"mixed_precision": trainer == "ours, mixed precision"})
        learner = Learner(env, mixed, iterations=iterations, seed=SEED, device=device)
        for _ in range(iterations):
            learner.iterate()
