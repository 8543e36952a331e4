"""The task step by step: action path, outcomes, resets, exact continuation."""

from __future__ import annotations

import math

import pytest
import torch

from tests.support.vbot import make_vbot, place
from vbot_campaign.envs.vbot.memory import EpisodeMemory
from vbot_campaign.envs.vbot.task import VbotNavigation
from vbot_campaign.errors import SpecError
from vbot_campaign.spec.outcomes import EpisodeTotals

ZERO = torch.zeros(1, 12)


def stand(env: VbotNavigation, steps: int) -> None:
    for _ in range(steps):
        env.step(torch.zeros(env.num_envs, 12))


@pytest.mark.parametrize("collision", ["fast", "full"])
def test_the_held_pose_stands_at_its_measured_height(collision: str) -> None:
    env = make_vbot(2, collision=collision)
    env.reset()
    stand(env, 200)
    assert env.engine.positions[:, 2].tolist() == pytest.approx([0.261, 0.261], abs=0.002)
    assert env.take_totals().finished == 0


def test_straight_legs_fold_into_the_held_pose() -> None:
    env = make_vbot(8, reset_pose="zero")
    env.reset()
    stand(env, 100)
    assert env.take_totals().finished == 0
    heights = env.engine.positions[:, 2]
    assert heights.min() > 0.22
    assert heights.max() < 0.29


def test_action_filter_and_joint_targets() -> None:
    env = make_vbot(1)
    env.reset()
    env.step(torch.full((1, 12), 10.0))
    assert env._memory.filtered_action[0, 0].item() == pytest.approx(3.0)
    env.step(torch.full((1, 12), -1.0))
    assert env._memory.filtered_action[0, 0].item() == pytest.approx(0.3 * -1 + 0.7 * 3)


def test_torques_follow_the_pd_law_and_are_clamped() -> None:
    env = make_vbot(1)
    env.reset()
    env.engine.positions[0, 7] = 0.1
    env.engine.velocities[0, 6] = 0.5
    torques = env._torques(torch.tensor([[0.2, 4.0, -8.0] + [0.0] * 9]))[0]
    assert torques[0].item() == pytest.approx(80 * (0.25 * 0.2 - 0.1) - 6 * 0.5)
    assert torques[1].item() == 17.0
    assert torques[2].item() == -34.0


def topple(env: VbotNavigation, index: int) -> None:
    """Lay a robot on its side, well above the ground."""
    env.engine.positions[index, 2] = 0.6
    env.engine.positions[index, 3:7] = torch.tensor([math.sqrt(0.5), math.sqrt(0.5), 0.0, 0.0])


def test_a_fall_terminates_before_or_after_arrival() -> None:
    env = make_vbot(2, weights={"termination": -7.0})
    env.reset()
    place(env)
    topple(env, 0)
    topple(env, 1)
    env._memory.ever_reached[1] = True
    result = env.step(torch.zeros(2, 12))
    assert result.terminated.all()
    assert not result.truncated.any()
    totals = env.take_totals()
    assert (totals.fell_before, totals.fell_after, totals.reached) == (1, 1, 1)
    assert env.take_term_means()["termination"] == -7.0


@pytest.mark.parametrize(("height", "touches"), [(0.0934, True), (0.0936, False)])
def test_the_base_touches_the_ground_with_its_belly_nubs(height: float, touches: bool) -> None:
    env = make_vbot(1)
    env.reset()
    place(env, position=(0.0, 0.0, height))  # nubs end 0.0925 m below the origin, the contact margin is 1 mm
    assert env._contact(env._base()).item() is touches


