"""Videos, drawn by MuJoCo without a screen: in a process of their own, because mujoco picks its OpenGL once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from vbot_campaign.errors import RenderingUnavailableError
from vbot_campaign.playback import opengl
from vbot_campaign.rl import checkpoint
from vbot_campaign.rl.normalization import RunningNormalizer
from vbot_campaign.rl.policy import ActorCritic


@pytest.fixture
def standing(tmp_path: Path) -> Path:
    """A policy that stands still."""
    policy = ActorCritic(54, 12, (4,), (4,))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
    state = {
        "policy": policy.state_dict(),
        "state_preprocessor": RunningNormalizer(54).state_dict(),
        "vbot_campaign": {},
    }
    checkpoint.save(tmp_path / "standing.pt", state, {"kind": "policy"})
    return tmp_path / "standing.pt"


def play(policy: Path, video: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vbot_campaign.cli", "play", str(policy), "--video", str(video)]
    options = ["--episodes", "1", "--seed", "3", "--spawn", "2,2.5", "--set", "env.episode_seconds=1"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=300, env=variables)


def colours_near(frame: Any, colour: tuple[int, int, int], tolerance: int) -> int:
    return int((np.abs(np.asarray(frame).astype(int) - np.array(colour)).max(axis=2) <= tolerance).sum())


@pytest.mark.parametrize("context", ["egl", "osmesa"])
def test_a_gif_shows_robot_goal_and_words(tmp_path: Path, standing: Path, context: str) -> None:
    if context == "egl" and not opengl._can_draw("egl"):
        pytest.skip("no EGL on this machine")
    video = tmp_path / "v.gif"

    done = play(standing, video, MUJOCO_GL=context)

    assert done.returncode == 0, done.stderr
    assert "episode 1: timed_out after 1.00 s" in done.stdout
    assert f"wrote {video}" in done.stdout
    with Image.open(video) as gif:
        frames = [(frame.info["duration"], frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
    assert frames[0][1].size == (320, 240)
    # A second of 20 pictures and the last one for another second; equal neighbours may have become one.
    assert sum(duration for duration, _ in frames) == 40 * 50
    first, last = frames[0][1], frames[-1][1]
    assert colours_near(first, (230, 115, 30), 60) > 100, "the robot's body"
    assert colours_near(first, (25, 165, 65), 70) > 10, "the goal"
    assert colours_near(first, (245, 245, 245), 20) > 50, "the words"
    assert last.getpixel((300, 235)) == pytest.approx((120, 110, 60), abs=25), "the outcome's bar"


def test_an_mp4_is_a_film(tmp_path: Path, standing: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    video = tmp_path / "v.mp4"

    done = play(standing, video)

    assert done.returncode == 0, done.stderr
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(video))
    assert (frames, seconds) == (50, pytest.approx(2.0, abs=0.1))


def test_where_nothing_can_draw_the_message_says_what_to_install(tmp_path: Path, standing: Path) -> None:
    done = play(standing, tmp_path / "v.gif", MUJOCO_GL="glfw", DISPLAY="", WAYLAND_DISPLAY="")

    assert done.returncode == 2
    assert done.stderr.startswith("error: nothing to draw with: MUJOCO_GL=glfw cannot make an off-screen picture.")
    assert "apt-get install libosmesa6" in done.stderr
    assert not (tmp_path / "v.gif").exists()


def test_the_first_way_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def only_osmesa(context: str) -> bool:
        tried.append(context)
        return context == "osmesa"

    monkeypatch.setattr(opengl, "_can_draw", only_osmesa)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv(opengl.VARIABLE, "")
    monkeypatch.delenv(opengl.VARIABLE)

    assert opengl.prepare_rendering() == "osmesa"
    assert tried == ["egl", "osmesa"]
    assert os.environ[opengl.VARIABLE] == "osmesa"
    monkeypatch.setattr(opengl, "_can_draw", lambda context: False)
    monkeypatch.delenv(opengl.VARIABLE)
    with pytest.raises(RenderingUnavailableError, match="EGL and OSMesa cannot"):
        opengl.prepare_rendering()
