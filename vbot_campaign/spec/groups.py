"""The three groups of values that a study may search or fix: ``ppo``, ``reward`` and ``env``."""

from __future__ import annotations

import math
from typing import Any, Literal, cast

from vbot_campaign.errors import SpecError, did_you_mean
from vbot_campaign.spec.environments import EnvironmentDeclaration, Setting
from vbot_campaign.spec.problems import KeyPath, Problem, show
from vbot_campaign.spec.ranges import Kind, extremes
from vbot_campaign.spec.shape import check_shape
from vbot_campaign.spec.study import Integer, LogUniform, Uniform
from vbot_campaign.spec.training import PpoSettings

Group = Literal["ppo", "reward", "env"]
GROUPS: tuple[Group, ...] = ("ppo", "reward", "env")

_WHAT = {"ppo": "PPO setting", "reward": "reward term", "env": "environment setting"}


def names(declaration: EnvironmentDeclaration, group: str) -> list[str]:
    """Return what may be set in a group, in the order of the declaration."""
    if group == "ppo":
        return list(PpoSettings.model_fields)
    return list(declaration.rewards if group == "reward" else declaration.settings)


def default(declaration: EnvironmentDeclaration, group: str, name: str) -> Any:
    """Return the value that holds where a study says nothing."""
    if group == "ppo":
        return PpoSettings.model_fields[name].default
    return declaration.rewards[name].default if group == "reward" else declaration.settings[name].default


def defaults(declaration: EnvironmentDeclaration) -> dict[str, Any]:
    """Return all defaults by dotted name: ``ppo.learning_rate``."""
    return {
        f"{group}.{name}": default(declaration, group, name) for group in GROUPS for name in names(declaration, group)
    }


def name_problem(declaration: EnvironmentDeclaration, group: str, name: str) -> str | None:
    """Say what is wrong with a name, or return None when the group has it."""
    valid = names(declaration, group)
    if name in valid:
        return None
    other = next((g for g in GROUPS if g != group and name in names(declaration, g)), None)
    near = f" It belongs under '{other}'." if other else did_you_mean(name, valid)
    return f"no such {_WHAT[group]}.{near} Valid: {', '.join(sorted(valid))}."


def value_problems(declaration: EnvironmentDeclaration, group: str, name: str, value: Any) -> list[Problem]:
    """Return what is wrong with a value; paths lead into the value (for lists). The name must exist."""
    if group == "ppo":
        _, problems = check_shape(PpoSettings, {name: value})
        return [Problem(problem.path[1:], problem.message) for problem in problems]
    if group == "env":
        return _setting_problems(declaration.settings[name], value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return []
    return [Problem((), f"{show(value)} is not valid; expected a number (the weight of the term).")]


def _setting_problems(setting: Setting, value: Any) -> list[Problem]:
    try:
        setting.check(value)
    except SpecError:
        near = did_you_mean(str(value), [str(choice) for choice in setting.choices])
        return [Problem((), f"{show(value)} is not valid; expected {_valid(setting)}.{near}")]
    return []


def _valid(setting: Setting) -> str:
    return setting.valid().removeprefix("expected ")


def parameter_problems(declaration: EnvironmentDeclaration, group: str, name: str, parameter: Kind) -> list[Problem]:
    """Return what is wrong with searching a value in this way. The name must exist."""
    if (message := _kind_problem(declaration, group, name, parameter)) is not None:
        return [Problem(("type",), message)]
    found: list[Problem] = []
    for key, value in extremes(parameter):
        found += [problem.under(*key) for problem in value_problems(declaration, group, name, value)]
    return found


def _kind_problem(declaration: EnvironmentDeclaration, group: str, name: str, parameter: Kind) -> str | None:
    if not isinstance(parameter, Uniform | LogUniform | Integer):
        return None
    setting = declaration.settings[name] if group == "env" else None
    if setting is not None and setting.choices:
        return f"'{parameter.type}' does not fit; expected {_valid(setting)}; use type choice."
    typical = default(declaration, group, name)
    if isinstance(typical, bool) or not isinstance(typical, int | float):
        valid = "true or false" if isinstance(typical, bool) else f"a value such as {show(typical)}"
        use = "categorical" if isinstance(typical, tuple) else "choice"
        return f"'{parameter.type}' does not fit; expected {valid}; use type {use}."
    if isinstance(typical, int) and not isinstance(parameter, Integer):
        return f"'{parameter.type}' does not fit; {group}.{name} takes whole numbers; use type int or choice."
    return None


def split_name(name: str) -> tuple[Group, str]:
    """Split ``ppo.learning_rate`` into group and name."""
    group, _, rest = name.partition(".")
    return cast(Group, group), rest


def path_of(name: str) -> KeyPath:
    """Return the path of a dotted name inside ``search_space`` or ``fixed``."""
    return split_name(name)
