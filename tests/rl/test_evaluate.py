"""Evaluation: one episode per environment."""

from __future__ import annotations

import pytest
import torch

from tests.support.toy_env import CLOCK, PointEnv
from vbot_campaign.rl.evaluate import evaluate
from vbot_campaign.rl.normalization import RunningNormalizer
from vbot_campaign.rl.policy import ActorCritic
from vbot_campaign.spec.outcomes import EpisodeTotals


def walker(gain: float) -> ActorCritic:
    """A policy whose mean action is ``gain`` times the position: negative walks to the target, positive away."""
    policy = ActorCritic(3, 2, (2,), (2,), initial_log_std=-1.0)
    weights = {name: torch.zeros_like(p) for name, p in policy.state_dict().items()}
    weights["log_std_parameter"] = torch.full((2,), -1.0)
    weights["policy_net.0.weight"][:, :2] = torch.eye(2)
    weights["mean_layer.weight"] = gain * torch.eye(2)
    policy.load_state_dict(weights)
    return policy


def play(gain: float, *, max_steps: int = CLOCK, deterministic: bool = True, seed: int = 0) -> EpisodeTotals:
    env = PointEnv(16, seed=4)
    return evaluate(
        walker(gain),
        RunningNormalizer(3),
        env,
        episodes=16,
        max_steps=max_steps,
        deterministic=deterministic,
        seed=seed,
    )


def test_every_environment_counts_once_however_short_its_episodes() -> None:
    totals = play(-1.0, max_steps=10 * CLOCK)

    # From distance 1, each step leaves 85 %: ten steps to come below 0.2.
    assert totals.finished == totals.success == 16
    assert totals.length == 16 * 10


def test_outcomes_of_a_policy_that_walks_away() -> None:
    totals = play(+1.0)

    assert totals.out_of_bounds == totals.finished == 16


def test_unfinished_episodes_are_left_out() -> None:
    assert play(-1.0, max_steps=9).finished == 0


def test_a_first_episode_still_running_is_not_replaced_by_later_ones() -> None:
    totals = play(0.0, max_steps=3 * CLOCK)

    assert totals.timed_out == totals.finished == 16


def test_noise_has_a_seed_of_its_own() -> None:
    first, again, other = (play(-1.0, deterministic=False, seed=seed) for seed in (1, 1, 2))

    assert first == again != other
    assert first != play(-1.0)


def test_one_environment_per_episode() -> None:
    with pytest.raises(ValueError, match="8 episodes need 8 environments, not 16"):
        evaluate(walker(1.0), RunningNormalizer(3), PointEnv(16, seed=4), episodes=8, max_steps=4)
