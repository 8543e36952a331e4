"""A training that goes on with fewer robots, as after a lack of memory, keeps everything it had learned."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.toy_env import PointEnv
from tests.support.workers import run_worker, start_worker, tiny_trial, wait_for_iteration
from vbot_campaign import fs
from vbot_campaign.events import Ended, request_stop
from vbot_campaign.rl.learner import Learner
from vbot_campaign.spec.loading import read_trial_spec
from vbot_campaign.spec.training import PpoSettings
from vbot_campaign.study.objective import GridReporter

BUDGET = 128 * 16 * 24


@pytest.mark.parametrize("trainer", ["builtin", "skrl"])
def test_half_the_robots_train_the_other_part_of_the_budget(tmp_path: Path, trainer: str) -> None:
    changes: dict[str, Any] = {"trainer": trainer, "env_steps": BUDGET, "report_points": 6}
    paths = tiny_trial(tmp_path, num_envs=128, **changes)
    process = start_worker(paths, slow_from=10)
    wait_for_iteration(paths, process, 10)
    request_stop(paths.stop_request, "stop", token="token-1")
    assert process.wait(timeout=240) == 0
    reached = fs.read_lines(paths.metrics)[-1]["iteration"]
    assert 10 <= reached < 24, "stopped in the middle"

    tiny_trial(tmp_path, attempt=2, num_envs=64, **changes)
    result = run_worker(paths)
    assert (result.state, result.env_steps) == (Ended.FINISHED, BUDGET), result.error
    remaining = (24 - reached) * 2
    assert result.iteration == reached + remaining

    lines = [line for line in fs.read_lines(paths.metrics) if line["kind"] == "progress"]
    assert [line["iteration"] for line in lines] == list(range(1, reached + remaining + 1))
    steps = [0, *(line["env_steps"] for line in lines)]
    assert [after - before for before, after in pairwise(steps)] == [128 * 16] * reached + [64 * 16] * remaining
    # Linear by env steps, down to 1 %: what is left of the rate is what is left of the budget.
    for line in lines:
        left = max(1.0 - line["env_steps"] / BUDGET, 0.01)
        assert line["learning_rate"] == pytest.approx(1e-3 * left), line["iteration"]

    reporter = GridReporter(read_trial_spec(paths.spec).training)
    reported = [report.env_step for line in lines for report in reporter.feed(line)]
    assert reported[-1] == BUDGET
    assert reported == [BUDGET * point // 6 for point in range(7 - len(reported), 7)]
    assert len(reported) >= 3, "only before the first episode ends there is nothing to report"
    assert fs.read_json(paths.meta)["num_envs"] == 64
    assert result.score is not None


def learner(num_envs: int, iterations: int, **settings: Any) -> Learner:
    ppo = PpoSettings(rollouts=8, learning_epochs=3, mini_batches=2, policy_hidden_layer_sizes=(16,), **settings)
    return Learner(PointEnv(num_envs, seed=1), ppo, iterations=iterations, seed=2)


def test_robots_start_anew_and_all_else_goes_on() -> None:
    old = learner(16, 20)
    for _ in range(5):
        old.iterate()
    new = learner(8, 40)
    state = old.state_dict()
    new.load_state_dict(state)
    assert (new.iteration, new.env_steps) == (5, 5 * 16 * 8)
    after = new.state_dict()
    for name, tensor in state["policy"].items():
        assert tensor.equal(after["policy"][name])
    for part in ("state_preprocessor", "value_preprocessor"):
        assert all(tensor.equal(after[part][name]) for name, tensor in state[part].items())
    for name, tensor in state["vbot_campaign"]["generators"].items():
        assert tensor.equal(after["vbot_campaign"]["generators"][name])
    moments = state["optimizer"]["state"][0]["exp_avg"]
    assert moments.equal(after["optimizer"]["state"][0]["exp_avg"])
    generator = state["vbot_campaign"]["env"]["generator"]
    assert generator.equal(after["vbot_campaign"]["env"]["generator"]), "no spawn is drawn a second time"
    # 5 of 20 iterations of 3 epochs are 10 of 40.
    assert after["vbot_campaign"]["schedule"] == {
        "epochs": 30,
        "learning_rate": pytest.approx(0.75e-3),
        "first_rate": 1e-3,
    }
    assert new.iterate().env_steps == 5 * 16 * 8 + 8 * 8


def test_a_rate_that_follows_the_divergence_goes_on_from_where_it_was() -> None:
    settings = {"lr_scheduler_type": "kl_adaptive", "learning_rate": 2e-3}
    old = learner(16, 20, **settings)
    rates = [old.iterate().learning_rate for _ in range(4)]
    new = learner(8, 40, **settings)
    new.load_state_dict(old.state_dict())
    assert new.state_dict()["vbot_campaign"]["schedule"]["learning_rate"] == rates[-1] != 2e-3


def test_after_the_change_a_resume_is_exact_again() -> None:
    old = learner(16, 20)
    old.iterate()
    changed = learner(8, 40)
    changed.load_state_dict(old.state_dict())
    changed.iterate()
    again = learner(8, 40)
    again.load_state_dict(changed.state_dict())
    left, right = changed.iterate(), again.iterate()
    assert (left.loss, left.reward_mean, left.learning_rate) == (right.loss, right.reward_mean, right.learning_rate)
