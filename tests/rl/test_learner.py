"""The learner: it learns, adds up, continues exactly."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.toy_env import CLOCK, PointEnv
from vbot_campaign.envs.vec_env import StepResult
from vbot_campaign.errors import CheckpointError, DivergedError, SpecError
from vbot_campaign.rl import checkpoint
from vbot_campaign.rl.evaluate import evaluate
from vbot_campaign.rl.learner import IterationStats, Learner
from vbot_campaign.spec.training import PpoSettings

SMALL = {"rollouts": 16, "policy_hidden_layer_sizes": (32, 32), "value_hidden_layer_sizes": (32, 32)}


def make_learner(*, num_envs: int = 64, seed: int = 3, iterations: int = 40, **settings: object) -> Learner:
    ppo = PpoSettings.model_validate({**SMALL, **settings})
    return Learner(PointEnv(num_envs, seed=1), ppo, iterations=iterations, seed=seed, device="cpu")


def comparable(stats: IterationStats) -> dict[str, object]:
    """Everything but the wall time; JSON keeps every bit of a float."""
    record = dataclasses.asdict(stats)
    del record["seconds"]
    return json.loads(json.dumps(record))


def success_rate(learner: Learner) -> float:
    env = PointEnv(64, seed=9)
    totals = evaluate(learner.policy, learner.observation_normalizer, env, episodes=64, max_steps=CLOCK)
    return totals.success / totals.finished


def test_it_learns_to_reach_the_target() -> None:
    learner = make_learner()
    before = success_rate(learner)

    first, *_, last = [learner.iterate() for _ in range(30)]

    assert before < 0.3
    assert success_rate(learner) > 0.95
    assert last.reward_mean > first.reward_mean + 0.2
    assert last.loss["value"] < 0.1 * first.loss["value"]


def test_statistics_of_an_iteration_add_up() -> None:
    learner = make_learner(lr_scheduler_type="none")
    learner.iterate()

    stats = learner.iterate()

    assert (stats.iteration, stats.env_steps) == (2, 2 * 64 * 16)
    assert sum(stats.terms.values()) == pytest.approx(stats.reward_mean, abs=1e-6)
    assert stats.episodes.finished > 0
    assert set(stats.loss) == {"policy", "value", "entropy"}
    assert set(stats.seconds) == {"environment", "policy", "update"}
    assert all(seconds > 0 for seconds in stats.seconds.values())
    assert stats.learning_rate == 1e-3
    assert stats.std == pytest.approx(1.0, abs=0.1)


def test_the_same_seed_trains_the_same_and_leaves_the_global_generator_alone() -> None:
    def train(seed: int) -> dict[str, object]:
        learner = make_learner(seed=seed)
        learner.iterate()
        return comparable(learner.iterate())

    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first = train(3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(6)
    assert train(3) == first
    assert train(4) != first


class RecordingEnv(PointEnv):
    """Remembers what it returned."""

    def __init__(self, num_envs: int, seed: int) -> None:
        super().__init__(num_envs, seed)
        self.results: list[StepResult] = []

    def step(self, actions: torch.Tensor) -> StepResult:
        self.results.append(super().step(actions))
        return self.results[-1]


@pytest.mark.parametrize("bootstrap", [True, False])
def test_cut_episodes_get_the_discounted_value_of_their_last_state(bootstrap: bool) -> None:
    env = RecordingEnv(32, seed=1)
    settings = PpoSettings.model_validate(
        {
            **SMALL,
            "rollouts": 40,
            "time_limit_bootstrap": bootstrap,
            "discount_factor": 0.9,
            "rewards_shaper_scale": 0.5,
        }
    )
    learner = Learner(env, settings, iterations=1, seed=0, device="cpu")
    with torch.no_grad():
        # The value of a state is the third number of its observation, the share of the clock: at most 1.
        learner.policy.load_state_dict({name: torch.zeros_like(p) for name, p in learner.policy.state_dict().items()})
        for weights, row, column in (("value_net.0", 0, 2), ("value_net.2", 0, 0), ("value_layer", 0, 0)):
            learner.policy.state_dict()[f"{weights}.weight"][row, column] = 1.0

    learner.iterate()

    truncated = torch.stack([result.truncated for result in env.results])
    terminated = torch.stack([result.terminated for result in env.results])
    rewards = torch.stack([result.rewards for result in env.results])
    clock = torch.stack([result.final_observations[:, 2] for result in env.results])
    assert truncated.sum() > 30
    expected = 0.5 * rewards + (0.9 * clock * truncated if bootstrap else 0.0)
    torch.testing.assert_close(learner.storage.rewards, expected)
    assert torch.equal(learner.storage.ended, truncated | terminated)


def test_the_policy_that_is_updated_is_the_one_that_acted() -> None:
    # The first gradient step sees ratios of exactly one although statistics of normalization move in between.
    learner = make_learner(learning_epochs=1, mini_batches=1)
    learner.iterate()

    stats = learner.iterate()

    assert stats.kl == pytest.approx(0.0, abs=1e-7)
    assert learner.observation_normalizer.current_count.item() == 1 + 2 * 64 * 16


def test_frozen_normalizers_stay_as_loaded() -> None:
    learner = make_learner(freeze_normalizers=True)

    learner.iterate()

    assert learner.observation_normalizer.current_count.item() == 1
    assert learner.value_normalizer.current_count.item() == 1


def test_a_reward_that_is_not_a_number_ends_the_training() -> None:
    class BrokenEnv(PointEnv):
        def step(self, actions: torch.Tensor) -> StepResult:
            return dataclasses.replace(super().step(actions), rewards=torch.full((self.num_envs,), math.nan))

    learner = Learner(BrokenEnv(8, 1), PpoSettings.model_validate(SMALL), iterations=3, seed=0, device="cpu")

    with pytest.raises(DivergedError, match="iteration 1: "):
        learner.iterate()


def test_more_mini_batches_than_transitions_are_refused() -> None:
    with pytest.raises(SpecError, match=r"ppo\.mini_batches: 40 is more than the 32 transitions"):
        make_learner(num_envs=2, mini_batches=40)


CONTINUE = """
import dataclasses, json, sys
from pathlib import Path
import torch
from tests.rl.test_learner import comparable, make_learner
from vbot_campaign.rl import checkpoint