def test_the_base_touches_the_ground_with_its_front_when_it_dives() -> None:
    env = make_vbot(1)
    env.reset()
    half = math.radians(60.0) / 2
    # The front plate's lower edge is 0.2537635 m ahead and 0.022519 m down: at 60 degrees nose down it is lowest.
    lowest = 0.2537635 * math.sin(2 * half) + 0.022519 * math.cos(2 * half)
    for height, touches in ((lowest + 0.0009, True), (lowest + 0.0011, False)):
        place(env, position=(0.0, 0.0, height))
        env.engine.positions[0, 3:7] = torch.tensor([math.cos(half), 0.0, math.sin(half), 0.0])
        assert env._contact(env._base()).item() is touches


@pytest.mark.parametrize(("degrees", "falls"), [(74.0, False), (76.0, True)])
def test_tilt_beyond_75_degrees_is_a_fall(degrees: float, falls: bool) -> None:
    env = make_vbot(1)
    env.reset()
    place(env, position=(0.0, 0.0, 1.0))
    half = math.radians(degrees) / 2
    env.engine.positions[0, 3:7] = torch.tensor([math.cos(half), math.sin(half), 0.0, 0.0])
    assert env._fallen(env._base()).item() is falls


def test_state_that_is_not_finite_is_a_fall_and_leaves_no_trace() -> None:
    env = make_vbot(2)
    env.reset()
    env.engine.velocities[0, 7] = float("nan")
    result = env.step(torch.zeros(2, 12))
    assert result.terminated.tolist() == [True, False]
    assert torch.isfinite(result.observations).all()
    assert torch.isfinite(result.final_observations).all()
    assert torch.isfinite(result.rewards).all()
    stand(env, 5)
    assert torch.isfinite(env.observe()).all()


def test_leaving_the_disc_is_out_of_bounds() -> None:
    env = make_vbot(1)
    env.reset()
    place(env, position=(12.6, 0.0, 0.3))
    assert env.step(ZERO).terminated.item()
    totals = env.take_totals()
    assert (totals.out_of_bounds, totals.fell_before) == (1, 0)


def test_standing_in_the_goal_for_fifty_steps_is_success() -> None:
    env = make_vbot(1)
    env.reset()
    place(env, target=(0.2, 0.0))
    truncated = [bool(env.step(ZERO).truncated.item()) for _ in range(80)]
    assert truncated.count(True) == 1
    first = truncated.index(True)
    assert first >= 49
    totals = env.take_totals()
    assert (totals.success, totals.reached, totals.timed_out) == (1, 1, 0)
    assert totals.length == first + 1
    assert totals.time_to_goal == pytest.approx(0.01)
    assert totals.goal_progress == 1.0


def test_the_clock_cuts_an_episode_and_counts_what_was_covered() -> None:
    env = make_vbot(1, episode_seconds=1.0)
    env.reset()
    place(env, target=(2.5, 0.0))
    env._memory.initial_distance[:] = 4.5
    results = [env.step(ZERO) for _ in range(100)]
    assert results[-1].truncated.item()
    assert not any(result.truncated.item() for result in results[:-1])
    totals = env.take_totals()
    assert (totals.timed_out, totals.finished) == (1, 1)
    assert totals.goal_progress == pytest.approx((4.5 - 2.5) / 4.0, abs=0.02)
    assert totals.time_to_goal == 1.0


def test_a_reset_clears_all_memory() -> None:
    env = make_vbot(3)
    env.reset()
    memory = env._memory
    for name in EpisodeMemory.__dataclass_fields__:
        getattr(memory, name)[1] = 1
    env._start_episodes(torch.tensor([1]))
    assert memory.steps[1] == 0
    assert memory.counted[1]
    for name in ("ever_reached", "arrival_step", "fence_entered", "stopped_steps", "reward"):
        assert getattr(memory, name)[1] == 0, name
    assert memory.filtered_action[1].abs().sum() == 0
    assert memory.joint_velocity[1].abs().sum() == 0
    assert memory.previous_distance[1] == memory.initial_distance[1]
    assert 2.0 <= memory.initial_distance[1] <= 5.0


