"""Learning curves of several trials as a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vbot_campaign import fs
from vbot_campaign.errors import SpecError
from vbot_campaign.watch import units
from vbot_campaign.watch.comparison import Compared, Comparison

_PANEL = (420, 260)
_MARGIN = (52, 28, 14, 34)
"""Left, top, right and bottom, in pixels, around the curves of a panel."""
_ACROSS = 3
_HEAD = 44
_SMOOTHING = 2
"""Drawn so many times larger and scaled down, because Pillow's lines have hard edges."""
_TICKS = 5
"""Intervals of an axis, about."""

_INK, _GREY, _GRID = (30, 30, 30), (110, 110, 110), (225, 225, 225)
_COLOURS = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (120, 94, 240),
    (90, 90, 90),
)
"""The palette of Okabe and Ito, which colour-blind readers can tell apart."""

_PANELS = (
    ("score", "reported score"),
    ("outcome/success_rate", "success rate"),
    ("outcome/survival_rate", "survival rate"),
    ("outcome/goal_progress", "goal progress"),
    ("reward_mean", "reward per step"),
    ("std", "standard deviation of the actions"),
)


Place = Callable[[float, float], tuple[float, float]]
"""From env steps and a value to a place in the picture."""


@dataclass(frozen=True)
class Line:
    """One curve: points with None where nothing was measured."""

    colour: tuple[int, int, int]
    points: tuple[tuple[int, float | None], ...]


def save_curves(path: Path, comparison: Comparison) -> None:
    """Write a PNG with the curves of the compared trials over env steps.

    Raises:
        SpecError: The name does not end in ``.png``.
    """
    if path.suffix.lower() != ".png":
        raise SpecError(f"--plot {path}: is a PNG picture; give a name that ends in .png.")
    with fs.replacing(path) as file:
        draw_curves(comparison).save(file, format="PNG", optimize=True)


def draw_curves(comparison: Comparison) -> Image.Image:
    """Return the picture: a panel for each measure, a line for each trial."""
    down = -(-len(_PANELS) // _ACROSS)
    size = (_PANEL[0] * _ACROSS, _HEAD + _PANEL[1] * down)
    image = Image.new("RGB", (size[0] * _SMOOTHING, size[1] * _SMOOTHING), "white")
    pen = _Pen(image)
    _legend(pen, comparison)
    for number, (name, title) in enumerate(_PANELS):
        corner = (number % _ACROSS * _PANEL[0], _HEAD + number // _ACROSS * _PANEL[1])
        _panel(pen, corner, title, list(_lines(name, comparison)))
    return image.resize(size, Image.Resampling.LANCZOS)


def colour(position: int) -> tuple[int, int, int]:
    """Return the colour of the trial at a position of the comparison."""
    return _COLOURS[position % len(_COLOURS)]


def _lines(name: str, comparison: Comparison) -> Iterator[Line]:
    for number, compared in enumerate(comparison.trials):
        yield Line(colour(number), _points(name, compared))


def _points(name: str, compared: Compared) -> tuple[tuple[int, float | None], ...]:
    if name == "score":
        return tuple(sorted(compared.trial.reports.items()))
    return tuple(zip(compared.curves.env_steps, compared.curves.values.get(name, ()), strict=False))


class _Pen:
    """Draws in the pixels of the finished picture."""

    def __init__(self, image: Image.Image) -> None:
        self._draw = ImageDraw.Draw(image)
        self._fonts = {size: ImageFont.load_default(size=size * _SMOOTHING) for size in (11, 13, 15)}

    def line(self, points: Sequence[tuple[float, float]], ink: tuple[int, int, int], width: int = 1) -> None:
        large = [(x * _SMOOTHING, y * _SMOOTHING) for x, y in points]
        self._draw.line(large, fill=ink, width=width * _SMOOTHING, joint="curve")

    def dot(self, x: float, y: float, ink: tuple[int, int, int], radius: float = 2.5) -> None:
        box = tuple(value * _SMOOTHING for value in (x - radius, y - radius, x + radius, y + radius))
        self._draw.ellipse(box, fill=ink)

    def text(
        self, x: float, y: float, text: str, size: int = 11, anchor: str = "lm", ink: tuple[int, int, int] = _INK
    ) -> None:
        self._draw.text((x * _SMOOTHING, y * _SMOOTHING), text, fill=ink, font=self._fonts[size], anchor=anchor)

    def width(self, text: str, size: int) -> float:
        return self._fonts[size].getlength(text) / _SMOOTHING


def _legend(pen: _Pen, comparison: Comparison) -> None:
    pen.text(12, _HEAD / 2, comparison.snapshot.spec.study, size=15)
    x = 32 + pen.width(comparison.snapshot.spec.study, 15)
    for number, compared in enumerate(comparison.trials):
        score = compared.trial.score
        label = f"trial {compared.trial.number}" + (f" ({units.score(score)})" if score is not None else "")
        pen.line([(x, _HEAD / 2), (x + 22, _HEAD / 2)], colour(number), width=3)
        pen.text(x + 28, _HEAD / 2, label, size=13)
        x += 46 + pen.width(label, 13)


def _panel(pen: _Pen, corner: tuple[int, int], title: str, lines: Sequence[Line]) -> None:
    left, top = corner[0] + _MARGIN[0], corner[1] + _MARGIN[1]
    right, bottom = corner[0] + _PANEL[0] - _MARGIN[2], corner[1] + _PANEL[1] - _MARGIN[3]
    pen.text(left, top - 14, title, size=13)
    known = [(x, y) for line in lines for x, y in line.points if y is not None]
    if not known:
        pen.text((left + right) / 2, (top + bottom) / 2, "nothing measured yet", anchor="mm", ink=_GREY)
        return
    steps = max(x for x, _ in known)
    low, high = _span([y for _, y in known])

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x / steps, bottom - (bottom - top) * (y - low) / (high - low)

    for value in _ticks(low, high):
        _grid_line(pen, place, value, steps)
    for step in _ticks(0, steps):
        x, y = place(step, low)
        pen.text(x, y + 12, units.count(step), anchor="mm", ink=_GREY)
    for line in lines:
        _curve(pen, place, line)


def _grid_line(pen: _Pen, place: Place, value: float, steps: int) -> None:
    left, y = place(0, value)
    pen.line([(left, y), (place(steps, value)[0], y)], _GRID)
    pen.text(left - 6, y, f"{value:.4g}", anchor="rm", ink=_GREY)


def _curve(pen: _Pen, place: Place, line: Line) -> None:
    pieces = [[place(x, y) for x, y in piece] for piece in _pieces(line)]
    for number, piece in enumerate(pieces, start=1):
        if len(piece) > 1:
            pen.line(piece, line.colour, width=2)
        if len(piece) == 1 or number == len(pieces):
            pen.dot(*piece[-1], line.colour)


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis; that of shares begins at 0."""
    low, high = min(values), max(values)
    if low >= 0.0 and high <= 1.0:
        return 0.0, high or 1.0
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two ends, at steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _pieces(line: Line) -> Iterator[list[tuple[int, float]]]:
    """Yield the stretches of a curve without a gap."""
    piece: list[tuple[int, float]] = []
    for x, y in line.points:
        if y is not None:
            piece.append((x, y))
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece
