"""An update never waits for the device, and an iteration reads it once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.rl.test_ppo import make_batch, make_policy
from tests.support.host_reads import HostReadError, HostReads, unwatched
from tests.support.toy_env import PointEnv
from vbot_campaign.envs.vec_env import StepResult
from vbot_campaign.rl.learner import Learner
from vbot_campaign.rl.ppo import PpoUpdate
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.training import PpoSettings

NUMBERS = torch.tensor([1.0, 0.0, 2.0])

READS: dict[str, Callable[[torch.Tensor], Any]] = {
    "item": lambda x: x[0].item(),
    "float": lambda x: float(x[0]),
    "if": lambda x: 1 if x[0] > 0 else 2,
    "list": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "array": lambda x: np.asarray(x),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "assignment by mask": lambda x: x.clone().__setitem__(x > 0, torch.ones(2)),
    "masked_select": lambda x: x.masked_select(x > 0),
    "equal": lambda x: torch.equal(x, x),
    "unique": lambda x: x.unique(),
    "constant": lambda x: x + torch.tensor([1.0, 2.0, 3.0]),
    "from below": lambda x: torch.ops.aten._local_scalar_dense(x[0]),
}


@pytest.mark.parametrize("name", READS)
def test_the_watch_sees_every_way_to_read(name: str) -> None:
    with pytest.raises(HostReadError), HostReads():
        READS[name](NUMBERS)


def test_the_watch_lets_the_rest_pass() -> None:
    with HostReads() as reads:
        torch.where(NUMBERS > 0, NUMBERS, 0.0).sum().double().clamp_min(1.0)
        NUMBERS.index_select(0, torch.argsort(NUMBERS))
        with unwatched():
            assert NUMBERS.tolist() == [1.0, 0.0, 2.0]

    assert reads.seen == []


@pytest.mark.parametrize(
    "settings",
    [
        {"lr_scheduler_type": "none"},
        {"lr_scheduler_type": "linear", "grad_norm_clip": 0},
        {"lr_scheduler_type": "kl_adaptive"},
        {"mixed_precision": True},
        {"clip_predicted_values": False, "mini_batches": 3},
    ],
)
def test_an_update_reads_nothing(settings: dict[str, Any]) -> None:
    policy = make_policy()
    update = PpoUpdate(policy, PpoSettings.model_validate(settings), iterations=3)
    batch, order = make_batch(policy), torch.Generator().manual_seed(0)
    before = policy.mean_layer.weight.detach().clone()

    with HostReads() as reads:
        for _ in range(2):
            update.update(batch, order)

    assert reads.seen == []
    assert not torch.equal(policy.mean_layer.weight, before)


def test_an_update_that_may_end_early_reads_once_per_mini_batch() -> None:
    policy = make_policy()
    settings = PpoSettings(kl_threshold=1e3, learning_epochs=2, mini_batches=4)
    batch = make_batch(policy)

    with HostReads(allowed=100) as reads:
        PpoUpdate(policy, settings, iterations=1).update(batch, torch.Generator().manual_seed(0))

    assert reads.seen.count("item") == 2 * 4 - 1


class HostEnv(PointEnv):
    """Computes on the host, whatever the learner does; what it gives and takes there is its own business."""

    def reset(self) -> torch.Tensor:
        with unwatched():
            return super().reset()

    def step(self, actions: torch.Tensor) -> StepResult:
        with unwatched():
            return super().step(actions)

    def take_totals(self) -> EpisodeTotals:
        with unwatched():
            return super().take_totals()

    def take_term_means(self) -> dict[str, float]:
        with unwatched():
            return super().take_term_means()


@pytest.mark.parametrize("settings", [{}, {"lr_scheduler_type": "kl_adaptive", "mixed_precision": True}])
def test_an_iteration_reads_once(settings: dict[str, Any]) -> None:
    # Without the bootstrap, which looks through the environment's own flags for cut episodes.
    ppo = PpoSettings.model_validate({"rollouts": 4, "time_limit_bootstrap": False, **settings})
    learner = Learner(HostEnv(16, seed=1), ppo, iterations=3, seed=0, device="cpu")
    learner.iterate()

    with HostReads(allowed=100) as reads:
        learner.iterate()

    assert reads.seen == ["tolist"]
