"""What every physics engine must do, for all of them: a missing engine fails here and is not skipped."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from tests.support.vbot import make_vbot
from vbot_campaign.envs.physics import PhysicsEngine, make_engine
from vbot_campaign.envs.vbot.model import DAMPING, DEFAULT_POSE, STIFFNESS, TORQUE_LIMITS
from vbot_campaign.errors import PhysicsUnavailableError
from vbot_campaign.spec.environments import get_environment

ENGINES = tuple(name for name in get_environment("vbot_navigation_section001").physics if "+" not in name)
GRAVITY = 9.81
POSE = torch.tensor(DEFAULT_POSE, dtype=torch.float64)
LIMITS = torch.tensor(TORQUE_LIMITS)


@pytest.fixture(params=ENGINES)
def physics(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def engine_of(physics: str, num_envs: int = 1, *, substeps: int = 1, collision: str = "fast") -> PhysicsEngine:
    return make_engine(physics, num_envs=num_envs, threads=1, substeps=substeps, collision=collision)


def poses(count: int, *, height: float = 0.3, quaternion: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)) -> torch.Tensor:
    states = torch.zeros(count, 19, dtype=torch.float64)
    states[:, 2] = height
    states[:, 3:7] = torch.tensor(quaternion, dtype=torch.float64)
    states[:, 7:] = POSE
    return states


def place(engine: PhysicsEngine, positions: torch.Tensor, velocities: torch.Tensor | None = None) -> None:
    still = torch.zeros(len(positions), 18, dtype=torch.float64)
    engine.reset(torch.arange(engine.num_envs), positions, still if velocities is None else velocities)


def hold(engine: PhysicsEngine, steps: int) -> None:
    """Hold the default pose with the task's PD controller."""
    for _ in range(steps):
        torques = STIFFNESS * (POSE - engine.positions[:, 7:]) - DAMPING * engine.velocities[:, 6:]
        engine.step(torques.float().clamp(-LIMITS, LIMITS))


def shake(engine: PhysicsEngine, steps: int, seed: int) -> torch.Tensor:
    """Play random torques and return all states, (steps, num_envs, 37)."""
    noise = torch.Generator().manual_seed(seed)
    seen = []
    for _ in range(steps):
        engine.step(8 * torch.randn(engine.num_envs, 12, generator=noise))
        seen.append(torch.cat((engine.positions, engine.velocities), dim=1).clone())
    return torch.stack(seen)


def test_shapes_and_types(physics: str) -> None:
    engine = engine_of(physics, 3)
    assert engine.num_envs == 3
    assert (engine.positions.shape, engine.velocities.shape) == ((3, 19), (3, 18))
    assert (engine.positions.dtype, engine.velocities.dtype) == (torch.float64, torch.float64)


def test_reset_touches_only_the_named_robots(physics: str) -> None:
    engine = engine_of(physics, 4)
    place(engine, poses(4))
    hold(engine, 20)
    before = torch.cat((engine.positions, engine.velocities), dim=1).clone()
    engine.reset(torch.tensor([0, 2]), poses(2, height=0.5), torch.ones(2, 18, dtype=torch.float64))
    after = torch.cat((engine.positions, engine.velocities), dim=1)
    assert torch.equal(after[[1, 3]], before[[1, 3]])
    torch.testing.assert_close(engine.positions[[0, 2]], poses(2, height=0.5))
    assert (engine.velocities[[0, 2]] == 1.0).all()


def test_robots_do_not_feel_each_other(physics: str) -> None:
    engine = engine_of(physics, 2)
    states = poses(2)
    states[1, 0] = 0.1  # they would overlap in one world
    place(engine, states)
    hold(engine, 50)
    offset = engine.positions[1] - engine.positions[0]
    torch.testing.assert_close(offset[0].item(), 0.1, atol=1e-4, rtol=0)
    assert offset[1:].abs().max() < 1e-3


def test_mass(physics: str) -> None:
    assert engine_of(physics, 2).masses().tolist() == pytest.approx([16.4275, 16.4275], abs=1e-3)


@pytest.mark.parametrize("substeps", [1, 2])
@pytest.mark.parametrize("collision", ["fast", "full"])
def test_the_held_pose_stands_at_its_measured_height(physics: str, collision: str, substeps: int) -> None:
    engine = engine_of(physics, collision=collision, substeps=substeps)
    place(engine, poses(1))
    hold(engine, 200)
    assert engine.positions[0, 2].item() == pytest.approx(0.261, abs=0.003)
    assert engine.velocities.abs().max() < 0.05


