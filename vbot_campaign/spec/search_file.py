"""Search-space files: ranges of many parameters, and presets that say which of them a study searches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from vbot_campaign.errors import did_you_mean
from vbot_campaign.spec import groups
from vbot_campaign.spec.checks import study_problems
from vbot_campaign.spec.document import Document
from vbot_campaign.spec.kinds import require_kind
from vbot_campaign.spec.objective import default_objective
from vbot_campaign.spec.problems import KeyPath, Problem
from vbot_campaign.spec.resolve import first_value
from vbot_campaign.spec.shape import check_shape
from vbot_campaign.spec.study import AnyParameter, Budget, StudySpec
from vbot_campaign.spec.trainable import environment_problem
from vbot_campaign.spec.training import Strict


class SearchPreset(Strict):
    """Which parameters are searched; all others are fixed at their prior."""

    about: str = ""
    """What it is for."""
    search: tuple[str, ...] = Field(min_length=1)
    """Groups (`reward`) and parameters (`ppo.learning_rate`) that are searched."""
    fixed: dict[groups.Group, dict[str, Any]] = Field(default_factory=dict)
    """Values that are fixed, whatever `search` says, by group."""


class SearchSpaceFile(Strict):
    """A complete search-space file."""

    environment: str = "vbot_navigation_section001"
    """Environment whose names these are."""
    about: str = ""
    """What the space is for."""
    search_space: dict[groups.Group, dict[str, AnyParameter]]
    """Ranges by group, as in a study."""
    presets: dict[str, SearchPreset] = Field(default_factory=dict)
    """Choices from the space by name."""

    @property
    def names(self) -> list[str]:
        """Names of all parameters: ``ppo.learning_rate``."""
        return [f"{group}.{name}" for group, entries in self.search_space.items() for name in entries]


@dataclass(frozen=True)
class Selection:
    """What a preset searches and fixes, by dotted name, with the place in the file that says so."""

    searched: dict[str, KeyPath]
    fixed: dict[str, tuple[Any, KeyPath]]


def read_search_space(document: Document) -> SearchSpaceFile:
    """Return the search-space file of a document.

    Raises:
        SpecError: Something in it is wrong, or a preset of it could not be searched.
    """
    require_kind(document.source, document.value, "search_space")
    space, problems = check_shape(SearchSpaceFile, document.value)
    problems = problems or (_problems(space) if space else [])
    if space is None or problems:
        raise document.error(problems)
    return space


def select(space: SearchSpaceFile, preset: str | None) -> Selection:
    """Return what is searched and what is fixed.

    Args:
        space: The file, checked.
        preset: One of its presets; None searches everything.
    """
    places: dict[str, KeyPath] = {name: ("search_space", *groups.path_of(name)) for name in space.names}
    if preset is None:
        return Selection(places, {})
    chosen = space.presets[preset]
    whole = _as_study(space, None)
    fixed: dict[str, tuple[Any, KeyPath]] = {
        f"{group}.{name}": (value, ("presets", preset, "fixed", group, name))
        for group, entries in chosen.fixed.items()
        for name, value in entries.items()
    }
    searched = {n: p for n, p in places.items() if n not in fixed and _is_searched(n, chosen)}
    for name, place in places.items():
        if name not in searched and name not in fixed:
            fixed[name] = (first_value(whole, name), (*place, "prior"))
    return Selection(searched, fixed)


def _is_searched(name: str, preset: SearchPreset) -> bool:
    return name in preset.search or groups.split_name(name)[0] in preset.search


def _as_study(space: SearchSpaceFile, preset: str | None) -> StudySpec:
    """Return a study of nothing else than this space, long enough for any values."""
    entries: dict[groups.Group, dict[str, Any]] = {group: dict(given) for group, given in space.search_space.items()}
    fixed: dict[groups.Group, dict[str, Any]] = {group: {} for group in groups.GROUPS}
    if preset is not None:
        selection = select(space, preset)
        for group, given in entries.items():
            entries[group] = {name: p for name, p in given.items() if f"{group}.{name}" in selection.searched}
        for name, (value, _) in selection.fixed.items():
            group, short = groups.split_name(name)
            fixed[group][short] = value
    return StudySpec(
        study="space",
        environment=space.environment,
        env_steps_per_trial=10**12,
        budget=Budget(trials=1),
        objective=default_objective(),
        search_space=entries,
        fixed=fixed,
    )


def _problems(space: SearchSpaceFile) -> list[Problem]:
    if (unknown := environment_problem(space.environment)) is not None:
        return [unknown]
    if problems := [*study_problems(_as_study(space, None)), *_preset_problems(space)]:
        return problems
    return [
        _in_preset(problem, name, space.presets[name])
        for name in space.presets
        for problem in study_problems(_as_study(space, name))
    ]


def _in_preset(problem: Problem, preset: str, chosen: SearchPreset) -> Problem:
    """Return a problem of a preset's study at the place in the file that it comes from."""
    group, name = (*problem.path[1:3], None, None)[:2]
    if problem.path[:1] == ("fixed",) and name in chosen.fixed.get(group, {}):  # type: ignore[call-overload]
        return problem.under("presets", preset)
    if problem.path[:1] == ("search_space",) and len(problem.path) > 1:
        return Problem(problem.path, f"{problem.message} (in preset '{preset}')")
    return Problem(("presets", preset), str(problem))


def _preset_problems(space: SearchSpaceFile) -> Iterator[Problem]:
    valid = [*space.search_space, *space.names]
    for preset, chosen in space.presets.items():
        for index, name in enumerate(chosen.search):
            if name not in valid:
                text = f"'{name}' is not in the search space.{did_you_mean(name, valid)} Valid: a group "
                text += f"({', '.join(space.search_space)}) or a parameter of it, such as {space.names[0]}."
                yield Problem(("presets", preset, "search", index), text)
