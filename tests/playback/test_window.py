"""The window on a training: what is missing where there is no screen, and frames on a virtual one."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.campaign import Campaign, finish, stable_lines
from vbot_campaign import fs
from vbot_campaign.errors import RenderingUnavailableError
from vbot_campaign.paths import TrialPaths
from vbot_campaign.playback.record import Array
from vbot_campaign.playback.screen import require_screen
from vbot_campaign.rl.checkpoint import load

TRAIN = (
    *("train", "--env-steps", "12288", "--num-envs", "32", "--threads", "1", "--no-audit"),
    *("--set", "ppo.rollouts=16", "--set", "ppo.mini_batches=2", "--set", "ppo.learning_epochs=2"),
    *("--set", "ppo.policy_hidden_layer_sizes=[32,16]", "--set", "ppo.value_hidden_layer_sizes=[32,16]"),
    *("--set", "env.episode_seconds=1"),
)


@dataclass(frozen=True)
class VirtualScreen:
    """An X server that draws into a file."""

    display: str
    file: Path

    def picture(self) -> Array:
        """Return what is on the screen, uint8 (height, width, 3)."""
        content = self.file.read_bytes()
        # XWD: 25 big-endian numbers, the window's name, the colour map, rows of blue, green, red, nothing.
        header = struct.unpack(">25I", content[:100])
        size, width, height, row_bytes, colours = (header[i] for i in (0, 4, 5, 12, 19))
        pixels = np.frombuffer(content, np.uint8, height * row_bytes, size + 12 * colours)
        return pixels.reshape(height, row_bytes // 4, 4)[:, :width, 2::-1].copy()


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualScreen]:
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed: apt-get install xvfb")
    folder = tmp_path_factory.mktemp("screen")
    reader, writer = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writer), "-screen", "0", "800x600x24", "-fbdir", folder, "-nolisten", "tcp"],
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    with os.fdopen(reader) as pipe:
        number = pipe.readline().strip()
    yield VirtualScreen(f":{number}", folder / "Xvfb_screen0")
    server.terminate()
    server.wait(timeout=240)


@dataclass(frozen=True)
class SeeingCampaign(Campaign):
    """A campaign on a screen, or on none."""

    display: str | None = None

    def environment(self) -> dict[str, str]:
        names = ("DISPLAY", "WAYLAND_DISPLAY")
        plain = {name: value for name, value in super().environment().items() if name not in names}
        return plain if self.display is None else {**plain, "DISPLAY": self.display}


def only_run(campaign: Campaign) -> TrialPaths:
    (folder,) = (campaign.runs.root / "vbot_navigation_section001").iterdir()
    return TrialPaths(folder)


# --- without a screen -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a screen")
def test_without_a_screen_the_command_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    campaign = SeeingCampaign(tmp_path)

    output = campaign.call(*TRAIN, "--render", code=2)

    assert "error: --render: no window can be opened: there is no screen (neither DISPLAY nor WAYLAND" in output
    assert "vbot-campaign play RUN --video play.gif" in output
    assert not campaign.runs.root.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a screen")
def test_a_screen_that_is_not_there_is_named() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "WAYLAND_DISPLAY"}

    with pytest.raises(RenderingUnavailableError, match=r"GLFW cannot reach the screen \(DISPLAY=:4095\)") as error:
        require_screen({**environ, "DISPLAY": ":4095"})

    assert error.value.exit_code == 2


def test_without_the_glfw_library_the_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "glfw.py").write_text("_glfw = None\n")  # what the package gives when its library is not found
    environ = {**os.environ, "DISPLAY": ":0", "PYTHONPATH": str(tmp_path)}

    with pytest.raises(RenderingUnavailableError, match="the GLFW library is not found, which comes with"):
        require_screen(environ)


# --- with one -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_robots_are_seen_and_the_numbers_stay_the_same(tmp_path: Path, screen: VirtualScreen) -> None:
    seen, unseen = SeeingCampaign(tmp_path / "seen", display=screen.display), SeeingCampaign(tmp_path / "unseen")
    seen.folder.mkdir()
    unseen.folder.mkdir()

    process, bodies = seen.start(*TRAIN, "--render"), set()
    while process.poll() is None:
        picture = screen.picture()
        body = np.abs(picture.astype(np.int16) - (230, 115, 31)).sum(axis=-1) < 60
        if body.any():
            bodies.add(hashlib.sha256(body.tobytes()).digest())
        time.sleep(0.02)
    finish(process)
    unseen.call(*TRAIN)

    # A busy machine draws few pictures.
    assert len(bodies) >= 2, "the robot's body is seen, and moves"
    assert stable_lines(only_run(seen)) == stable_lines(only_run(unseen))
    assert checkpoints(only_run(seen)) == checkpoints(only_run(unseen))


def checkpoints(folder: TrialPaths) -> list[str]:
    """Return the hashes of the best policies and of what the last resume point remembers, but for its speed."""
    log = fs.read_lines(folder.checkpoint_log)
    best = [line["sha256"] for line in log if line["kind"] == "best"]
    (point,) = (line["file"] for line in log if line["kind"] == "resume")
    state = load(folder.checkpoints / point)
    del state["vbot_campaign"]["progress"]
    content = io.BytesIO()
    torch.save(state, content)
    return [*best, hashlib.sha256(content.getvalue()).hexdigest()]


CLOSED = """
import sys
import time
import torch
from vbot_campaign.envs.registry import make_env
from vbot_campaign.playback.window import TrainingWindow

env = make_env("vbot_navigation_section001", physics=sys.argv[1], settings={}, weights={}, num_envs=6, seed=1,
               threads=1, training=True)
with TrainingWindow() as window:
    window.watch(env)
    env.reset()
    env.step(torch.zeros(6, 12))
    assert window.pictures == 1
    started = time.monotonic()
    while window.pictures < 2 or time.monotonic() < started + 2:
        env.step(torch.zeros(6, 12))
    assert window.pictures <= 2 + 30 * (time.monotonic() - started), window.pictures
    window._viewer.close()
    shown = window.pictures
    time.sleep(0.1)
    window._next_picture = 0.0  # one would be due
    env.step(torch.zeros(6, 12))
    assert window.pictures == shown
print("went on")
"""


@pytest.mark.slow
@pytest.mark.parametrize("physics", ["mujoco", "motrixsim"])
def test_closing_the_window_ends_the_showing_only(screen: VirtualScreen, physics: str) -> None:
    pytest.importorskip(physics)
    environ = {**os.environ, "DISPLAY": screen.display, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}

    done = subprocess.run(
        [sys.executable, "-c", CLOSED, physics], env=environ, capture_output=True, text=True, timeout=300, check=False
    )

    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
