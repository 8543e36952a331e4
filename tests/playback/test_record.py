"""Recorded episodes: every step of them, the last one too, and how they ended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.vbot import ENVIRONMENT
from vbot_campaign.errors import RenderingUnavailableError, SpecError
from vbot_campaign.playback.path_plot import draw_paths, speed_colour
from vbot_campaign.playback.play import play
from vbot_campaign.playback.record import Episode, record_episodes
from vbot_campaign.playback.trace import foot_contacts, foot_heights, save_trace
from vbot_campaign.playback.video import FORMATS, check_video
from vbot_campaign.rl import checkpoint
from vbot_campaign.rl.checkpoint import LoadedPolicy
from vbot_campaign.rl.normalization import RunningNormalizer
from vbot_campaign.rl.policy import ActorCritic
from vbot_campaign.spec.outcomes import Outcome
from vbot_campaign.spec.training import TrainingSpec


def constant_policy(action: float) -> LoadedPolicy:
    """A policy that gives all joints the same action, whatever it sees."""
    policy = ActorCritic(54, 12, (4,), (4,))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
        policy.mean_layer.bias.fill_(action)
    return LoadedPolicy(policy, RunningNormalizer(54, frozen=True), None, None)


def training(**env: float) -> TrainingSpec:
    return TrainingSpec(environment=ENVIRONMENT, env_steps=1, env=env)


def record(action: float, episodes: int = 1, **env: float) -> list[Episode]:
    return record_episodes(constant_policy(action), training(**env), episodes=episodes, seed=4)


def test_a_robot_that_stands_times_out_where_it_began() -> None:
    first, second = record(0.0, episodes=2, episode_seconds=1.0)

    assert (first.outcome, first.arrived_s, first.seconds) == (Outcome.TIMED_OUT, None, 1.0)
    assert first.positions.shape == (101, 19)
    assert first.velocities.shape == (101, 18)
    assert first.actions.shape == first.torques.shape == (100, 12)
    assert first.distance[0] == pytest.approx(first.distance[-1], abs=0.1)
    assert 2.0 <= first.distance[0] <= 5.0
    # The second begins elsewhere, and the first's last state is still the first's.
    assert np.linalg.norm(second.positions[0, :2] - first.positions[-1, :2]) > 0.2
    assert first.positions[-1, 2] == pytest.approx(0.261, abs=0.01)
    assert "timed_out after 1.00 s" in first.summary()


def test_a_robot_that_stands_in_the_goal_succeeds() -> None:
    (episode,) = record(0.0, spawn_inner_radius=0.0, spawn_outer_radius=0.2)

    # It drops a few centimetres and sways for a moment; then 50 steps of standing.
    assert episode.outcome is Outcome.SUCCESS
    assert episode.arrived_s == 0.01
    assert 0.5 <= episode.seconds < 1.5


def test_a_robot_that_kicks_falls_and_its_last_state_shows_it() -> None:
    (episode,) = record(25.0)

    assert episode.outcome is Outcome.FELL_BEFORE
    _, x, y, _ = episode.positions[-1, 3:7]
    upright = 1 - 2 * (x * x + y * y)
    assert episode.positions[-1, 2] < 0.2 or upright < 0.5


def test_a_trace_holds_every_step(tmp_path: Path) -> None:
    episodes = record(0.0, episodes=2, episode_seconds=1.0)

    save_trace(tmp_path / "t.npz", episodes)

    with np.load(tmp_path / "t.npz", allow_pickle=False) as trace:
        assert trace["episode"].tolist() == [0] * 100 + [1] * 100
        assert trace["time_s"][[0, 99, 100]].tolist() == pytest.approx([0.01, 1.0, 0.01])
        assert trace["outcome"].tolist() == ["timed_out", "timed_out"]
        assert np.array_equal(trace["position"][99], episodes[0].positions[-1, :2])
        assert np.array_equal(trace["height"][100:], episodes[1].positions[1:, 2])
        assert np.array_equal(trace["torques"][:100], episodes[0].torques)
        assert np.isnan(trace["arrived_s"]).all()
        # Dropped from a few centimetres: in the air at first, on four feet at the end.
        assert not trace["foot_contacts"][0].any()
        assert trace["foot_contacts"][99].all()


def test_feet_are_where_the_legs_put_them() -> None:
    state = np.zeros((1, 19))
    state[0, 2], state[0, 3] = 0.5, 1.0
    # Straight legs (thigh and calf 0): 0.1985 + 0.214 m below the hip, and the foot's radius of 0.021 m below that.
    heights = foot_heights(state)

    assert heights[0] == pytest.approx([0.5 - 0.1985 - 0.214 - 0.021] * 4)
    assert not foot_contacts(state, heights).any()
    state[0, 2] -= heights[0, 0]
    assert foot_contacts(state, foot_heights(state)).all()
    state[0, 0] = 13.0
    assert not foot_contacts(state, foot_heights(state)).any()


def test_a_path_plot_shows_path_goal_and_spawn() -> None:
    (episode,) = record(0.0, episode_seconds=1.0, target_radius=0.0)
    walked = np.array(episode.positions)
    walked[:, 0], walked[:, 1] = np.linspace(5.0, 0.0, len(walked)), 0.0
    velocities = np.zeros_like(episode.velocities)
    velocities[:, 0] = -2.0
    shown = Episode(
        np.zeros(2), walked, velocities, episode.actions, episode.torques, episode.rewards, Outcome.SUCCESS, None
    )

    image = draw_paths([shown])

    def pixel(x: float, y: float) -> tuple[int, ...]:
        scale = 800 / (2 * 13.3)
        colour = image.getpixel((round(400 + x * scale), round(400 - y * scale)))
        assert isinstance(colour, tuple)
        return colour

    assert image.size == (800, 860)
    assert pixel(2.5, 0.0) == pytest.approx(speed_colour(2.0), abs=30)
    assert pixel(5.0, 0.0) == pytest.approx((40, 40, 40), abs=30)
    green, orange = pixel(0.0, 0.5), pixel(0.0, 0.75)
    assert green[1] > green[0] + 40
    assert orange[0] > orange[2] + 60
    assert pixel(-13.2, -13.2) == (255, 255, 255)


def test_speeds_beyond_the_scale_have_its_last_colour() -> None:
    assert speed_colour(9.0) == speed_colour(2.0) == (165, 0, 38)
    assert speed_colour(0.0) == (49, 54, 149)


def test_play_says_what_happened_and_what_it_wrote(tmp_path: Path) -> None:
    policy = constant_policy(0.0)
    state = {
        "policy": policy.policy.state_dict(),
        "state_preprocessor": policy.observation_normalizer.state_dict(),
        "vbot_campaign": {"counters": {"env_steps": 7}},
    }
    checkpoint.save(tmp_path / "a.pt", state, {"kind": "policy"})
    said: list[str] = []

    play(
        tmp_path / "a.pt",
        training(episode_seconds=1.0),
        episodes=1,
        seed=4,
        trace=tmp_path / "t.npz",
        path_plot=tmp_path / "p.png",
        say=said.append,
    )

    assert said[0].startswith("episode 1: timed_out after 1.00 s, from ")
    assert said[1:] == [f"wrote {tmp_path / name} (0.0 MB)" for name in ("t.npz", "p.png")]
    with Image.open(tmp_path / "p.png") as image:
        assert image.format == "PNG"


@pytest.mark.parametrize(("option", "name"), [("trace", "t.txt"), ("path_plot", "p.jpg"), ("video", "v.avi")])
def test_names_that_end_otherwise_are_refused_before_anything_is_played(tmp_path: Path, option: str, name: str) -> None:
    with pytest.raises(SpecError, match="expected a name that ends with"):
        play(tmp_path / "none.pt", training(), episodes=1, seed=0, say=print, **{option: tmp_path / name})


def test_a_missing_encoder_gives_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(RenderingUnavailableError, match=r"pip install 'vbot-campaign\[video\]'"):
        check_video(Path("v.mp4"))


def test_pictures_fall_on_control_steps() -> None:
    assert {name: form.stride for name, form in FORMATS.items()} == {".gif": 5, ".mp4": 4}
