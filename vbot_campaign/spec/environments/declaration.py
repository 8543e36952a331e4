"""What an environment declares about itself, as plain data that needs neither torch nor physics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vbot_campaign.errors import SpecError, did_you_mean

Category = Literal["navigation", "stability", "efficiency", "termination"]


@dataclass(frozen=True)
class RewardTerm:
    """One weighted term of the reward."""

    name: str
    category: Category
    default: float
    """Default weight. The sign says whether it is a reward or a penalty."""
    formula: str
    active: str = "always"


@dataclass(frozen=True)
class Setting:
    """One value a person may set under ``env:``."""

    name: str
    default: float | int | bool | str
    doc: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[float | int | str, ...] = ()

    def check(self, value: Any) -> float | int | bool | str:
        """Return the value in the setting's own type.

        Raises:
            SpecError: The value has the wrong type or is outside the range.
        """
        if isinstance(self.default, bool):
            valid = isinstance(value, bool)
        elif isinstance(self.default, str):
            valid = isinstance(value, str)
        elif isinstance(self.default, int):
            valid = isinstance(value, int) and not isinstance(value, bool)
        else:
            valid = isinstance(value, int | float) and not isinstance(value, bool)
        if valid and self.choices:
            valid = value in self.choices
        if valid and self.low is not None:
            valid = value >= self.low
        if valid and self.high is not None:
            valid = value <= self.high
        if not valid:
            near = did_you_mean(str(value), [str(c) for c in self.choices])
            raise SpecError(f"env.{self.name}: {value!r} is not valid; {self.valid()}.{near}")
        return type(self.default)(value)

    def valid(self) -> str:
        """Say in words which values are valid."""
        if self.choices:
            return "one of " + ", ".join(str(choice) for choice in self.choices)
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[type(self.default)]
        low, high = self.low, self.high
        span = ""
        if low is not None and high is not None:
            span = f" from {low:g} to {high:g}"
        elif low is not None:
            span = f" of at least {low:g}"
        elif high is not None:
            span = f" of at most {high:g}"
        return f"expected {kind}{span}" + (f" ({self.unit})" if self.unit else "")


@dataclass(frozen=True)
class EnvironmentDeclaration:
    """An environment's name, sizes, settings and reward terms."""

    name: str
    doc: str
    observation_size: int
    action_size: int
    control_dt_s: float
    settings: Mapping[str, Setting]
    rewards: Mapping[str, RewardTerm]
    physics: tuple[str, ...]

    def resolve_settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return all settings with ``values`` in place of their defaults.

        Raises:
            SpecError: An unknown setting, a wrong type or a value out of range.
        """
        resolved: dict[str, Any] = {name: setting.default for name, setting in self.settings.items()}
        for name, value in values.items():
            resolved[name] = self.setting(name).check(value)
        inner, outer = resolved.get("spawn_inner_radius"), resolved.get("spawn_outer_radius")
        if inner is not None and outer is not None and inner > outer:
            raise SpecError(
                f"env.spawn_inner_radius: {inner} is larger than env.spawn_outer_radius: {outer}; "
                "robots spawn between the two radii."
            )
        return resolved

    def resolve_rewards(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return all reward weights with ``values`` in place of their defaults.

        Raises:
            SpecError: A term that this environment does not compute.
        """
        resolved = {name: term.default for name, term in self.rewards.items()}
        for name, value in values.items():
            resolved[self.reward(name).name] = float(value)
        return resolved

    def setting(self, name: str) -> Setting:
        """Return a setting by name, or raise an error that names the nearest one."""
        if name not in self.settings:
            valid = ", ".join(sorted(self.settings))
            raise SpecError(f"env.{name}: no such setting.{did_you_mean(name, self.settings)} Valid: {valid}.")
        return self.settings[name]

    def reward(self, name: str) -> RewardTerm:
        """Return a reward term by name, or raise an error that names the nearest one."""
        if name not in self.rewards:
            valid = ", ".join(sorted(self.rewards))
            raise SpecError(f"reward.{name}: no such term.{did_you_mean(name, self.rewards)} Valid: {valid}.")
        return self.rewards[name]
