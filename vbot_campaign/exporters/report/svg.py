"""Charts as static SVG: no script, small, and as sharp on paper as on a screen.

Colours come from the page's style sheet through classes, so one drawing serves a bright screen, a dark one and print.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vbot_campaign.exporters.report.markup import Markup, el, number

WIDTH, HEIGHT = 480, 270
COLOURS = 6
"""Classes ``c0`` to ``c5`` of the style sheet; a series beyond begins again."""
MAX_TITLED = 250
"""Points up to which each has a tooltip of its own; more of them are drawn as one path, a tenth of the size."""

Label = Callable[[float], str]
XY = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; one outside of the range lies on its edge."""
        low, high, x = (self._position(v) for v in (self.low, self.high, value))
        share = (x - low) / (high - low) if high > low else 0.5
        return self.start + (self.end - self.start) * min(max(share, 0.0), 1.0)

    def ticks(self, count: int = 5) -> list[float]:
        """Return about ``count`` round values inside the range."""
        return _log_ticks(self.low, self.high, count) if self.log else _linear_ticks(self.low, self.high, count)

    def _position(self, value: float) -> float:
        return math.log(max(value, 1e-300)) if self.log else value


@dataclass(frozen=True)
class Series:
    """Points of one kind, drawn as a line, as dots, or as both."""

    points: Sequence[XY]
    style: str = "c0"
    """Class of the style sheet."""
    name: str = ""
    """For the legend; unnamed ones are not in it."""
    line: bool = True
    dots: bool = False
    step: bool = False
    """The value holds until the next point."""
    titles: Sequence[str] = ()
    """Tooltip of each dot."""


@dataclass(frozen=True)
class Chart:
    """Axes with series, bands behind them, and a title."""

    title: str
    series: Sequence[Series]
    """The first one is drawn on top of the others, and named first."""
    x_name: str = ""
    y_name: str = ""
    x_label: Label = lambda x: short(x)
    y_label: Label = lambda y: short(y)
    x_range: XY | None = None
    y_range: XY | None = None
    x_log: bool = False
    categories: Sequence[str] = ()
    """Names of the x values 0, 1, 2 …, where x is no quantity."""
    band: Sequence[tuple[float, float, float]] = ()
    """A shaded area: x, low and high."""
    width: int = WIDTH
    height: int = HEIGHT
    margins: tuple[int, int, int, int] = field(default=(14, 14, 42, 50))
    """Top, right, bottom, left."""
    with_legend: bool = True

    def render(self) -> Markup:
        """Return a figure: caption, drawing, legend."""
        x, y = self._scales()
        children = [self._axes(x, y), self._band(x, y), *(self._series(series, x, y) for series in self.series[::-1])]
        return figure(self.title, self.width, self.height, children, legend(self.series) if self.with_legend else None)

    def _scales(self) -> tuple[Scale, Scale]:
        top, right, bottom, left = self.margins
        points = [point for series in self.series for point in series.points]
        lows_and_highs = [v for _, low, high in self.band for v in (low, high)]
        x_low, x_high = self.x_range or _range([p[0] for p in points], log=self.x_log)
        if self.categories:
            x_low, x_high = -0.5, len(self.categories) - 0.5
        y_low, y_high = self.y_range or _range([*(p[1] for p in points), *lows_and_highs])
        return (
            Scale(x_low, x_high, left, self.width - right, self.x_log),
            Scale(y_low, y_high, self.height - bottom, top),
        )

    def _axes(self, x: Scale, y: Scale) -> Markup:
        lines, texts = [], []
        for value in y.ticks():
            lines.append(el("path", d=f"M{number(x.start)} {number(y(value))}H{number(x.end)}", class_="grid"))
            texts.append(text(x.start - 7, y(value) + 4, self.y_label(value), "end"))
        for value, label in self._x_ticks(x):
            lines.append(el("path", d=f"M{number(x(value))} {number(y.start)}v4", class_="axis"))
            texts.append(text(x(value), y.start + 17, label, "middle"))
        frame = el("path", d=f"M{number(x.start)} {number(y.end)}V{number(y.start)}H{number(x.end)}", class_="axis")
        names = [text((x.start + x.end) / 2, self.height - 6, self.x_name, "middle", "name")] if self.x_name else []
        if self.y_name:
            middle = number((y.start + y.end) / 2)
            names.append(
                el(
                    "text",
                    self.y_name,
                    transform=f"translate(12 {middle}) rotate(-90)",
                    text_anchor="middle",
                    class_="name",
                )
            )
        return el("g", lines, frame, texts, names)

    def _x_ticks(self, x: Scale) -> list[tuple[float, str]]:
        if not self.categories:
            return [(value, self.x_label(value)) for value in x.ticks()]
        room = (x.end - x.start) / len(self.categories) / 7
        return [(float(i), shorten(name, max(int(room), 3))) for i, name in enumerate(self.categories)]

    def _band(self, x: Scale, y: Scale) -> Markup | None:
        if len(self.band) < 2:
            return None
        up = [(x(at), y(high)) for at, _, high in self.band]
        down = [(x(at), y(low)) for at, low, _ in reversed(self.band)]
        return el("path", d=_line([*up, *down]) + "Z", class_="band")

    def _series(self, series: Series, x: Scale, y: Scale) -> Markup:
        points = [(x(a), y(b)) for a, b in series.points]
        drawn: list[Markup] = []
        if series.line and len(points) > 1:
            drawn.append(el("path", d=_steps(points) if series.step else _line(points), class_=f"line {series.style}"))
        if series.dots or len(points) == 1:
            drawn += _dots(points, series)
        return el("g", drawn)


@dataclass(frozen=True)
class Bar:
    """One horizontal bar of one or several parts."""

    name: str
    parts: Sequence[tuple[float, str]]
    """Value and class of each part, from the left."""
    label: str = ""
    """At its end."""
    titles: Sequence[str] = ()


def bars(title: str, rows: Sequence[Bar], *, highest: float, keys: Sequence[tuple[str, str]] = ()) -> Markup:
    """Return horizontal bars below each other.

    Args:
        title: Caption.
        rows: The bars, the first one on top.
        highest: Value that fills the width.
        keys: Name and class of each kind of part, for the legend.
    """
    left = min(max((len(row.name) for row in rows), default=0) * 8 + 10, 214)
    right, pitch = 56, 24
    height = len(rows) * pitch + 8
    scale = Scale(0.0, max(highest, 1e-9), 0.0, float(WIDTH - left - right))
    drawn = [_bar(row, left, 4 + i * pitch, scale) for i, row in enumerate(rows)]
    return figure(title, WIDTH, height, drawn, _legend_of(keys))


def parallel(title: str, axes: Sequence[tuple[str, Sequence[tuple[float, str]]]], lines: Sequence[Series]) -> Markup:
    """Return parallel coordinates.

    Args:
        title: Caption.
        axes: Name of each axis with its ticks (position 0..1 and label).
        lines: Points are (number of the axis, position 0..1).
    """
    width, top, bottom, side = max(480, 118 * len(axes)), 34, 290, 62
    x = Scale(0, max(len(axes) - 1, 1), side, width - side)
    y = Scale(0.0, 1.0, bottom, top)
    drawn = [el("path", d=_line([(x(a), y(b)) for a, b in line.points]), class_=f"line {line.style}") for line in lines]
    for i, (name, ticks) in enumerate(axes):
        drawn.append(el("path", d=f"M{number(x(i))} {top}V{bottom}", class_="axis"))
        drawn.append(text(x(i), 16, shorten(name, 18), "middle", "name"))
        for position, label in ticks:
            drawn.append(text(x(i) + 5, y(position) + 4, shorten(label, 13), "start", "halo"))
    return figure(title, width, bottom + 12, drawn, legend(lines))


