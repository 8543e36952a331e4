"""A search space narrowed around a point, and studies as the text of a study file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, assert_never

import yaml

from vbot_campaign.spec import groups, ranges
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.ranges import Kind
from vbot_campaign.spec.resolve import fixed_values
from vbot_campaign.spec.study import Categorical, Choice, Integer, LogUniform, StudySpec, Uniform

DIGITS = 4
"""Significant digits of a new bound."""


def narrowed_space(spec: StudySpec, point: Mapping[str, Any], width: float, *, allow_outside: bool) -> StudySpec:
    """Return a study that searches around a point, which becomes its first trial.

    Args:
        spec: The study.
        point: Values by dotted name. A parameter that it has none for (a conditional one that did not apply) stays as
            it is.
        width: Share of each old range that the new one has, half of it on each side of the point; 0 to 1.
        allow_outside: Do not cut the new ranges off where the old ones end.
    """
    space = {
        group: {
            name: narrowed(parameter, point[f"{group}.{name}"], width, allow_outside=allow_outside)
            if f"{group}.{name}" in point
            else parameter
            for name, parameter in entries.items()
        }
        for group, entries in spec.search_space.items()
    }
    return spec.model_copy(update={"search_space": space})


def narrowed(parameter: Kind, value: Any, width: float, *, allow_outside: bool = False) -> Kind:
    """Return a parameter with a narrower range around a value, which becomes its prior.

    The width is a share of the range, of its logarithm where that is searched. A list keeps the value and its
    neighbours: those by size where all are numbers, else those beside it. Bounds never change their sign.

    Args:
        parameter: The parameter.
        value: The centre; inside of the range, or of any size where `allow_outside` holds.
        width: Share of the range, above 0 and at most 1.
        allow_outside: The new range may end outside of the old one.
    """
    match parameter:
        case Choice() | Categorical():
            key = ranges.options_key(parameter)
            return parameter.model_copy(update={key: _neighbours(parameter, value, width), "prior": value})
        case LogUniform():
            low, high = _log_bounds(parameter.low, parameter.high, value, width, allow_outside)
        case Uniform():
            low, high = _bounds(parameter.low, parameter.high, value, width, allow_outside)
            low, high = _on_steps(parameter, value, low, high) if parameter.step is not None else (low, high)
        case Integer():
            shape = _log_bounds if parameter.log else _bounds
            low, high = _on_steps(parameter, value, *shape(parameter.low, parameter.high, value, width, allow_outside))
        case _:
            assert_never(parameter)
    return parameter.model_copy(update={"low": low, "high": high, "prior": value})


def without_defaults(spec: StudySpec) -> StudySpec:
    """Return a stored study as a person would write it: without the fixed values that are today's defaults."""
    defaults = groups.defaults(get_environment(spec.environment))
    fixed: dict[groups.Group, dict[str, Any]] = {}
    for name, value in fixed_values(spec).items():
        group, short = groups.split_name(name)
        if name not in spec.parameters and not ranges.same(value, defaults.get(name)):
            fixed.setdefault(group, {})[short] = value
    return spec.model_copy(update={"fixed": fixed})


def study_text(spec: StudySpec) -> str:
    """Return a study as the text of a study file. Settings that are as by default are left out."""
    return yaml_text(spec.model_dump(mode="json", exclude_defaults=True))


def space_text(spec: StudySpec) -> str:
    """Return the search space of a study as the text of a search-space file."""
    space = spec.model_dump(mode="json", include={"environment", "search_space"}, exclude_defaults=True)
    return yaml_text(space)


def yaml_text(values: Mapping[str, Any]) -> str:
    """Return values as YAML, each parameter on one line where it fits."""
    return yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


def _bounds(low: float, high: float, value: float, width: float, allow_outside: bool) -> tuple[float, float]:
    half = width * (high - low) / 2
    return _cut(low, high, value, _rounded(value - half), _rounded(value + half), allow_outside)


def _log_bounds(low: float, high: float, value: float, width: float, allow_outside: bool) -> tuple[float, float]:
    factor = math.exp(width * abs(math.log(high / low)) / 2)
    ends = sorted((_rounded(value / factor), _rounded(value * factor)))
    return _cut(low, high, value, ends[0], ends[1], allow_outside)


def _cut(
    low: float, high: float, value: float, new_low: float, new_high: float, allow_outside: bool
) -> tuple[float, float]:
    """Return new bounds that hold the value and end with the old range, or at least with its sign."""
    least = low if not allow_outside else 0.0 if low >= 0 else -math.inf
    most = high if not allow_outside else 0.0 if high <= 0 else math.inf
    return min(max(new_low, least), value), max(min(new_high, most), value)


def _on_steps(parameter: Uniform | Integer, value: float, low: float, high: float) -> tuple[Any, Any]:
    """Return bounds on the parameter's grid, the value's neighbours at least."""
    step = parameter.step or 1
    below = max(math.floor((value - low) / step + 1e-9), 1)
    above = max(math.floor((high - value) / step + 1e-9), 1)
    while value - below * step < min(parameter.low, low) - 1e-9:
        below -= 1
    while value + above * step > max(parameter.high, high) + 1e-9:
        above -= 1
    return value - below * step, value + above * step


def _neighbours(parameter: Choice | Categorical, value: Any, width: float) -> tuple[Any, ...]:
    options = ranges.options(parameter)
    reach = max(1, round(width * (len(options) - 1) / 2))
    numbers = all(isinstance(option, int | float) and not isinstance(option, bool) for option in options)
    ordered = sorted(options) if numbers else list(options)
    place = next(index for index, option in enumerate(ordered) if ranges.same(option, value))
    kept = ordered[max(place - reach, 0) : place + reach + 1]
    return tuple(option for option in options if ranges.find(option, kept) is not None)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
