"""The PPO update, term by term."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from vbot_campaign.errors import DivergedError
from vbot_campaign.rl.policy import ActorCritic
from vbot_campaign.rl.ppo import PpoUpdate, UpdateStats, ppo_loss
from vbot_campaign.rl.rollout import Batch
from vbot_campaign.spec.training import PpoSettings


def make_policy() -> ActorCritic:
    torch.manual_seed(0)
    return ActorCritic(4, 2, (16,), (16,), 0.0)


@torch.no_grad()
def make_batch(policy: ActorCritic, size: int = 64) -> Batch:
    """Transitions that the policy itself made, with arbitrary outcomes."""
    generator = torch.Generator().manual_seed(1)
    observations = torch.randn(size, 4, generator=generator)
    actions, log_probs = policy.act(observations, torch.randn(size, 2, generator=generator))
    values = policy.value(observations)
    returns = values + torch.randn(size, generator=generator)
    return Batch(observations, actions, log_probs, values, returns, torch.randn(size, generator=generator))


def with_ratios(batch: Batch, ratios: list[float]) -> Batch:
    """Pretend that the actions were more or less likely when they were taken."""
    return dataclasses.replace(batch, log_probs=batch.log_probs - torch.tensor(ratios).log())


def run(update: PpoUpdate, batch: Batch, *, iteration: int = 1) -> UpdateStats:
    record = update.update(batch, torch.Generator().manual_seed(0))
    return UpdateStats.from_record(record.tolist(), iteration=iteration)


def test_the_surrogate_is_clipped_only_where_that_makes_it_worse() -> None:
    policy = make_policy()
    batch = with_ratios(make_batch(policy, 4), [1.5, 1.5, 0.5, 0.5])
    batch = dataclasses.replace(batch, advantages=torch.tensor([1.0, -1.0, 1.0, -1.0]))

    loss = ppo_loss(policy, batch, PpoSettings(ratio_clip=0.2))

    # min(1.5, 1.2) + min(-1.5, -1.2) + min(0.5, 0.8) + min(-0.5, -0.8) = 1.2 - 1.5 + 0.5 - 0.8
    assert loss.policy.item() == pytest.approx(0.6 / 4, abs=1e-6)
    # k3: mean of r - 1 - ln r
    kl = (1.5 - 1 - math.log(1.5) + 0.5 - 1 - math.log(0.5)) / 2
    assert loss.kl.item() == pytest.approx(kl, abs=1e-6)


def test_a_clipped_sample_pulls_no_further() -> None:
    policy = make_policy()
    batch = with_ratios(make_batch(policy, 2), [1.5, 0.5])
    batch = dataclasses.replace(batch, advantages=torch.tensor([1.0, -1.0]))

    ppo_loss(policy, batch, PpoSettings()).policy.backward()

    assert policy.mean_layer.weight.grad is not None
    assert not policy.mean_layer.weight.grad.any()


def test_the_value_prediction_is_clipped_around_the_old_one() -> None:
    policy = make_policy()
    batch = make_batch(policy, 2)
    batch = dataclasses.replace(batch, values=batch.values - torch.tensor([1.0, 0.1]), returns=batch.values + 1.0)

    clipped = ppo_loss(policy, batch, PpoSettings(value_clip=0.2, value_loss_scale=2.0))
    free = ppo_loss(policy, batch, PpoSettings(clip_predicted_values=False, value_loss_scale=2.0))

    # The first prediction moved by 1.0 and counts as 0.2: its error is 1.8; the second moved by 0.1: its error is 1.
    assert clipped.value.item() == pytest.approx(2.0 * (1.8**2 + 1.0) / 2, rel=1e-5)
    assert free.value.item() == pytest.approx(2.0 * 1.0, rel=1e-5)


def test_the_entropy_term_rewards_noise() -> None:
    policy = make_policy()

    loss = ppo_loss(policy, make_batch(policy), PpoSettings(entropy_loss_scale=0.01))
    loss.entropy.backward()

    assert loss.entropy.item() == pytest.approx(-0.01 * 2 * 0.5 * (1 + math.log(2 * math.pi)))
    assert policy.log_std_parameter.grad is not None
    assert policy.log_std_parameter.grad.tolist() == pytest.approx([-0.01, -0.01])


def test_gradients_of_both_networks_are_clipped_together() -> None:
    policy = make_policy()
    update = PpoUpdate(policy, PpoSettings(grad_norm_clip=0.01, learning_epochs=1, mini_batches=1), iterations=1)

    stats = run(update, make_batch(policy))

    squares = sum(p.grad.square().sum().item() for p in policy.parameters() if p.grad is not None)
    assert math.sqrt(squares) == pytest.approx(0.01, rel=1e-4)
    assert stats.grad_norm > 0.1


def test_zero_switches_clipping_off() -> None:
    policy = make_policy()
    update = PpoUpdate(policy, PpoSettings(grad_norm_clip=0, learning_epochs=1, mini_batches=1), iterations=1)

    stats = run(update, make_batch(policy))

    squares = sum(p.grad.square().sum().item() for p in policy.parameters() if p.grad is not None)
    assert math.sqrt(squares) == pytest.approx(stats.grad_norm, rel=1e-5)


def test_every_transition_is_seen_once_per_epoch_even_in_uneven_mini_batches() -> None:
    policy = make_policy()
    update = PpoUpdate(policy, PpoSettings(mini_batches=3), iterations=1)
    batch = dataclasses.replace(make_batch(policy), advantages=torch.arange(64.0))

    parts = list(update._mini_batches(batch, torch.randperm(64)))

    assert [len(part) for part in parts] == [22, 21, 21]
    assert sorted(torch.cat([part.advantages for part in parts]).tolist()) == list(range(64))


def test_the_order_comes_from_the_given_generator_alone() -> None:
    def train() -> torch.Tensor:
        policy = make_policy()
        torch.manual_seed(torch.seed())
        update = PpoUpdate(policy, PpoSettings(), iterations=1)
        update.update(make_batch(policy), torch.Generator().manual_seed(7))
        return torch.cat([p.detach().flatten() for p in policy.parameters()])

    assert torch.equal(train(), train())


def test_an_update_makes_good_actions_likelier_and_values_better() -> None:
    policy = make_policy()
    batch = make_batch(policy)
    before = ppo_loss(policy, batch, PpoSettings())

    run(PpoUpdate(policy, PpoSettings(), iterations=1), batch)

    after = ppo_loss(policy, batch, PpoSettings())
    assert after.policy.item() < before.policy.item() - 0.01
    assert after.value.item() < before.value.item()
    assert before.kl.item() == pytest.approx(0.0, abs=1e-6)
    assert after.kl.item() > 1e-4


def test_a_large_kl_divergence_ends_the_update_and_still_counts_its_epochs() -> None:
    policy = make_policy()
    settings = PpoSettings(learning_rate=0.05, kl_threshold=0.02, learning_epochs=8, lr_scheduler_type="linear")
    update = PpoUpdate(policy, settings, iterations=2)

    stats = run(update, make_batch(policy))

    assert 1 <= stats.gradient_steps < 8 * settings.mini_batches
    assert update.schedule.state_dict() == {"epochs": 8, "learning_rate": 0.025, "first_rate": 0.05}
    assert update.optimizer.param_groups[0]["lr"].item() == 0.025


@pytest.mark.parametrize(("field", "name"), [("returns", "value loss"), ("advantages", "policy loss")])
def test_numbers_that_are_not_finite_end_the_training(field: str, name: str) -> None:
    policy = make_policy()
    batch = dataclasses.replace(make_batch(policy), **{field: torch.full((64,), math.nan)})

    with pytest.raises(DivergedError, match=f"iteration 12: the {name} is nan"):
        run(PpoUpdate(policy, PpoSettings(), iterations=1), batch, iteration=12)
