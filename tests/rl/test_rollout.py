"""Returns and advantages, by hand."""

from __future__ import annotations

import torch

from vbot_campaign.rl.rollout import compute_gae, normalize_advantages


def gae(rewards: list[float], ended: list[bool], last_value: float) -> tuple[list[float], list[float]]:
    column = torch.tensor(rewards).unsqueeze(-1)
    returns, advantages = compute_gae(
        column,
        torch.ones_like(column),
        torch.tensor(ended).unsqueeze(-1),
        torch.tensor([last_value]),
        discount_factor=0.5,
        lambda_param=0.5,
    )
    return returns.flatten().tolist(), advantages.flatten().tolist()


def test_advantages_of_an_unbroken_rollout() -> None:
    returns, advantages = gae([1.0, 2.0, 4.0], [False, False, False], last_value=2.0)

    # 4 - 1 + 0.5 * 2 = 4; 2 - 1 + 0.5 + 0.25 * 4 = 2.5; 1 - 1 + 0.5 + 0.25 * 2.5 = 1.125
    assert advantages == [1.125, 2.5, 4.0]
    assert returns == [2.125, 3.5, 5.0]


def test_nothing_flows_back_over_the_end_of_an_episode() -> None:
    _, advantages = gae([1.0, 2.0, 4.0], [False, True, False], last_value=2.0)

    # 2 - 1 = 1 at the end; 1 - 1 + 0.5 + 0.25 * 1 = 0.75 before it
    assert advantages == [0.75, 1.0, 4.0]


def test_an_episode_that_ends_with_the_rollout_ignores_the_next_one() -> None:
    _, advantages = gae([1.0, 2.0, 4.0], [False, False, True], last_value=1000.0)

    # 4 - 1 = 3; 2 - 1 + 0.5 + 0.25 * 3 = 2.25; 0 + 0.5 + 0.25 * 2.25 = 1.0625
    assert advantages == [1.0625, 2.25, 3.0]


def test_environments_do_not_mix() -> None:
    rewards = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    ended = torch.tensor([[False, True], [False, False]])
    zeros = torch.zeros(2, 2)

    returns, _ = compute_gae(rewards, zeros, ended, torch.zeros(2), discount_factor=0.5, lambda_param=1.0)

    # With lambda 1 and no values, returns are discounted sums: 1 + 0.5 * 2, and 1 where the episode ended.
    assert returns.tolist() == [[2.0, 1.0], [2.0, 2.0]]


def test_advantages_are_normalized_over_the_batch() -> None:
    normal = normalize_advantages(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))

    # Mean 3, squares 4 + 1 + 0 + 9 = 14, sample deviation sqrt(14 / 3).
    torch.testing.assert_close(normal, torch.tensor([[-2.0, -1.0], [0.0, 3.0]]) / (14 / 3) ** 0.5)
