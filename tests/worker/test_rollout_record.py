"""What a trial draws of its policy at its end, and that the trial goes on whatever becomes of it."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

from tests.support.workers import run_worker, tiny_trial
from vbot_campaign import fs
from vbot_campaign.errors import FencedError
from vbot_campaign.events import Ended
from vbot_campaign.paths import TrialPaths
from vbot_campaign.worker.fence import Fence
from vbot_campaign.worker.rollout_record import record_rollout


def trial(folder: Path, recording: str) -> TrialPaths:
    """Write the ``trial.json`` of three iterations at the end of which something is drawn."""
    paths = tiny_trial(folder, env_steps=512 * 3)
    fs.write_json(paths.spec, {**fs.read_json(paths.spec), "recording": recording})
    return paths


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> TrialPaths:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUJOCO_GL", "osmesa")
        paths = trial(tmp_path_factory.mktemp("drawn"), "gif")
        assert run_worker(paths).state is Ended.FINISHED
    return paths


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    # A library that configures logging in this process may have silenced every logger that was there before.
    monkeypatch.setattr(logging.getLogger("vbot_campaign.worker.rollout_record"), "disabled", False)
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)


def record(paths: TrialPaths, recording: str = "path", interrupted: bool = False) -> bytes | None:
    fence = Fence(paths.spec, "token-1")
    return record_rollout(
        paths, paths.best_checkpoint, recording, fence=fence, interrupted=lambda: interrupted  # type: ignore[arg-type]
    )  # fmt: skip


def test_paths_and_a_small_film_lie_in_the_folder(drawn: TrialPaths) -> None:
    with Image.open(drawn.path_plot) as plot:
        assert (plot.format, plot.size) == ("PNG", (800, 860))
    with Image.open(drawn.rollout) as film:
        assert (film.format, film.size) == ("GIF", (320, 240))
        assert film.n_frames > 1
        assert sum(film.seek(i) or film.info["duration"] for i in range(film.n_frames)) <= 2500  # one second, held
    assert drawn.rollout.stat().st_size < 1_000_000


def test_tensorboard_shows_the_film_at_the_end(drawn: TrialPaths) -> None:
    events = EventAccumulator(str(drawn.root), size_guidance={IMAGES: 0}).Reload()
    [image] = events.Images("Rollout")
    assert image.encoded_image_string == drawn.rollout.read_bytes()
    assert (image.step, image.width, image.height) == (512 * 3, 320, 240)


def test_where_nothing_can_draw_there_is_the_plot_and_one_line_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    paths = trial(tmp_path, "gif")

    assert run_worker(paths).state is Ended.FINISHED

    assert paths.path_plot.is_file()
    assert not paths.rollout.exists()
    assert paths.log.read_text().count("no film of the policy: nothing to draw with") == 1


def test_a_policy_that_cannot_be_played_fails_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    paths = trial(tmp_path, "path")
    paths.checkpoints.mkdir()
    paths.best_checkpoint.write_bytes(b"no policy")

    assert record(paths) is None

    assert "no film of the policy:" in capfd.readouterr().err
    assert not paths.path_plot.exists()


def test_no_room_for_it_fails_nothing(
    drawn: TrialPaths, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with caplog.at_level(logging.WARNING):
        assert record(drawn) is None
    assert "no pictures of the policy" in caplog.text


def test_nothing_is_written_once_the_folder_is_another_attempts(tmp_path: Path, drawn: TrialPaths) -> None:
    paths = trial(tmp_path, "path")
    paths.checkpoints.mkdir()
    paths.best_checkpoint.write_bytes(drawn.best_checkpoint.read_bytes())
    fs.write_json(paths.spec, {**fs.read_json(paths.spec), "token": "token-2"})

    with pytest.raises(FencedError):
        record(paths)

    assert not paths.path_plot.exists()


def test_a_signal_ends_the_drawing_and_not_the_trial(drawn: TrialPaths, caplog: pytest.LogCaptureFixture) -> None:
    before = drawn.path_plot.stat().st_mtime_ns
    with caplog.at_level(logging.WARNING):
        assert record(drawn, interrupted=True) is None
    assert "given up after a signal" in caplog.text
    assert drawn.path_plot.stat().st_mtime_ns == before


def test_none_draws_nothing(tmp_path: Path) -> None:
    assert record(TrialPaths(tmp_path), "none") is None
    assert not list(tmp_path.iterdir())


def test_the_film_is_whole(drawn: TrialPaths) -> None:
    with Image.open(io.BytesIO(drawn.rollout.read_bytes())) as film:
        film.seek(film.n_frames - 1)
        film.load()
