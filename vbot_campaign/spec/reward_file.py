"""Reward files: weights by category, and presets for the stages of a training. So are the library's entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from vbot_campaign.errors import did_you_mean
from vbot_campaign.spec import groups
from vbot_campaign.spec.document import Document
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.environments.declaration import Category
from vbot_campaign.spec.kinds import require_kind
from vbot_campaign.spec.problems import KeyPath, Problem
from vbot_campaign.spec.shape import check_shape
from vbot_campaign.spec.trainable import environment_problem
from vbot_campaign.spec.training import Strict

Status = Literal["untested", "tested", "promising", "adopted", "rejected"]

ByCategory = dict[Category, dict[str, float]]


class RewardPreset(Strict):
    """Weights that differ from the file's own, for one stage of a training."""

    about: str = ""
    """What it is for."""
    reward: ByCategory
    """Weights by category."""


class RewardRecord(Strict):
    """What a set of weights achieved; `vbot-campaign rewards save` writes it."""

    status: Status = "untested"
    notes: str = ""
    saved: str
    """UTC."""
    study: str | None = None
    trial: int | None = Field(default=None, ge=0)
    score: float | None = None
    """Of the trial's evaluation, or the last reported one."""
    env_steps: int = Field(default=0, ge=0)
    """Transitions the trial was trained for."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Score parts of the evaluation."""
    physics: str = ""
    env: dict[str, Any] = Field(default_factory=dict)
    """Environment settings that differ from the defaults."""


class RewardFile(Strict):
    """A complete reward file."""

    environment: str = "vbot_navigation_section001"
    """Environment whose terms these are."""
    about: str = ""
    """What the weights are for."""
    record: RewardRecord | None = None
    """Where the weights come from and what they achieved; in the reward library."""
    reward: ByCategory
    """Weights by category; a term that is not named keeps the environment's default."""
    presets: dict[str, RewardPreset] = Field(default_factory=dict)
    """Sets of changes by name."""


def read_rewards(document: Document) -> RewardFile:
    """Return the reward file of a document.

    Raises:
        SpecError: Something in it is wrong.
    """
    require_kind(document.source, document.value, "reward")
    rewards, problems = check_shape(RewardFile, document.value)
    problems = problems or (list(_reward_problems(rewards)) if rewards else [])
    if rewards is None or problems:
        raise document.error(problems)
    return rewards


def weight_paths(rewards: RewardFile, preset: str | None) -> dict[str, KeyPath]:
    """Return where the weight of each named term stands in the file; a preset's goes before the file's own.

    Args:
        rewards: The file.
        preset: A preset of it, or None.
    """
    paths: dict[str, KeyPath] = {
        term: ("reward", category, term) for category, terms in rewards.reward.items() for term in terms
    }
    if preset is not None:
        for category, terms in rewards.presets[preset].reward.items():
            paths |= {term: ("presets", preset, "reward", category, term) for term in terms}
    return paths


def preset_problem(presets: Mapping[str, Any], name: str) -> str | None:
    """Say that a file has no preset of this name, or return None."""
    if name in presets:
        return None
    valid = f"Valid: {', '.join(presets)}." if presets else "The file has none."
    return f"'{name}' is no preset of the file.{did_you_mean(name, presets)} {valid}"


def by_category(environment: str, weights: Mapping[str, float]) -> dict[Category, dict[str, float]]:
    """Return weights grouped by category, in the order of the declaration."""
    grouped: dict[Category, dict[str, float]] = {}
    for name, term in get_environment(environment).rewards.items():
        if name in weights:
            grouped.setdefault(term.category, {})[name] = weights[name]
    return grouped


def _reward_problems(rewards: RewardFile) -> Iterator[Problem]:
    if (unknown := environment_problem(rewards.environment)) is not None:
        yield unknown
        return
    yield from _category_problems(rewards.environment, rewards.reward, ("reward",))
    for name, preset in rewards.presets.items():
        yield from _category_problems(rewards.environment, preset.reward, ("presets", name, "reward"))


def _category_problems(environment: str, reward: ByCategory, path: KeyPath) -> Iterator[Problem]:
    declaration = get_environment(environment)
    for category, terms in reward.items():
        for term in terms:
            message = groups.name_problem(declaration, "reward", term)
            if message is None and declaration.rewards[term].category != category:
                message = f"is in the wrong place; it belongs under '{declaration.rewards[term].category}'."
            if message is not None:
                yield Problem((*path, category, term), message)
