"""How good a policy is: the outcome of one episode in each of many environments."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vbot_campaign.envs.vec_env import VecEnv
from vbot_campaign.rl.normalization import RunningNormalizer
from vbot_campaign.rl.policy import ActorCritic
from vbot_campaign.spec.outcomes import EpisodeTotals


class EvaluationInterruptedError(Exception):
    """Someone asked an evaluation to stop before its episodes had ended."""


@torch.no_grad()
def evaluate(
    policy: ActorCritic,
    observation_normalizer: RunningNormalizer,
    env: VecEnv,
    *,
    episodes: int,
    max_steps: int,
    deterministic: bool = True,
    seed: int = 0,
    interrupted: Callable[[], bool] = lambda: False,
) -> EpisodeTotals:
    """Play the first episode of every environment and count the outcomes.

    One episode per environment, because the first N episodes to finish would favour the short ones.

    Args:
        policy: Networks, on the environment's device.
        observation_normalizer: Statistics that belong to the policy; not changed.
        env: A fresh environment with ``num_envs == episodes``, seeded by its maker. It counts only first episodes
            from here on.
        episodes: Episodes to play.
        max_steps: Control steps after which unfinished episodes are left out of the totals.
        deterministic: Take the mean action instead of a sample.
        seed: Seed of the action noise when not deterministic.
        interrupted: Asked before each step whether to give up.

    Raises:
        EvaluationInterruptedError: ``interrupted`` said so.
        ValueError: The environment does not have one copy per episode.
    """
    if env.num_envs != episodes:
        raise ValueError(f"{episodes} episodes need {episodes} environments, not {env.num_envs}")
    generator = torch.Generator(env.device).manual_seed(seed)
    env.count_first_episodes_only()
    observations = env.reset()
    for _ in range(max_steps):
        if interrupted():
            raise EvaluationInterruptedError
        inputs = observation_normalizer.normalize(observations)
        actions = policy.mean(inputs) if deterministic else _sample(policy, inputs, generator)
        observations = env.step(actions).observations
        if env.all_first_episodes_done():
            break
    return env.take_totals()


def _sample(policy: ActorCritic, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(inputs.shape[0], policy.action_size, generator=generator, device=inputs.device)
    return policy.act(inputs, noise)[0]