def figure(title: str, width: int, height: int, children: Sequence[Markup | None], key: Markup | None = None) -> Markup:
    """Return a drawing with its caption and legend."""
    drawing = el("svg", children, viewBox=f"0 0 {width} {height}", role="img", aria_label=title)
    return el("figure", el("figcaption", title), drawing, key)


def legend(series: Sequence[Series]) -> Markup | None:
    """Return names and colours of the named series; None where there are none."""
    return _legend_of(list(dict.fromkeys((s.name, s.style) for s in series if s.name)))


def _legend_of(keys: Sequence[tuple[str, str]]) -> Markup | None:
    if not keys:
        return None
    entries = [
        el("span", el("svg", el("rect", width=10, height=10, rx=2, class_=f"fill {style}"), viewBox="0 0 10 10"), name)
        for name, style in keys
    ]
    return el("div", entries, class_="legend")


def colour(index: int) -> str:
    """Return the class of the n-th series."""
    return f"c{index % COLOURS}"


def text(x: float, y: float, content: str, anchor: str, class_: str | None = None) -> Markup:
    """Return a text at a point; ``anchor`` is start, middle or end."""
    return el("text", content, x=float(x), y=float(y), text_anchor=anchor, class_=class_)


def short(value: float) -> str:
    """Return a number for an axis: ``0.25``, ``150``, ``2M``, ``3e-4``."""
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e3:
        for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if size >= limit:
                return f"{value / limit:.3g}{unit}"
    if size < 1e-2:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.3g}"


def shorten(content: str, room: int) -> str:
    """Return a text of at most ``room`` letters, with an ellipsis where it was cut."""
    return content if len(content) <= room else content[: max(room - 1, 1)] + "…"


def _bar(row: Bar, left: float, top: float, scale: Scale) -> Markup:
    drawn = [text(left - 8, top + 14, shorten(row.name, 26), "end")]
    at = float(left)
    titles = [*row.titles, *("" for _ in row.parts)]
    for (value, style), title in zip(row.parts, titles, strict=False):
        width = scale(value)
        hint = el("title", title) if title else None
        drawn.append(el("rect", hint, x=at, y=top + 1, width=width, height=16, class_=f"fill {style}"))
        at += width
    return el("g", drawn, text(at + 6, top + 14, row.label, "start"))


def _dots(points: Sequence[XY], series: Series) -> list[Markup]:
    if len(points) > MAX_TITLED or not series.titles:
        # A zero-length stroke with round ends is a dot: 60,000 of them stay a small file.
        path = "".join(f"M{number(x)} {number(y)}h0" for x, y in points)
        return [el("path", d=path, class_=f"dots {series.style}")] if path else []
    return [
        el("circle", el("title", title), cx=float(x), cy=float(y), r=3, class_=f"dot {series.style}")
        for (x, y), title in zip(points, series.titles, strict=True)
    ]


def _line(points: Sequence[XY]) -> str:
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)


def _steps(points: Sequence[XY]) -> str:
    (x0, y0), *others = points
    return f"M{number(x0)} {number(y0)}" + "".join(f"H{number(x)}V{number(y)}" for x, y in others)


def _range(values: Sequence[float], *, log: bool = False) -> XY:
    """Return a range that shows all values with some air, and is never empty."""
    finite = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if not finite:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = min(finite), max(finite)
    if log:
        return low / 1.15, high * 1.15
    if low == high:
        air = abs(low) * 0.1 or 0.5
        return low - air, high + air
    air = (high - low) * 0.04
    return (low if low == 0 else low - air), high + air


def _linear_ticks(low: float, high: float, count: int) -> list[float]:
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        ticks = [f * 10.0**e for e in range(first, last + 1) for f in factors if low <= f * 10.0**e <= high]
        if len(ticks) >= 3:
            return ticks[:: max(len(ticks) // count, 1)]
    return _linear_ticks(low, high, count - 1)
