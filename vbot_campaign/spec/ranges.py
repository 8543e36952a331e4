"""Arithmetic of the parameter kinds: what lies inside, the ends, the middle, and what is wrong with a range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, assert_never

from vbot_campaign.spec.problems import KeyPath, Problem, show
from vbot_campaign.spec.study import Categorical, Choice, Integer, LogUniform, Uniform

Kind = Uniform | LogUniform | Integer | Choice | Categorical
Range = Uniform | LogUniform | Integer


def same(a: Any, b: Any) -> bool:
    """Tell whether two values are one choice: 1 is 1.0 but not true, and lists compare item by item."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return isinstance(a, bool) is isinstance(b, bool) and bool(a == b)


def options(parameter: Choice | Categorical) -> tuple[Any, ...]:
    """Return the values to choose from."""
    return parameter.values if isinstance(parameter, Choice) else parameter.choices


def options_key(parameter: Choice | Categorical) -> str:
    """Return the key that holds the choices: ``values`` or ``choices``."""
    return "values" if isinstance(parameter, Choice) else "choices"


def find(value: Any, among: Sequence[Any]) -> Any | None:
    """Return the choice equal to ``value`` as it stands in the list, or None."""
    return next((option for option in among if same(option, value)), None)


def discrete_values(parameter: Kind) -> Sequence[Any] | None:
    """Return all values of a parameter, or None when it is continuous."""
    if isinstance(parameter, Integer):
        return range(parameter.low, parameter.high + 1, parameter.step)
    if isinstance(parameter, Choice | Categorical):
        return options(parameter)
    if isinstance(parameter, Uniform) and parameter.step is not None:
        return [parameter.low + i * parameter.step for i in range(_steps(parameter) + 1)]
    return None


def is_continuous(parameter: Kind) -> bool:
    """Tell whether a parameter has no finite list of values."""
    return isinstance(parameter, LogUniform) or (isinstance(parameter, Uniform) and parameter.step is None)


def contains(parameter: Kind, value: Any) -> bool:
    """Tell whether a value lies in the range, on its step grid, or among the choices."""
    if isinstance(parameter, Choice | Categorical):
        return find(value, options(parameter)) is not None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not parameter.low <= value <= parameter.high:
        return False
    return isinstance(parameter, LogUniform) or parameter.step is None or _on_grid(parameter, value)


def middle(parameter: Kind) -> Any:
    """Return the centre of a range (of the logarithm where that is searched), or the first choice."""
    if isinstance(parameter, Choice | Categorical):
        return options(parameter)[0]
    if isinstance(parameter, LogUniform):
        # Two roots, because the product of two small bounds may be too small for a number.
        return math.copysign(math.sqrt(abs(parameter.low)) * math.sqrt(abs(parameter.high)), parameter.low)
    if isinstance(parameter, Integer):
        centre = math.sqrt(parameter.low * parameter.high) if parameter.log else (parameter.low + parameter.high) / 2
        return parameter.low + round((centre - parameter.low) / parameter.step) * parameter.step
    if isinstance(parameter, Uniform):
        if parameter.step is None:
            return (parameter.low + parameter.high) / 2
        return parameter.low + _steps(parameter) // 2 * parameter.step
    assert_never(parameter)


def extremes(parameter: Kind) -> list[tuple[KeyPath, Any]]:
    """Return the values that decide whether all are acceptable, each with the key that holds it."""
    if isinstance(parameter, Choice | Categorical):
        key = options_key(parameter)
        return [((key, i), value) for i, value in enumerate(options(parameter))]
    return [(("low",), parameter.low), (("high",), parameter.high)]


def range_text(parameter: Kind) -> str:
    """Return a range in words: ``1e-05 .. 0.001`` or ``16, 24, 32``."""
    if isinstance(parameter, Choice | Categorical):
        return ", ".join(value if isinstance(value, str) else show(value) for value in options(parameter))
    text = f"{show(parameter.low)} .. {show(parameter.high)}"
    step = None if isinstance(parameter, LogUniform) else parameter.step
    if step is not None and step != 1:
        text += f" step {show(step)}"
    return text


def range_problems(parameter: Kind) -> list[Problem]:
    """Return what is wrong with a parameter by itself, whatever it stands for."""
    if isinstance(parameter, Choice | Categorical):
        problems = _choice_problems(parameter)
    else:
        problems = _bound_problems(parameter)
    return problems or _prior_problems(parameter)


def _choice_problems(parameter: Choice | Categorical) -> list[Problem]:
    key, values = options_key(parameter), options(parameter)
    return [
        Problem((key, i), f"{show(value)} appears twice; each choice may appear once")
        for i, value in enumerate(values)
        if find(value, values[:i]) is not None
    ]


def _bound_problems(parameter: Range) -> list[Problem]:
    low, high = show(parameter.low), show(parameter.high)
    if parameter.low >= parameter.high:
        return [
            Problem(
                ("low",), f"low {low} is not below high {high}; low must be smaller, or fix the value under 'fixed'"
            )
        ]
    if isinstance(parameter, LogUniform) and parameter.low <= 0 <= parameter.high:
        text = f"{low} to {high} includes zero, which has no logarithm; keep both bounds on one side or use uniform"
        return [Problem(("low",), text)]
    if isinstance(parameter, Integer) and parameter.log:
        return _log_integer_problems(parameter)
    if isinstance(parameter, LogUniform) or parameter.step is None or _on_grid(parameter, parameter.high):
        return []
    span = show(parameter.high - parameter.low)
    return [Problem(("step",), f"step {show(parameter.step)} does not divide high - low = {span}; pick one that does")]


def _log_integer_problems(parameter: Integer) -> list[Problem]:
    if parameter.low < 1:
        return [Problem(("low",), f"low {parameter.low} with log: true; a logarithmic int starts at 1 or above")]
    if parameter.step != 1:
        return [Problem(("step",), f"step {parameter.step} with log: true; a logarithmic int has step 1")]
    return []


def _prior_problems(parameter: Kind) -> list[Problem]:
    if parameter.prior is None or contains(parameter, parameter.prior):
        return []
    prior = show(parameter.prior)
    if isinstance(parameter, Choice | Categorical):
        return [Problem(("prior",), f"{prior} is not among the {options_key(parameter)}: {range_text(parameter)}")]
    if parameter.low <= parameter.prior <= parameter.high:
        return [
            Problem(
                ("prior",), f"{prior} is not on the grid; valid is low plus a multiple of step: {range_text(parameter)}"
            )
        ]
    return [Problem(("prior",), f"{prior} is outside the range; valid: {range_text(parameter)}")]


def _steps(parameter: Uniform | Integer) -> int:
    return round((parameter.high - parameter.low) / (parameter.step or 1))


def _on_grid(parameter: Uniform | Integer, value: float) -> bool:
    steps = (value - parameter.low) / (parameter.step or 1)
    return math.isfinite(steps) and math.isclose(steps, round(steps), rel_tol=0, abs_tol=1e-6)