def test_free_fall(physics: str) -> None:
    """A semi-implicit step falls g t (t + dt) / 2 instead of g t^2 / 2: 4.954 m in the first second."""
    engine = engine_of(physics)
    place(engine, poses(1, height=20.0))
    hold(engine, 100)
    fallen = 20.0 - engine.positions[0, 2].item()
    assert fallen == pytest.approx(GRAVITY * 1.01 / 2, abs=0.01)
    assert fallen == pytest.approx(GRAVITY / 2, rel=0.02)
    assert engine.velocities[0, 2].item() == pytest.approx(-GRAVITY, abs=0.02)
    assert engine.positions[0, :2].abs().max() < 0.05
    assert engine.velocities[0, :2].abs().max() < 0.05


def test_gravity_points_down_and_its_direction_is_seen_in_body_axes(physics: str) -> None:
    """On its right side (rolled by 90 degrees) gravity is along the body's -y axis."""
    env = make_vbot(1, physics=physics)
    env.reset()
    s = math.sqrt(0.5)
    place(env.engine, poses(1, height=5.0, quaternion=(s, s, 0.0, 0.0)))
    torch.testing.assert_close(env.observe()[0, 6:9], torch.tensor([0.0, -1.0, 0.0]), atol=1e-5, rtol=0)
    hold(env.engine, 10)
    assert env.engine.velocities[0, :3].tolist() == pytest.approx([0.0, 0.0, -GRAVITY * 0.1], abs=0.02)


@pytest.mark.parametrize("joint", range(12))
def test_a_positive_torque_turns_its_joint_forward(physics: str, joint: int) -> None:
    engine = engine_of(physics)
    place(engine, poses(1, height=5.0))
    torques = torch.zeros(1, 12)
    torques[0, joint] = 5.0
    engine.step(torques)
    speeds = engine.velocities[0, 6:]
    assert speeds[joint] > 0.1
    assert speeds.abs().argmax() == joint


def test_linear_velocity_is_in_world_axes_at_the_origin_of_the_base(physics: str) -> None:
    """The base's centre of mass lies 36 mm away and would move at 0.05 m/s more: all engines step semi-implicitly."""
    engine = engine_of(physics)
    spin(engine)
    hold(engine, 2)
    start = engine.positions[0, :3].clone()
    hold(engine, 1)
    moved = (engine.positions[0, :3] - start) / 0.01
    torch.testing.assert_close(moved, engine.velocities[0, :3], atol=1e-3, rtol=0)


def test_angular_velocity_is_in_body_axes(physics: str) -> None:
    engine = engine_of(physics)
    spin(engine)
    hold(engine, 2)
    w, *xyz = engine.positions[0, 3:7].tolist()
    hold(engine, 1)
    turned_w, *turned = engine.positions[0, 3:7].tolist()
    axis, new = torch.tensor(xyz), torch.tensor(turned)
    # The vector part of conj(q) q', twice over the time: the turn as seen from the body.
    rate = 2 * (w * new - turned_w * axis - torch.linalg.cross(axis, new)) / 0.01
    torch.testing.assert_close(rate.double(), engine.velocities[0, 3:6], atol=0.01, rtol=0)


def spin(engine: PhysicsEngine) -> None:
    """Let a robot that faces y fly and turn about all axes, its legs with it."""
    s = math.sqrt(0.5)
    velocities = torch.zeros(1, 18, dtype=torch.float64)
    velocities[0, :6] = torch.tensor([0.3, -0.2, 0.1, 1.0, 2.0, 3.0])
    place(engine, poses(1, height=5.0, quaternion=(s, 0.0, 0.0, s)), velocities)


def test_a_write_to_the_state_is_the_state_of_the_next_step(physics: str) -> None:
    engine = engine_of(physics, 2)
    place(engine, poses(2, height=5.0))
    hold(engine, 3)
    engine.positions[1, 2] = 9.0
    engine.velocities[1, 0] = 1.5
    hold(engine, 1)
    assert engine.positions[:, 2].tolist() == pytest.approx([5.0, 9.0], abs=0.02)
    assert engine.positions[1, 0].item() == pytest.approx(0.015, abs=0.002)


def test_a_saved_state_continues_bit_for_bit(physics: str) -> None:
    engine = engine_of(physics, 8)
    place(engine, poses(8))
    engine.set_properties(
        torch.tensor([1, 5]),
        base_mass=torch.tensor([1.2, 0.8], dtype=torch.float64),
        friction=torch.tensor([0.6, 1.4], dtype=torch.float64),
    )
    shake(engine, 60, seed=1)
    state = engine.state_dict()
    wanted = shake(engine, 60, seed=2)
    other = engine_of(physics, 8)
    place(other, poses(8))
    shake(other, 25, seed=3)  # whatever it remembers must not matter
    other.load_state_dict(state)
    assert torch.equal(shake(other, 60, seed=2), wanted)
    assert torch.equal(other.masses(), engine.masses())


