"""The search space in Optuna's terms, and back.

Three things have no direct form in Optuna and are stored in another one:

* A negative `loguniform` is stored as its magnitude, under a name that says so: ``|reward.termination|``.
* A `choice` or `categorical` with values that are no plain scalars (layer sizes), or that Python takes for equal
  (``1`` and ``true``), is stored as JSON text, one text per value.
* A `uniform` or `int` whose range is no multiple of its step ends at the last step inside the range.

`decode` turns what Optuna stored into the real values under their real names; everything outside this package sees
only those.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from vbot_campaign.spec.ranges import options
from vbot_campaign.spec.resolve import is_active
from vbot_campaign.spec.study import AnyParameter, Categorical, Choice, Integer, LogUniform, StudySpec, Uniform
from vbot_campaign.study.encoding import decode as decode
from vbot_campaign.study.encoding import decode_value, labels
from vbot_campaign.study.encoding import encode as encode
from vbot_campaign.study.encoding import stored_name as stored_name


def suggest(trial: Trial, spec: StudySpec) -> dict[str, Any]:
    """Draw all active parameters for a trial.

    Returns:
        Real values by real name. A parameter whose `when` does not hold is absent.
    """
    values: dict[str, Any] = {}
    for name, parameter in spec.parameters.items():
        if is_active(spec, name, values):
            stored = _suggest(trial, stored_name(name, parameter), distribution(parameter))
            values[name] = decode_value(parameter, stored)
    return values


def distribution(parameter: AnyParameter) -> BaseDistribution:
    """Return Optuna's distribution of what is stored for a parameter."""
    match parameter:
        case Uniform(low=low, high=high, step=None):
            return FloatDistribution(low, high)
        case Uniform(low=low, high=high, step=float(step)):
            return FloatDistribution(low, last_step(low, high, step), step=step)
        case LogUniform(low=low, high=high):
            return FloatDistribution(-high, -low, log=True) if high < 0 else FloatDistribution(low, high, log=True)
        case Integer(log=True, low=low, high=high):
            return IntDistribution(low, high, log=True)
        case Integer(low=low, high=high, step=step):
            return IntDistribution(low, int(last_step(low, high, step)), step=step)
        case Choice() | Categorical():
            return CategoricalDistribution(labels(options(parameter)))
    raise TypeError(f"no distribution for {parameter}")


def last_step(low: float, high: float, step: float) -> float:
    """Return the last of ``low, low + step, …`` that is not above ``high``, free of binary rounding."""
    first, width = Decimal(str(low)), Decimal(str(step))
    return float(first + (Decimal(str(high)) - first) // width * width)


def _suggest(trial: Trial, name: str, dist: BaseDistribution) -> Any:
    match dist:
        case FloatDistribution():
            return trial.suggest_float(name, dist.low, dist.high, step=dist.step, log=dist.log)
        case IntDistribution():
            return trial.suggest_int(name, dist.low, dist.high, step=dist.step, log=dist.log)
        case CategoricalDistribution():
            return trial.suggest_categorical(name, dist.choices)
    raise TypeError(f"{name}: no suggestion for {dist}")
