"""What Optuna stores for a parameter's value, and back; see `vbot_campaign.study.space` for why they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vbot_campaign.spec.ranges import options, same
from vbot_campaign.spec.study import AnyParameter, Categorical, Choice, Integer, LogUniform, StudySpec


def stored_name(name: str, parameter: AnyParameter) -> str:
    """Return the name under which Optuna stores a parameter."""
    return f"|{name}|" if is_magnitude(parameter) else name


def decode(spec: StudySpec, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the real values of a trial.

    Args:
        spec: The study.
        stored: Optuna's parameters of the trial.
    """
    names = {name: stored_name(name, p) for name, p in spec.parameters.items()}
    return {name: decode_value(spec.parameters[name], stored[key]) for name, key in names.items() if key in stored}


def encode(spec: StudySpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Optuna stores for real values; the inverse of `decode`."""
    parameters = spec.parameters
    return {stored_name(name, parameters[name]): _encode(parameters[name], value) for name, value in values.items()}


def is_magnitude(parameter: AnyParameter) -> bool:
    """Tell whether the magnitude of a parameter is stored, because its range is negative and logarithmic."""
    return isinstance(parameter, LogUniform) and parameter.high < 0


def labels(values: Sequence[Any]) -> list[Any]:
    """Return the choices that Optuna is given for the values of a `choice` or `categorical`."""
    plain = all(isinstance(value, str | int | float) for value in values)
    return list(values) if plain and len(set(values)) == len(values) else [json.dumps(value) for value in values]


def decode_value(parameter: AnyParameter, stored: Any) -> Any:
    """Return the real value of one parameter."""
    if isinstance(parameter, Choice | Categorical):
        values = options(parameter)
        return values[labels(values).index(stored)]
    return -stored if is_magnitude(parameter) else stored


def decode_number(parameter: AnyParameter, number: float) -> Any:
    """Return the real value for the number in a row of Optuna's table of parameters: of a choice, its position."""
    if isinstance(parameter, Choice | Categorical):
        return options(parameter)[int(number)]
    if isinstance(parameter, Integer):
        return int(number)
    return -number if is_magnitude(parameter) else number


def _encode(parameter: AnyParameter, value: Any) -> Any:
    if isinstance(parameter, Choice | Categorical):
        values = options(parameter)
        return next(label for label, option in zip(labels(values), values, strict=True) if same(option, value))
    if isinstance(parameter, Integer):
        return int(value)
    return -float(value) if is_magnitude(parameter) else float(value)
