"""The networks: names, layers, densities."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from vbot_campaign.rl.policy import ActorCritic


def make_policy(initial_log_std: float = -0.5) -> ActorCritic:
    torch.manual_seed(0)
    return ActorCritic(5, 3, (16, 8), (12, 10, 6), initial_log_std)


def test_parameters_have_the_names_order_and_shapes_of_the_field() -> None:
    shapes = {name: tuple(p.shape) for name, p in ActorCritic(54, 12, (256, 128, 64), (512, 128)).named_parameters()}

    assert list(shapes.items()) == [
        ("log_std_parameter", (12,)),
        ("policy_net.0.weight", (256, 54)),
        ("policy_net.0.bias", (256,)),
        ("policy_net.2.weight", (128, 256)),
        ("policy_net.2.bias", (128,)),
        ("policy_net.4.weight", (64, 128)),
        ("policy_net.4.bias", (64,)),
        ("value_net.0.weight", (512, 54)),
        ("value_net.0.bias", (512,)),
        ("value_net.2.weight", (128, 512)),
        ("value_net.2.bias", (128,)),
        ("mean_layer.weight", (12, 64)),
        ("mean_layer.bias", (12,)),
        ("value_layer.weight", (1, 128)),
        ("value_layer.bias", (1,)),
    ]


def test_the_mean_has_elu_between_layers_and_none_after_the_trunk() -> None:
    policy = make_policy()
    weights = dict(policy.named_parameters())
    x = torch.randn(7, 5)

    hidden = torch.nn.functional.elu(x @ weights["policy_net.0.weight"].T + weights["policy_net.0.bias"])
    features = hidden @ weights["policy_net.2.weight"].T + weights["policy_net.2.bias"]
    expected = features @ weights["mean_layer.weight"].T + weights["mean_layer.bias"]

    torch.testing.assert_close(policy.mean(x), expected)


def test_the_value_is_one_number_per_observation() -> None:
    assert make_policy().value(torch.randn(7, 5)).shape == (7,)


def test_log_prob_and_entropy_are_those_of_independent_normals() -> None:
    policy, mean, actions = make_policy(), torch.randn(7, 3), torch.randn(7, 3)
    normal = Normal(mean, math.exp(-0.5))

    torch.testing.assert_close(policy.log_prob(mean, actions), normal.log_prob(actions).sum(-1))
    torch.testing.assert_close(policy.entropy(), normal.entropy().sum(-1)[0])


def test_acting_adds_scaled_noise_to_the_mean() -> None:
    policy, x, noise = make_policy(), torch.randn(7, 5), torch.randn(7, 3)

    actions, log_probs = policy.act(x, noise)

    torch.testing.assert_close(actions, policy.mean(x) + math.exp(-0.5) * noise)
    torch.testing.assert_close(log_probs, policy.log_prob(policy.mean(x), actions))


@pytest.mark.parametrize(("parameter", "log_std"), [(-30.0, -20.0), (0.3, 0.3), (9.0, 2.0)])
def test_the_deviation_stays_within_its_limits(parameter: float, log_std: float) -> None:
    policy = make_policy(initial_log_std=parameter)

    assert policy.log_std.tolist() == pytest.approx([log_std] * 3)
    assert policy.std().item() == pytest.approx(math.exp(log_std))
