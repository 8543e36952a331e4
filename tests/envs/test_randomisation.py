"""Noise and domain randomisation: off means untouched, on means as large as declared, and saved means exact."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.vbot import make_vbot
from vbot_campaign.envs.vbot.randomisation import NoRandomisation
from vbot_campaign.envs.vbot.task import VbotNavigation
from vbot_campaign.errors import SpecError

ALL_ON: dict[str, Any] = {
    "noise_level": 1.0,
    "randomise_mass": 0.2,
    "randomise_friction": 0.5,
    "randomise_strength": 0.1,
    "push_velocity": 0.5,
    "push_interval_seconds": 0.5,
}
ENGINES = pytest.mark.parametrize("physics", ["mujoco", "motrixsim"])


def play(env: VbotNavigation, steps: int, seed: int) -> torch.Tensor:
    noise = torch.Generator().manual_seed(seed)
    seen = []
    for _ in range(steps):
        result = env.step(2.0 * torch.randn(env.num_envs, 12, generator=noise))
        seen.append(torch.cat((result.observations.flatten(), result.rewards)))
    return torch.stack(seen)


def test_nothing_is_randomised_by_default() -> None:
    env = make_vbot(2)
    assert isinstance(env._randomisation, NoRandomisation)
    env.reset()
    assert env.engine.masses().tolist() == pytest.approx([16.4275] * 2, abs=1e-3)


def test_spawns_do_not_depend_on_it() -> None:
    plain, noisy = make_vbot(32, seed=4), make_vbot(32, seed=4, **ALL_ON)
    plain.reset()
    noisy.reset()
    assert torch.equal(plain.engine.positions, noisy.engine.positions)
    assert torch.equal(plain._memory.target, noisy._memory.target)


def test_noise_is_as_large_as_declared() -> None:
    """Level 2 is 0.2 m/s x 2, 0.4 rad/s x 0.25, 0.1, 0.06 rad and 3 rad/s x 0.05, either way."""
    plain, noisy = make_vbot(500, seed=1), make_vbot(500, seed=1, noise_level=2.0)
    difference = (noisy.reset() - plain.reset()).abs()
    for start, end, size in ((0, 3, 0.4), (3, 6, 0.1), (6, 9, 0.1), (9, 21, 0.06), (21, 33, 0.15)):
        part = difference[:, start:end]
        assert part.max() <= size * (1 + 1e-4)
        assert part.max() > 0.95 * size
        assert part.mean().item() == pytest.approx(size / 2, rel=0.06)
    assert difference[:, 33:].max() == 0


def test_observing_twice_sees_the_same_noise_and_a_step_draws_new() -> None:
    env = make_vbot(4, noise_level=1.0)
    first = env.reset()
    assert torch.equal(first, env.observe())
    before = env._randomisation.sense(torch.zeros(4, 54))
    result = env.step(torch.zeros(4, 12))
    assert torch.equal(result.observations, env.observe())
    assert not torch.equal(before, env._randomisation.sense(torch.zeros(4, 54)))


@ENGINES
def test_mass_and_friction_differ_between_robots_and_change_with_the_episode(physics: str) -> None:
    env = make_vbot(200, physics=physics, randomise_mass=0.2, randomise_friction=0.5)
    env.reset()
    masses = env.engine.masses()
    base = 9.016326
    assert (masses - 16.4275).abs().max() <= 0.2 * base + 1e-3
    assert (masses - 16.4275).abs().max() > 0.18 * base
    env._start_episodes(torch.tensor([3, 7]))
    changed = (env.engine.masses() != masses).nonzero().flatten().tolist()
    assert changed == [3, 7]


def test_motor_strength_scales_torques_up_to_the_limit() -> None:
    env = make_vbot(100, randomise_strength=0.3)
    env.reset()
    strength = env._randomisation.torques(torch.ones(100, 12))
    assert strength.min() >= 0.7
    assert strength.max() <= 1.3
    assert strength.max() - strength.min() > 0.4
    assert torch.equal(strength[:, :1].expand(100, 12), strength), "all motors of a robot share it"
    assert env._randomisation.torques(torch.full((100, 12), 17.0))[:, 0].max() == 17.0


def test_pushes_come_at_their_interval_and_stay_below_their_velocity() -> None:
    env = make_vbot(100, push_velocity=1.0, push_interval_seconds=0.2)
    env.reset()
    pushes = torch.zeros(100, dtype=torch.int64)
    for step in range(60):
        before = env.engine.velocities.clone()
        env._randomisation.begin_step(torch.full((100,), step))
        change = env.engine.velocities - before
        assert change[:, :2].norm(dim=1).max() <= 1.0
        assert change[:, 2:].abs().max() == 0
        pushes += change.abs().sum(dim=1) > 0
    assert pushes.tolist() == [3] * 100


@ENGINES
def test_a_saved_randomised_environment_continues_bit_for_bit(physics: str) -> None:
    env = make_vbot(12, physics=physics, training=True, episode_seconds=1.0, **ALL_ON)
    env.reset()
    play(env, 70, seed=1)
    state = env.state_dict()
    wanted = play(env, 120, seed=2)
    other = make_vbot(12, physics=physics, training=True, episode_seconds=1.0, seed=99, **ALL_ON)
    other.load_state_dict(state)
    assert torch.equal(play(other, 120, seed=2), wanted)


@pytest.mark.parametrize(("name", "value"), [("randomise_mass", 0.95), ("noise_level", -1.0), ("push_velocity", 9.0)])
def test_a_value_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(SpecError, match=rf"env\.{name}: {value} is not valid"):
        make_vbot(1, **{name: value})
