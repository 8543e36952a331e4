"""Draws episodes into a GIF or an MP4."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vbot_campaign import fs
from vbot_campaign.envs.physics.engine import CONTROL_DT_S
from vbot_campaign.errors import RenderingUnavailableError, SpecError
from vbot_campaign.playback.overlay import BAR, TEXT, annotate
from vbot_campaign.playback.record import Episode
from vbot_campaign.playback.scene import SMALL_THINGS, Scene


@dataclass(frozen=True)
class Format:
    """Size and speed of a kind of video."""

    width: int
    height: int
    frames_per_s: int

    @property
    def stride(self) -> int:
        """Control steps between two pictures."""
        return round(1 / (CONTROL_DT_S * self.frames_per_s))


FORMATS = {".gif": Format(320, 240, 20), ".mp4": Format(640, 480, 25)}

_HOLD_S = 1.0
"""How long the last picture of an episode stays."""
_GIF_COLOURS = 32


def check_video(path: Path) -> None:
    """Check that a video of this name can be written, before anything is played.

    Raises:
        SpecError: Its name ends with neither ``.gif`` nor ``.mp4``.
        RenderingUnavailableError: The encoder is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise SpecError(f"--video {path}: expected a name that ends with {' or '.join(FORMATS)}.")
    if path.suffix.lower() == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise RenderingUnavailableError(
            f"--video {path}: imageio-ffmpeg is not installed. "
            "Run: pip install 'vbot-campaign[video]', or write a .gif."
        )


def write_video(path: Path, episodes: Sequence[Episode], form: Format | None = None) -> None:
    """Draw episodes one after another into a file; the kind follows from its name.

    Args:
        path: A ``.gif`` or ``.mp4`` file.
        episodes: What is drawn.
        form: Size and speed, if not those of `FORMATS`.
    """
    form = form or FORMATS[path.suffix.lower()]
    with Scene(form.width, form.height) as scene:
        pictures = _pictures(scene, episodes, form)
        if path.suffix.lower() == ".gif":
            _write_gif(path, pictures, form)
        else:
            _write_mp4(path, pictures, form)


def _pictures(scene: Scene, episodes: Sequence[Episode], form: Format) -> Iterator[Image.Image]:
    for number, episode in enumerate(episodes, start=1):
        last = len(episode.actions)
        for step in range(0, last, form.stride):
            yield annotate(scene.draw(episode, step), episode, step, number, len(episodes))
        final = annotate(scene.draw(episode, last), episode, last, number, len(episodes))
        yield from [final] * round(_HOLD_S * form.frames_per_s)


def _write_gif(path: Path, pictures: Iterator[Image.Image], form: Format) -> None:
    # One palette, taken from an early and a late picture, and no dithering: neighbouring pictures then agree wherever
    # nothing moved, which is what a GIF can leave out.
    frames = list(pictures)
    palette = _palette([frames[i] for i in (0, len(frames) // 2, -1)])
    reduced = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with fs.replacing(path) as file:
        reduced[0].save(
            file,
            format="GIF",
            save_all=True,
            append_images=reduced[1:],
            duration=1000 // form.frames_per_s,
            loop=0,
            optimize=False,
        )


def _palette(frames: list[Image.Image]) -> Image.Image:
    # The floor fills most of a picture and would take all the colours, so the small things get theirs first.
    sample = Image.fromarray(np.concatenate([np.asarray(frame) for frame in frames]))
    reserved = [value for colour in (TEXT, BAR, *SMALL_THINGS) for value in colour]
    common = sample.quantize(colors=_GIF_COLOURS - len(reserved) // 3).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette(reserved + common)
    return palette


def _write_mp4(path: Path, pictures: Iterator[Image.Image], form: Format) -> None:
    import imageio_ffmpeg

    # ffmpeg writes to a name; the finished film is then put into place whole.
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        writer = imageio_ffmpeg.write_frames(
            str(film), (form.width, form.height), fps=form.frames_per_s, codec="libx264", quality=6, macro_block_size=2
        )
        writer.send(None)
        for picture in pictures:
            writer.send(picture.tobytes())
        writer.close()
        with fs.replacing(path) as file:
            file.write(film.read_bytes())
