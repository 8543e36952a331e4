"""The score that Optuna maximizes: a weighted sum of evaluation metrics, each mapped to 0..1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator

SCORE_PARTS: dict[str, str] = {
    "success_rate": "share of episodes that stopped inside the goal without a fall",
    "survival_rate": "share of episodes without a fall and without leaving the disc",
    "goal_progress": "share of the initial distance covered at the end of the episode",
    "time_to_goal": "seconds until first inside the goal; the full clock when never",
    "episode_length": "control steps per episode",
    "episode_reward_mean": "sum of rewards per episode",
}

# Parts that are already a share need no scale; for the others one must be chosen, and a shorter time is better.
_DEFAULTS: dict[str, tuple[float | None, bool]] = {
    "success_rate": (1.0, False),
    "survival_rate": (1.0, False),
    "goal_progress": (1.0, False),
    "time_to_goal": (10.0, True),
    "episode_length": (1000.0, False),
    "episode_reward_mean": (None, False),
}


class ObjectiveTerm(BaseModel):
    """One part of the score."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(gt=0, allow_inf_nan=False)
    """Factor of the mapped value in the sum."""
    scale: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The metric is divided by this and clipped to 0..1. Each part but the reward has a natural default."""
    invert: bool | None = None
    """Use one minus the mapped value, for metrics where less is better."""


@dataclass(frozen=True)
class MappedTerm:
    """An objective term with its defaults filled in."""

    weight: float
    scale: float
    invert: bool

    def map(self, value: float) -> float:
        """Map a metric to 0..1."""
        share = min(max(value / self.scale, 0.0), 1.0)
        return 1.0 - share if self.invert else share


def _describe_terms(schema: dict[str, Any]) -> None:
    """Say in the JSON schema what the validator below accepts: the known parts, each a weight or a term."""
    weight = {"type": "number", "exclusiveMinimum": 0, "description": "Weight in the sum."}
    term = {"anyOf": [weight, schema.pop("additionalProperties")]}
    schema["properties"] = {name: {**term, "description": doc} for name, doc in SCORE_PARTS.items()}
    schema["additionalProperties"] = False
    schema["minProperties"] = 1


class Objective(RootModel[dict[str, ObjectiveTerm]]):
    """Score parts by name; a bare number stands for its weight."""

    model_config = ConfigDict(frozen=True, json_schema_extra=_describe_terms)

    @field_validator("root", mode="before")
    @classmethod
    def _weights_to_terms(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        plain = (int, float)
        return {k: {"weight": v} if isinstance(v, plain) and not isinstance(v, bool) else v for k, v in value.items()}

    def terms(self) -> dict[str, MappedTerm]:
        """Return each part's weight, scale and direction with defaults filled in."""
        mapped = {}
        for name, term in self.root.items():
            scale, invert = _DEFAULTS[name]
            chosen = term.scale if term.scale is not None else scale
            if chosen is None:
                raise ValueError(f"objective.{name} needs a scale")
            mapped[name] = MappedTerm(term.weight, chosen, invert if term.invert is None else term.invert)
        return mapped

    def score(self, parts: Mapping[str, float]) -> float:
        """Return the weighted sum of the mapped parts.

        Args:
            parts: Metrics in natural units, as `EpisodeTotals.parts` returns them.
        """
        return sum(term.weight * term.map(parts[name]) for name, term in self.terms().items())


def default_objective() -> Objective:
    """Return the objective of a training that names none."""
    return Objective.model_validate({"success_rate": 0.6, "survival_rate": 0.25, "goal_progress": 0.15})