def test_an_ended_environment_returns_its_new_episode_and_its_old_observation() -> None:
    env = make_vbot(2)
    env.reset()
    place(env)
    topple(env, 0)
    result = env.step(torch.ones(2, 12))
    assert result.observations[0, 33:45].abs().sum() == 0
    assert result.final_observations[0, 33].item() == pytest.approx(0.3)
    torch.testing.assert_close(result.observations[1], result.final_observations[1])
    torch.testing.assert_close(result.observations, env.observe())


def test_training_clocks_are_spread_and_the_cut_episodes_are_not_counted() -> None:
    env = make_vbot(64, training=True, episode_seconds=1.0)
    env.reset()
    assert len(env._memory.steps.unique()) > 20
    stand(env, 99)
    assert env.take_totals() == EpisodeTotals(), "only shortened episodes have ended"
    stand(env, 100)
    assert env.take_totals().finished > 50


def test_first_episodes_are_counted_once() -> None:
    env = make_vbot(3, episode_seconds=1.0)
    env.count_first_episodes_only()
    env.reset()
    stand(env, 99)
    assert not env.all_first_episodes_done()
    stand(env, 150)
    assert env.all_first_episodes_done()
    assert env.take_totals().finished == 3


def play(env: VbotNavigation, steps: int, seed: int) -> list[torch.Tensor]:
    noise = torch.Generator().manual_seed(seed)
    seen = []
    for _ in range(steps):
        result = env.step(3.0 * torch.randn(env.num_envs, 12, generator=noise))
        seen.append(torch.cat((result.observations.flatten(), result.rewards)))
    return seen


def test_a_saved_environment_continues_bit_for_bit() -> None:
    env = make_vbot(16, training=True)
    env.reset()
    play(env, 120, seed=1)
    state = env.state_dict()
    wanted = play(env, 150, seed=2)
    other = make_vbot(16, training=True, seed=99, threads=2)
    other.load_state_dict(state)
    for a, b in zip(wanted, play(other, 150, seed=2), strict=True):
        assert torch.equal(a, b)
    assert env.take_totals() == other.take_totals()
    assert env.take_term_means() == other.take_term_means()


def test_the_number_of_threads_changes_nothing() -> None:
    one, two = make_vbot(16, threads=1), make_vbot(16, threads=2)
    one.reset()
    two.reset()
    for a, b in zip(play(one, 100, seed=3), play(two, 100, seed=3), strict=True):
        assert torch.equal(a, b)


def test_spawns_fill_the_ring_by_area_and_stay_on_the_platform() -> None:
    env = make_vbot(4000, spawn_inner_radius=8.0, spawn_outer_radius=11.0)
    env.reset()
    memory, points = env._memory, env.engine.positions[:, :2]
    assert memory.initial_distance.min() >= 8.0 - 1e-4
    assert memory.initial_distance.max() <= 11.0 + 1e-4
    assert points.square().sum(dim=1).max() <= 11.0**2
    assert memory.target.square().sum(dim=1).max() <= 3.0**2
    # Uniform by area: half of the targets lie within radius 3 / sqrt(2) of the centre, before rejections shift it.
    near = make_vbot(4000)
    near.reset()
    share = (near._memory.initial_distance.square() < (4 + 25) / 2).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.03)


def test_fixed_target() -> None:
    env = make_vbot(8, target_radius=0.0)
    env.reset()
    assert env._memory.target.abs().sum() == 0
    assert env._memory.target_yaw.abs().sum() == 0


def test_impossible_spawn_is_refused() -> None:
    with pytest.raises(SpecError, match=r"spawn_inner_radius: 11.0 m .* never on the platform"):
        make_vbot(1, spawn_inner_radius=11.0, spawn_outer_radius=12.0, target_radius=0.0)


def test_unknown_engine_names_the_near_one() -> None:
    from vbot_campaign.envs.physics import make_engine

    with pytest.raises(SpecError, match=r"physics: 'mujco' .* Did you mean 'mujoco'\?"):
        make_engine("mujco", num_envs=1, threads=1, substeps=1, collision="fast")