torch.set_num_threads(1)
torch.manual_seed(999)
learner = make_learner(seed=77, lr_scheduler_type=sys.argv[2])
learner.load_state_dict(checkpoint.load(Path(sys.argv[1])))
print(json.dumps([comparable(learner.iterate()) for _ in range(3)]))
"""


@pytest.mark.parametrize("schedule", ["linear", "kl_adaptive"])
def test_training_continues_bit_for_bit_in_another_process(tmp_path: Path, schedule: str) -> None:
    learner = make_learner(lr_scheduler_type=schedule)
    for _ in range(3):
        learner.iterate()
    checkpoint.save(tmp_path / "agent.pt", learner.state_dict(), {})
    uninterrupted = [comparable(learner.iterate()) for _ in range(3)]

    command = [sys.executable, "-c", CONTINUE, str(tmp_path / "agent.pt"), schedule]
    root = Path(__file__).parents[2]
    output = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout

    assert json.loads(output) == uninterrupted
    assert uninterrupted[2]["iteration"] == 6


def test_a_state_taken_before_the_first_iteration_continues_too(tmp_path: Path) -> None:
    learner, other = make_learner(), make_learner(seed=77)
    checkpoint.save(tmp_path / "agent_0.pt", learner.state_dict(), {})

    other.load_state_dict(checkpoint.load(tmp_path / "agent_0.pt"))

    assert comparable(other.iterate()) == comparable(learner.iterate())


def test_a_warm_start_takes_the_policy_and_nothing_else(tmp_path: Path) -> None:
    teacher, pupil = make_learner(), make_learner(seed=8)
    for _ in range(20):
        teacher.iterate()
    checkpoint.save(tmp_path / "best_agent.pt", teacher.state_dict(), {"kind": "policy"})

    pupil.warm_start(checkpoint.load(tmp_path / "best_agent.pt"))

    assert success_rate(pupil) == success_rate(teacher) > 0.8
    assert (pupil.iteration, pupil.env_steps) == (0, 0)
    assert pupil.iterate().env_steps == 64 * 16


def test_a_policy_alone_cannot_continue_a_training(tmp_path: Path) -> None:
    learner = make_learner()
    checkpoint.save(tmp_path / "best_agent.pt", learner.state_dict(), {"kind": "policy"})

    with pytest.raises(CheckpointError, match="holds a policy only"):
        learner.load_state_dict(checkpoint.load(tmp_path / "best_agent.pt"))


def test_networks_of_other_sizes_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"does not fit this training.*policy_net"):
        make_learner().warm_start(make_learner(policy_hidden_layer_sizes=(16,)).state_dict())
