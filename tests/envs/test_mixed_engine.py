"""Half of the robots in one simulator, half in the other: each must behave as if its engine were alone."""

from __future__ import annotations

import torch

from vbot_campaign.envs.physics import PhysicsEngine, make_engine
from vbot_campaign.envs.vbot.model import DEFAULT_POSE

MIXED = "mujoco+motrixsim"


def engine_of(physics: str, num_envs: int) -> PhysicsEngine:
    return make_engine(physics, num_envs=num_envs, threads=1, substeps=1, collision="fast")


def poses(count: int, seed: int = 3) -> torch.Tensor:
    states = torch.zeros(count, 19, dtype=torch.float64)
    states[:, 2] = 0.32
    states[:, 3] = 1.0
    states[:, 7:] = torch.tensor(DEFAULT_POSE, dtype=torch.float64)
    states[:, 7:] += 0.05 * torch.randn(count, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return states


def place(engine: PhysicsEngine, states: torch.Tensor) -> None:
    engine.reset(torch.arange(len(states)), states, torch.zeros(len(states), 18, dtype=torch.float64))


def shake(engine: PhysicsEngine, torques: torch.Tensor) -> torch.Tensor:
    """Play torques, (steps, num_envs, 12), and return the last positions and velocities."""
    for step in torques:
        engine.step(step)
    return torch.cat((engine.positions, engine.velocities), dim=1).clone()


def random_torques(steps: int, num_envs: int) -> torch.Tensor:
    return 6 * torch.randn(steps, num_envs, 12, generator=torch.Generator().manual_seed(11))


def test_each_half_moves_as_in_its_engine_alone() -> None:
    states, torques = poses(5), random_torques(30, 5)
    mixed, mujoco, motrixsim = engine_of(MIXED, 5), engine_of("mujoco", 3), engine_of("motrixsim", 2)
    place(mixed, states)
    place(mujoco, states[:3])
    place(motrixsim, states[3:])

    moved = shake(mixed, torques)

    assert torch.equal(moved[:3], shake(mujoco, torques[:, :3]))
    assert torch.equal(moved[3:], shake(motrixsim, torques[:, 3:]))
    assert not torch.equal(moved[0], moved[3])


def test_a_reset_finds_robots_of_both_engines() -> None:
    engine = engine_of(MIXED, 4)
    place(engine, poses(4))
    before = shake(engine, random_torques(10, 4))
    engine.reset(torch.tensor([1, 2]), poses(2, seed=9), torch.ones(2, 18, dtype=torch.float64))
    after = torch.cat((engine.positions, engine.velocities), dim=1)
    assert torch.equal(after[[0, 3]], before[[0, 3]])
    assert torch.equal(engine.positions[[1, 2]], poses(2, seed=9))
    assert (engine.velocities[[1, 2]] == 1.0).all()


def test_a_write_to_the_views_is_the_state_of_the_next_step() -> None:
    engine = engine_of(MIXED, 2)
    place(engine, poses(2))
    engine.positions[:, 2] = 1.0
    engine.velocities[:, 0] = 0.5
    engine.step(torch.zeros(2, 12))
    torch.testing.assert_close(engine.positions[:, 2], torch.full((2,), 1.0, dtype=torch.float64), atol=2e-3, rtol=0)
    torch.testing.assert_close(engine.velocities[:, 0], torch.full((2,), 0.5, dtype=torch.float64), atol=0.05, rtol=0)


def test_training_goes_on_exactly_from_a_saved_state() -> None:
    torques = random_torques(40, 4)
    first, second = engine_of(MIXED, 4), engine_of(MIXED, 4)
    place(first, poses(4))
    place(second, poses(4, seed=5))
    shake(first, torques[:20])
    second.load_state_dict(first.state_dict())
    assert torch.equal(shake(first, torques[20:]), shake(second, torques[20:]))


def test_properties_reach_the_robots_they_are_meant_for() -> None:
    engine = engine_of(MIXED, 4)
    one = torch.ones(2, dtype=torch.float64)
    before = engine.masses().clone()
    engine.set_properties(torch.tensor([1, 3]), base_mass=one * 2, friction=one)
    gained = engine.masses() - before
    torch.testing.assert_close(
        gained, torch.tensor([0.0, 9.016326, 0.0, 9.016326], dtype=torch.float64), atol=1e-5, rtol=0
    )


def test_one_robot_is_enough() -> None:
    engine = engine_of(MIXED, 1)
    place(engine, poses(1))
    assert torch.isfinite(shake(engine, random_torques(5, 1))).all()
