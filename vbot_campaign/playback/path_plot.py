"""A top-down picture of the paths that episodes took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vbot_campaign import fs
from vbot_campaign.envs.vbot.kinematics import DISC_RADIUS
from vbot_campaign.envs.vbot.observation import GOAL_RADIUS
from vbot_campaign.envs.vbot.rewards import INNER_FENCE_RADIUS
from vbot_campaign.playback.record import Array, Episode

_SIZE = 800
_LEGEND = 60
_SMOOTHING = 2
"""Drawn so many times larger and scaled down, because Pillow's lines have hard edges."""
_MARGIN_M = 0.8
_STRIDE = 4
"""Control steps between two points of a path."""
_TOP_SPEED = 2.0

_SPEED_COLOURS = ((49, 54, 149), (69, 117, 180), (116, 173, 209), (253, 174, 97), (244, 109, 67), (165, 0, 38))
"""From standing to the top speed; the diverging scale of ColorBrewer, without its pale middle."""


def save_path_plot(path: Path, episodes: Sequence[Episode]) -> None:
    """Write a PNG: the disc, each episode's target with goal and fence, its path coloured by speed, its spawn point."""
    with fs.replacing(path) as file:
        draw_paths(episodes).save(file, format="PNG", optimize=True)


def draw_paths(episodes: Sequence[Episode]) -> Image.Image:
    """Return the picture, 800 x 860 pixels, x to the right and y up."""
    image = Image.new("RGB", (_SIZE * _SMOOTHING, (_SIZE + _LEGEND) * _SMOOTHING), "white")
    plot = _Plot(image)
    plot.circle((0.0, 0.0), DISC_RADIUS, fill=(238, 240, 238), outline=(120, 120, 120), width=2)
    for number, episode in enumerate(episodes, start=1):
        plot.circle(episode.target, INNER_FENCE_RADIUS, outline=(240, 140, 30), width=2)
        plot.circle(episode.target, GOAL_RADIUS, outline=(25, 160, 65), width=3)
        plot.path(episode.positions[::_STRIDE, :2], episode.speed[::_STRIDE])
        plot.circle(episode.positions[0, :2], 0.15, fill=(40, 40, 40))
        plot.text(episode.positions[0, :2], f"{number} {episode.outcome.value.replace('_', ' ')}")
    plot.legend()
    return image.resize((_SIZE, _SIZE + _LEGEND), Image.Resampling.LANCZOS)


def speed_colour(speed: float) -> tuple[int, int, int]:
    """Return the colour of a speed in m/s; 2 and more have the same."""
    place = min(max(speed / _TOP_SPEED, 0.0), 1.0) * (len(_SPEED_COLOURS) - 1)
    low = min(int(place), len(_SPEED_COLOURS) - 2)
    red, green, blue = (
        round(a + (b - a) * (place - low)) for a, b in zip(_SPEED_COLOURS[low], _SPEED_COLOURS[low + 1], strict=True)
    )
    return red, green, blue


class _Plot:
    """Draws in metres."""

    def __init__(self, image: Image.Image) -> None:
        self._draw = ImageDraw.Draw(image)
        self._size = image.width
        self._scale = image.width / (2 * (DISC_RADIUS + _MARGIN_M))
        self._font = ImageFont.load_default(size=15 * _SMOOTHING)

    def circle(
        self,
        centre: Array | tuple[float, float],
        radius: float,
        *,
        fill: tuple[int, int, int] | None = None,
        outline: tuple[int, int, int] | None = None,
        width: int = 1,
    ) -> None:
        x, y = self._pixel(centre)
        r = radius * self._scale
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=outline, width=width * _SMOOTHING)

    def path(self, points: Array, speeds: Array) -> None:
        for begin, end, speed in zip(points[:-1], points[1:], speeds[1:], strict=True):
            line = (*self._pixel(begin), *self._pixel(end))
            self._draw.line(line, fill=speed_colour(float(speed)), width=3 * _SMOOTHING)

    def text(self, place: Array, text: str) -> None:
        x, y = self._pixel(place)
        self._draw.text((x + 8 * _SMOOTHING, y - 8 * _SMOOTHING), text, fill=(20, 20, 20), font=self._font)

    def legend(self) -> None:
        top, left, width = self._size + 8 * _SMOOTHING, 20 * _SMOOTHING, self._size // 3
        for i in range(width):
            colour = speed_colour(_TOP_SPEED * i / width)
            self._draw.line((left + i, top, left + i, top + 14 * _SMOOTHING), fill=colour)
        words = f"0 to {_TOP_SPEED:g} m/s        black: spawn    green: goal, {GOAL_RADIUS:g} m    orange: fence, "
        self._draw.text(
            (left, top + 18 * _SMOOTHING), f"{words}{INNER_FENCE_RADIUS:g} m", fill=(20, 20, 20), font=self._font
        )

    def _pixel(self, point: Array | tuple[float, float]) -> tuple[float, float]:
        x, y = np.nan_to_num(point)
        return self._size / 2 + float(x) * self._scale, self._size / 2 - float(y) * self._scale
