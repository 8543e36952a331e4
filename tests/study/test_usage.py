"""GPU-hours of attempts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.snapshots import START, make_attempt, make_trial
from vbot_campaign.spec.study import WorkerSettings
from vbot_campaign.study.usage import total_gpu_hours

NOW = START + timedelta(hours=3)


def test_attempts_on_gpus_count_by_their_share_of_one_and_running_ones_until_now() -> None:
    ended = make_attempt(slot="gpu:0", ended=START + timedelta(hours=2))
    running = make_attempt(number=2, slot="gpu:1.1", started=START + timedelta(hours=2), ended=None)
    on_cpu = make_attempt(slot="cpu:0", ended=START + timedelta(hours=9))
    trials = [make_trial(0, attempts=(ended, running)), make_trial(1, attempts=(on_cpu,))]
    assert total_gpu_hours(WorkerSettings(), trials, NOW) == pytest.approx(3.0)
    assert total_gpu_hours(WorkerSettings(slots_per_gpu=2), trials, NOW) == pytest.approx(1.5)
    assert total_gpu_hours(WorkerSettings(), trials[1:], NOW) == 0
