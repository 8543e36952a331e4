"""What is written into each picture of a video."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from vbot_campaign.envs.physics.engine import CONTROL_DT_S
from vbot_campaign.playback.record import Array, Episode

BAR = (24, 28, 32)
TEXT = (245, 245, 245)
_GOOD, _BAD, _NEUTRAL = (40, 140, 70), (190, 50, 45), (120, 110, 60)


def annotate(picture: Array, episode: Episode, step: int, number: int, total: int) -> Image.Image:
    """Return a picture with time, distance and speed above it and, after the last step, the outcome.

    Args:
        picture: Uint8 (height, width, 3).
        episode: Whose picture it is.
        step: Control steps done.
        number: 1 for the first episode.
        total: How many episodes the video shows.
    """
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    size = max(11, image.height // 17)
    font = ImageFont.load_default(size=size)
    draw.rectangle((0, 0, image.width, size + 8), fill=BAR)
    text = f"{number}/{total}   {step * CONTROL_DT_S:5.2f} s   {episode.distance[step]:5.2f} m   "
    draw.text((6, 3), f"{text}{episode.speed[step]:4.2f} m/s", fill=TEXT, font=font)
    if step == len(episode.actions):
        _write_outcome(draw, image, episode, font, size)
    return image


def _write_outcome(
    draw: ImageDraw.ImageDraw,
    image: Image.Image,
    episode: Episode,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: int,
) -> None:
    name = episode.outcome.value
    colour = _GOOD if name == "success" else _NEUTRAL if name == "timed_out" else _BAD
    draw.rectangle((0, image.height - size - 8, image.width, image.height), fill=colour)
    draw.text((6, image.height - size - 5), name.replace("_", " "), fill=TEXT, font=font)
