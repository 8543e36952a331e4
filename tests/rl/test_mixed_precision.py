"""Updates in bfloat16: close to float32, exact where it matters, repeatable."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.rl.test_learner import comparable, make_learner, success_rate
from tests.support.workers import TINY, kill_at_iteration, run_worker, tiny_trial
from vbot_campaign import fs
from vbot_campaign.events import Ended, stable
from vbot_campaign.paths import TrialPaths
from vbot_campaign.rl import checkpoint
from vbot_campaign.rl.policy import ActorCritic
from vbot_campaign.rl.ppo import LossParts, PpoUpdate, ppo_loss, with_log_probs_of
from vbot_campaign.rl.rollout import Batch
from vbot_campaign.spec.training import PpoSettings

FULL = PpoSettings(value_loss_scale=2.0, entropy_loss_scale=0.005, ratio_clip=0.2, value_clip=0.2)
MIXED = FULL.model_copy(update={"mixed_precision": True})


def make_policy() -> ActorCritic:
    """Networks of the default size whose actions are not small, as after some training."""
    torch.manual_seed(0)
    policy = ActorCritic(54, 12, (256, 128, 64), (256, 128, 64), initial_log_std=-0.5)
    with torch.no_grad():
        for parameter in policy.mean_layer.parameters():
            parameter.mul_(20.0)
    return policy


@torch.no_grad()
def make_batch(policy: ActorCritic, size: int = 1024) -> Batch:
    generator = torch.Generator().manual_seed(1)
    observations = torch.randn(size, 54, generator=generator)
    actions, log_probs = policy.act(observations, torch.randn(size, 12, generator=generator))
    values = policy.value(observations)
    returns = values + torch.randn(size, generator=generator)
    return Batch(observations, actions, log_probs, values, returns, torch.randn(size, generator=generator))


def gradients(policy: ActorCritic, loss: LossParts) -> dict[str, torch.Tensor]:
    policy.zero_grad()
    loss.total.backward()
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


def test_gradients_are_those_of_float32_within_two_percent() -> None:
    policy = make_policy()
    batch = make_batch(policy)

    exact = gradients(policy, ppo_loss(policy, batch, FULL))
    rounded = gradients(policy, ppo_loss(policy, with_log_probs_of(policy, batch, MIXED), MIXED))

    assert exact.keys() == rounded.keys() == dict(policy.named_parameters()).keys()
    for name, gradient in exact.items():
        assert rounded[name].dtype is torch.float32
        error = (rounded[name] - gradient).norm() / gradient.norm()
        assert error < 0.02, f"{name}: {error:.4f}"
    # bfloat16 has eight bits: had it not been used, errors would be far smaller.
    assert (rounded["policy_net.0.weight"] - exact["policy_net.0.weight"]).norm() > 1e-4 * exact[
        "policy_net.0.weight"
    ].norm()


def test_without_it_the_loss_is_that_of_the_networks_themselves_bit_for_bit() -> None:
    policy = make_policy()
    batch = make_batch(policy)

    found = gradients(policy, ppo_loss(policy, batch, FULL))

    log_ratio = policy.log_prob(policy.mean(batch.observations), batch.actions) - batch.log_probs
    ratio = log_ratio.exp()
    surrogate = torch.min(batch.advantages * ratio, batch.advantages * ratio.clamp(0.8, 1.2))
    moved = (policy.value(batch.observations) - batch.values).clamp(-0.2, 0.2)
    error = torch.nn.functional.mse_loss(batch.values + moved, batch.returns)
    policy.zero_grad()
    (-surrogate.mean() + 2.0 * error - 0.005 * policy.entropy()).backward()
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(found[name], parameter.grad), name


def test_losses_are_float32_and_hidden_layers_are_not() -> None:
    policy, seen = make_policy(), []
    batch = make_batch(policy)
    policy.policy_net[0].register_forward_hook(lambda *call: seen.append(call[-1].dtype))
    policy.mean_layer.register_forward_hook(lambda *call: seen.append(call[-1].dtype))

    loss = ppo_loss(policy, batch, MIXED)

    assert seen == [torch.bfloat16, torch.float32]
    assert {part.dtype for part in (loss.policy, loss.value, loss.entropy, loss.kl)} == {torch.float32}


def test_ratios_are_one_before_the_first_gradient_step() -> None:
    policy = make_policy()
    batch = make_batch(policy)
    settings = MIXED.model_copy(update={"learning_epochs": 1, "mini_batches": 1})

    record = PpoUpdate(policy, settings, iterations=1).update(batch, torch.Generator().manual_seed(0))

    assert record[-1].item() == pytest.approx(0.0, abs=1e-9)
    # With the log-probabilities of the rollout they would not be.
    assert ppo_loss(make_policy(), batch, MIXED).kl.item() > 1e-6


def test_weights_and_moments_stay_float32() -> None:
    policy = make_policy()
    update = PpoUpdate(policy, MIXED, iterations=1)

    update.update(make_batch(policy), torch.Generator().manual_seed(0))

    moments = [tensor for state in update.state_dict()["state"].values() for tensor in state.values()]
    assert {tensor.dtype for tensor in (*policy.parameters(), *moments)} == {torch.float32}


def test_it_learns_as_well() -> None:
    learner = make_learner(mixed_precision=True)
    for _ in range(30):
        learner.iterate()

    assert success_rate(learner) > 0.95


CONTINUE = """
import json, sys
from pathlib import Path
import torch
from tests.rl.test_learner import comparable, make_learner
from vbot_campaign.rl import checkpoint

torch.set_num_threads(1)
learner = make_learner(seed=77, mixed_precision=True, lr_scheduler_type="kl_adaptive")
learner.load_state_dict(checkpoint.load(Path(sys.argv[1])))
print(json.dumps([comparable(learner.iterate()) for _ in range(3)]))
"""


def test_it_continues_bit_for_bit_in_another_process(tmp_path: Path) -> None:
    learner = make_learner(mixed_precision=True, lr_scheduler_type="kl_adaptive")
    for _ in range(3):
        learner.iterate()
    checkpoint.save(tmp_path / "agent.pt", learner.state_dict(), {})
    uninterrupted = [comparable(learner.iterate()) for _ in range(3)]

    command = [sys.executable, "-c", CONTINUE, str(tmp_path / "agent.pt")]
    root = Path(__file__).parents[2]
    output = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout

    assert json.loads(output) == uninterrupted


def test_a_worker_records_it_and_continues_exactly_after_a_kill(tmp_path: Path) -> None:
    ppo = {**TINY["ppo"], "mixed_precision": True}
    changes: dict[str, Any] = {"ppo": ppo, "env_steps": 512 * 16}
    whole, killed = tiny_trial(tmp_path / "whole", **changes), tiny_trial(tmp_path / "killed", **changes)
    assert run_worker(whole).state is Ended.FINISHED
    assert kill_at_iteration(killed, 9) == -signal.SIGKILL
    tiny_trial(tmp_path / "killed", attempt=2, **changes)
    assert run_worker(killed).state is Ended.FINISHED

    assert lines(killed) == lines(whole)
    assert fs.read_json(whole.spec)["training"]["ppo"]["mixed_precision"] is True
    assert fs.read_json(whole.meta)["rl_overrides"]["mixed_precision"] is True
    plain = tiny_trial(tmp_path / "plain", env_steps=512 * 16)
    run_worker(plain)
    assert lines(plain)[0]["loss"] != lines(whole)[0]["loss"]


def lines(paths: TrialPaths) -> list[dict[str, Any]]:
    return [stable(line) for line in fs.read_lines(paths.metrics)]
