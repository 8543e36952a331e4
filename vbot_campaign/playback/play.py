"""Plays a checkpoint and shows what it does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vbot_campaign.errors import SpecError
from vbot_campaign.playback.record import Episode, record_episodes
from vbot_campaign.rl.importers import load_for
from vbot_campaign.spec.training import TrainingSpec


def play(
    checkpoint: Path,
    training: TrainingSpec,
    *,
    episodes: int,
    seed: int,
    video: Path | None = None,
    trace: Path | None = None,
    path_plot: Path | None = None,
    say: Callable[[str], None],
) -> list[Episode]:
    """Play episodes with the mean action; write what was asked for and say how each episode went.

    Call `opengl.prepare_rendering` first, before mujoco is imported, when a video is asked for.

    Args:
        checkpoint: A file of any importable form.
        training: Environment, physics, settings and reward weights.
        episodes: How many.
        seed: Seed of spawns and targets.
        video: A ``.gif`` or ``.mp4`` file.
        trace: A ``.npz`` file of arrays.
        path_plot: A ``.png`` file: the paths from above.
        say: Takes each line that is printed.

    Raises:
        SpecError: A name or value is not valid.
        CheckpointError: The checkpoint cannot be used, or does not fit the environment.
        RenderingUnavailableError: The video's encoder is not installed.
    """
    if video is not None:
        from vbot_campaign.playback.video import check_video

        check_video(video)
    _check_suffix("--trace", trace, ".npz")
    _check_suffix("--path", path_plot, ".png")
    loaded = load_for(checkpoint, training.environment)
    played = record_episodes(loaded, training, episodes=episodes, seed=seed)
    for number, episode in enumerate(played, start=1):
        say(f"episode {number}: {episode.summary()}")
    for path in _write(played, video, trace, path_plot):
        say(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return played


def _check_suffix(option: str, path: Path | None, suffix: str) -> None:
    if path is not None and path.suffix.lower() != suffix:
        raise SpecError(f"{option} {path}: expected a name that ends with {suffix}.")


def _write(played: list[Episode], video: Path | None, trace: Path | None, path_plot: Path | None) -> list[Path]:
    # Imported one by one: who wants no picture needs no drawing library.
    if trace is not None:
        from vbot_campaign.playback.trace import save_trace

        save_trace(trace, played)
    if path_plot is not None:
        from vbot_campaign.playback.path_plot import save_path_plot

        save_path_plot(path_plot, played)
    if video is not None:
        from vbot_campaign.playback.video import write_video

        write_video(video, played)
    return [path for path in (trace, path_plot, video) if path is not None]
