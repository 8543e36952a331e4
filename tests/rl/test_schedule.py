"""The learning rate schedules."""

from __future__ import annotations

import pytest
import torch

from vbot_campaign.rl.schedule import LearningRateSchedule
from vbot_campaign.spec.training import PpoSettings


def make_schedule(kind: str, learning_rate: float, total_epochs: int = 10) -> LearningRateSchedule:
    settings = PpoSettings.model_validate(
        {"learning_rate": learning_rate, "lr_scheduler_type": kind, "learning_rate_scheduler_kl_threshold": 0.01}
    )
    return LearningRateSchedule(settings, total_epochs)


def test_none_keeps_the_rate() -> None:
    schedule = make_schedule("none", 3e-4)

    assert [schedule.advance(torch.tensor(kl)).item() for kl in (0.0, 9.0)] == [3e-4, 3e-4]


def test_linear_counts_epochs_and_stops_at_one_percent() -> None:
    schedule = make_schedule("linear", 1.0, total_epochs=4)

    assert [schedule.advance(torch.tensor(0.0)).item() for _ in range(5)] == [0.75, 0.5, 0.25, 0.01, 0.01]


def test_linear_reproduces_a_checkpoint_of_the_field() -> None:
    # 5e-5, 24 rollouts, 6 epochs, 1017 iterations in all: after 50 of them the file says 4.75418e-5.
    schedule = make_schedule("linear", 5e-5, total_epochs=1017 * 6)

    for _ in range(50 * 6):
        schedule.advance(torch.tensor(0.0))

    assert schedule.learning_rate == pytest.approx(4.75418e-5, rel=1e-6)


def test_epochs_left_out_by_an_early_stop_count() -> None:
    schedule = make_schedule("linear", 1.0, total_epochs=10)

    assert schedule.advance(torch.tensor(0.0), epochs=5).item() == 0.5


@pytest.mark.parametrize(
    ("kl", "rate"),
    [(0.0201, 1e-3 / 1.5), (0.0199, 1e-3), (0.0051, 1e-3), (0.0049, 1.5e-3)],
)
def test_kl_adaptive_moves_outside_a_factor_of_two(kl: float, rate: float) -> None:
    assert make_schedule("kl_adaptive", 1e-3).advance(torch.tensor(kl)).item() == pytest.approx(rate)


def test_kl_adaptive_stays_within_its_range() -> None:
    assert make_schedule("kl_adaptive", 9e-3).advance(torch.tensor(0.0)).item() == 1e-2
    assert make_schedule("kl_adaptive", 1.2e-6).advance(torch.tensor(1.0)).item() == 1e-6


def test_a_position_continues_in_another_schedule() -> None:
    first, second = make_schedule("kl_adaptive", 1e-3), make_schedule("kl_adaptive", 1e-3)
    first.advance(torch.tensor(1.0))

    second.load_state_dict(first.state_dict())

    assert second.advance(torch.tensor(1.0)) == first.advance(torch.tensor(1.0))
    assert second.state_dict()["epochs"] == 2
