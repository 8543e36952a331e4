"""A curve in one line of text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], *, width: int = 40, low: float | None = None) -> str:
    """Return a curve as a row of blocks; where nothing was measured there is a blank.

    Args:
        values: The curve at even distances; averaged where there are more than ``width``.
        width: Letters at most.
        low: Value of the lowest block; the smallest value where it is left out.
    """
    points = _averaged(values, width)
    known = [point for point in points if point is not None]
    if not known:
        return ""
    bottom, top = min(known) if low is None else min(low, *known), max(known)
    return "".join(" " if point is None else _block(point, bottom, top) for point in points)


def _block(value: float, bottom: float, top: float) -> str:
    share = (value - bottom) / (top - bottom) if top > bottom else 0.0
    return _BLOCKS[min(int(share * len(_BLOCKS)), len(_BLOCKS) - 1)]


def _averaged(values: Sequence[float | None], width: int) -> list[float | None]:
    if len(values) <= width:
        return list(values)
    edges = [round(i * len(values) / width) for i in range(width + 1)]
    parts = [[v for v in values[a:b] if v is not None] for a, b in pairwise(edges)]
    return [sum(part) / len(part) if part else None for part in parts]
