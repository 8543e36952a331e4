"""How far apart two points of a search space are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vbot_campaign.spec.ranges import Kind, options, same
from vbot_campaign.spec.study import Categorical, Choice, Integer, LogUniform


def position(parameter: Kind, value: Any) -> float | None:
    """Return where a value lies in a range: 0 at its low end, 1 at its high end, more or less outside.

    A `choice` of numbers counts as a range with evenly spaced values. None for other choices, which have no order, and
    for what is no number.
    """
    number = _number(value)
    if number is None:
        return None
    if isinstance(parameter, Choice | Categorical):
        values = [known for option in options(parameter) if (known := _number(option)) is not None]
        return _among(sorted(values), number) if len(values) == len(options(parameter)) else None
    low, high = float(parameter.low), float(parameter.high)
    if isinstance(parameter, LogUniform) or (isinstance(parameter, Integer) and parameter.log):
        return math.log(number / low) / math.log(high / low) if number * low > 0 else None
    return (number - low) / (high - low)


def distance(parameter: Kind, one: Any, other: Any) -> float:
    """Return the difference of two values as a share of the range, at most 1; of unordered choices 0 or 1."""
    if same(one, other):
        return 0.0
    a, b = position(parameter, one), position(parameter, other)
    return 1.0 if a is None or b is None else min(abs(a - b), 1.0)


def mean_distance(parameters: Mapping[str, Kind], one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return the root mean square of the distances of all parameters, 0 to 1.

    A parameter that only one of the points has counts as 1; one that neither has counts as 0.
    """
    if not parameters:
        return 0.0
    squares = [_difference(parameter, one, other, name) ** 2 for name, parameter in parameters.items()]
    return math.sqrt(sum(squares) / len(squares))


def _difference(parameter: Kind, one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> float:
    if name not in one and name not in other:
        return 0.0
    return distance(parameter, one[name], other[name]) if name in one and name in other else 1.0


def _among(values: list[float], value: float) -> float:
    """Return the place of a value in a sorted list, in between by interpolation, 0 to 1."""
    if len(values) == 1:
        return 0.0 if value == values[0] else 1.0
    below = sum(v <= value for v in values) - 1
    if not 0 <= below < len(values) - 1:
        return 0.0 if below < 0 else 1.0
    share = (value - values[below]) / (values[below + 1] - values[below])
    return (below + share) / (len(values) - 1)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
