"""Grid search that knows conditions and constraints, which Optuna's own grid sampler does not.

The grid is listed once in full, shuffled by the study's seed so that a short budget still covers the whole range, and
worked off from the front. The next point is the first one that no trial has, so nothing has to be remembered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vbot_campaign.errors import StudyError
from vbot_campaign.spec.ranges import options
from vbot_campaign.spec.resolve import is_active, skipped_by
from vbot_campaign.spec.study import AnyParameter, Categorical, Choice, Integer, LogUniform, StudySpec, Uniform
from vbot_campaign.study import space

POINTS = 5
"""Values of a parameter that has no step: evenly spaced, or evenly in the logarithm."""
MAX_GRID = 100_000


def next_point(spec: StudySpec, taken: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], int] | None:
    """Return the first point of the grid that no trial has.

    Args:
        spec: The study.
        taken: Real values of all its trials.

    Returns:
        The point's real values, and how many points a constraint refused since the last one that was taken; None when
        the grid is used up.

    Raises:
        StudyError: The grid has more than `MAX_GRID` points.
    """
    seen = {_key(point) for point in taken}
    skipped = 0
    for point in _shuffled(spec):
        if _key(point) in seen:
            skipped = 0
        elif skipped_by(spec, point) is not None:
            skipped += 1
        else:
            return point, skipped
    return None


def check_size(spec: StudySpec) -> None:
    """Refuse a grid of more than `MAX_GRID` points.

    Raises:
        StudyError: It has more.
    """
    size = math.prod(len(values(parameter)) for parameter in spec.parameters.values())
    if size > MAX_GRID:
        raise StudyError(
            f"study {spec.study}: the grid has {size:,} points, more than {MAX_GRID:,}. "
            "Give fewer parameters or larger steps, or use the tpe sampler."
        )


def values(parameter: AnyParameter) -> list[Any]:
    """Return a parameter's values on the grid."""
    match parameter:
        case Uniform(low=low, high=high, step=None):
            return [float(x) for x in np.linspace(low, high, POINTS)]
        case Uniform(low=low, high=high, step=float(step)):
            count = round((space.last_step(low, high, step) - low) / step) + 1
            return [round(low + i * step, 12) for i in range(count)]
        case LogUniform(low=low, high=high):
            return [math.copysign(x, low) for x in _log_spaced(abs(low), abs(high))]
        case Integer(log=True, low=low, high=high):
            return sorted({round(x) for x in _log_spaced(low, high)})
        case Integer(low=low, high=high, step=step):
            return list(range(low, high + 1, step))
        case Choice() | Categorical():
            return list(options(parameter))
    raise TypeError(f"no grid for {parameter}")


def _log_spaced(low: float, high: float) -> list[float]:
    inner = [float(x) for x in np.geomspace(low, high, POINTS)[1:-1]]
    return [low, *inner, high]


def _shuffled(spec: StudySpec) -> list[dict[str, Any]]:
    check_size(spec)
    points = list(_points(spec, list(spec.parameters), {}))
    order = np.random.default_rng(spec.sampler.seed).permutation(len(points))
    return [points[i] for i in order]


def _points(spec: StudySpec, names: list[str], point: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not names:
        yield point
        return
    name, *others = names
    if not is_active(spec, name, point):
        yield from _points(spec, others, point)
        return
    for value in values(spec.parameters[name]):
        yield from _points(spec, others, {**point, name: value})


def _key(point: Mapping[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)