def test_a_saved_state_is_a_copy(physics: str) -> None:
    engine = engine_of(physics, 2)
    place(engine, poses(2))
    state = engine.state_dict()
    shake(engine, 10, seed=0)
    engine.load_state_dict(state)
    torch.testing.assert_close(engine.positions, poses(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("speed", [math.nan, math.inf, 1e30])
def test_a_state_that_is_not_finite_stays_with_its_robot_and_ends_with_a_reset(physics: str, speed: float) -> None:
    engine = engine_of(physics, 3)
    place(engine, poses(3))
    engine.velocities[1, 7] = speed
    hold(engine, 3)
    assert engine.positions.isnan().any(dim=1).tolist() == [False, True, False]
    engine.reset(torch.tensor([1]), poses(1), torch.zeros(1, 18, dtype=torch.float64))
    hold(engine, 200)
    assert engine.positions[:, 2].tolist() == pytest.approx([0.261] * 3, abs=0.003)


def test_a_heavier_base_and_slippery_ground(physics: str) -> None:
    engine = engine_of(physics, 3)
    ones = torch.ones(3, dtype=torch.float64)
    friction = torch.tensor([1.0, 1.0, 0.1], dtype=torch.float64)
    base_mass = torch.tensor([1.0, 1.5, 1.0], dtype=torch.float64)
    engine.set_properties(torch.arange(3), base_mass=ones, friction=ones)
    engine.set_properties(torch.tensor([1, 2]), base_mass=base_mass[1:], friction=friction[1:])
    assert engine.masses().tolist() == pytest.approx([16.4275, 16.4275 + 9.016326 / 2, 16.4275], abs=1e-3)
    place(engine, poses(3, height=0.27))
    hold(engine, 100)
    assert engine.positions[1, 2] < engine.positions[0, 2] - 0.001, "the heavier robot bends its legs further"
    engine.velocities[:, 0] += 1.0
    started = engine.positions[:, 0].clone()
    hold(engine, 60)
    slid = engine.positions[:, 0] - started
    assert slid[2] > 2 * slid[0].clamp_min(0.01), "the robot on ice slides further"


def test_both_engines_give_the_same_observation_for_the_same_state() -> None:
    envs = [make_vbot(16, seed=3, physics=name) for name in ENGINES]
    for env in envs:
        env.reset()
    # A walked state of the first engine, given to all.
    for _ in range(30):
        envs[0].step(torch.ones(16, 12))
    state = envs[0].state_dict()
    for env in envs[1:]:
        env.engine.positions.copy_(envs[0].engine.positions)
        env.engine.velocities.copy_(envs[0].engine.velocities)
        env._memory.load_state_dict(state["memory"])
    for env in envs[1:]:
        torch.testing.assert_close(env.observe(), envs[0].observe(), atol=1e-4, rtol=0)


def test_engines_agree_on_a_short_flight_and_on_standing() -> None:
    """Half a second in the air agrees to 1 mm, standing heights to 2 mm."""
    engines = [engine_of(name) for name in ENGINES]
    flights, heights = [], []
    for engine in engines:
        velocities = torch.zeros(1, 18, dtype=torch.float64)
        velocities[0, :3] = torch.tensor([0.5, -0.3, 1.0])
        place(engine, poses(1, height=5.0), velocities)
        hold(engine, 50)
        flights.append(engine.positions[0, :3].clone())
        place(engine, poses(1))
        hold(engine, 200)
        heights.append(engine.positions[0, 2].item())
    for flight in flights[1:]:
        torch.testing.assert_close(flight, flights[0], atol=1e-3, rtol=0)
    assert max(heights) - min(heights) < 0.002


@pytest.mark.parametrize("collision", ["fast", "full"])
def test_the_collision_set_decides_whether_shins_touch_the_ground(physics: str, collision: str) -> None:
    """A robot on its side rests on its thighs only where they collide; its middle box is 0.101 m wide."""
    engine = engine_of(physics, collision=collision)
    s = math.sqrt(0.5)
    place(engine, poses(1, height=0.3, quaternion=(s, s, 0.0, 0.0)))
    hold(engine, 150)
    height = engine.positions[0, 2].item()
    assert (height > 0.12) if collision == "full" else (height < 0.12)


def test_a_task_runs_on_every_engine(physics: str) -> None:
    env = make_vbot(8, physics=physics, episode_seconds=1.0)
    env.count_first_episodes_only()
    env.reset()
    for _ in range(100):
        env.step(torch.zeros(8, 12))
    totals = env.take_totals()
    assert (totals.finished, totals.timed_out) == (8, 8)


def test_a_missing_package_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "motrixsim", None)
    with pytest.raises(PhysicsUnavailableError, match=r"pip install 'vbot-campaign\[motrixsim\]'"):
        engine_of("motrixsim")


def test_motrixsim_writes_nothing_to_the_terminal() -> None:
    code = (
        "from vbot_campaign.envs.physics import make_engine;"
        "make_engine('motrixsim', num_envs=1, threads=1, substeps=1, collision='full')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert (done.stdout, done.stderr) == ("", "")
