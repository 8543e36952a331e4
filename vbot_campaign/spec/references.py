"""Parts of a file that stand in another one: a search space, reward weights.

``search_space: {file: FILE, preset: NAME}`` and ``reward: {file: FILE, preset: NAME}`` or ``reward: {library: NAME}``
are replaced by what they refer to before anything is checked or stored, so the rest of the program knows complete
definitions only. What stands in the file itself goes before what a reward file says, and that before a search space's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vbot_campaign.errors import did_you_mean
from vbot_campaign.paths import CampaignPaths, name_problem, runs_folder
from vbot_campaign.spec import groups
from vbot_campaign.spec.assembly import Assembly, value_at
from vbot_campaign.spec.document import Document, read_document
from vbot_campaign.spec.problems import KeyPath, Problem
from vbot_campaign.spec.reward_file import preset_problem, read_rewards, weight_paths
from vbot_campaign.spec.search_file import read_search_space, select
from vbot_campaign.spec.shape import check_shape
from vbot_campaign.spec.study import RewardReference, SearchSpaceReference
from vbot_campaign.spec.training import Strict


@dataclass(frozen=True)
class _Value:
    """A value and where it was written."""

    value: Any
    origin: Document
    at: KeyPath


Values = dict[str, _Value]
"""By dotted name: ``reward.arrival_bonus``."""


def resolve_study(document: Document, folder: Path) -> Document:
    """Return a study's document with everything in it that it refers to.

    Args:
        document: The study file as it stands.
        folder: Where relative paths in it start.

    Raises:
        SpecError: What it refers to is missing or wrong; the message names the file at fault.
    """
    references = _References(document, folder)
    rewards = references.rewards(("reward",))
    fixed = _entries(document, ("fixed",))
    space = references.search_space(("search_space",), fixed, rewards)
    assembly = references.assembly
    assembly.take("reward")
    for name, value in {**space, **rewards}.items():
        if name not in fixed and name not in references.searched:
            assembly.put(("fixed", *groups.path_of(name)), value.value, value.origin, value.at)
    return references.finish()


def resolve_training(document: Document, folder: Path) -> Document:
    """Return a training's document with the reward weights that it refers to; see `resolve_study`."""
    references = _References(document, folder)
    references.place_rewards(("reward",))
    return references.finish()


def resolve_plan(document: Document, folder: Path) -> Document:
    """Return a plan's document with everything in it, and in its stages, that it refers to; see `resolve_study`."""
    references = _References(document, folder)
    references.place_rewards(("reward",))
    stages = references.assembly.value.get("stages")
    for index, stage in enumerate(stages if isinstance(stages, list) else []):
        here = ("stages", index)
        references.place_rewards((*here, "reward"))
        if not isinstance(stage, dict) or not isinstance(stage.get("search"), dict):
            continue
        placed = references.assembly.document()
        base = {**_entries(placed, ()), **_entries(placed, here)}
        fixed = _entries(placed, (*here, "search", "fixed"))
        space = references.search_space((*here, "search", "search_space"), fixed, base)
        for name, value in space.items():
            if name not in base and name not in fixed:
                path = (*here, "search", "fixed", *groups.path_of(name))
                references.assembly.put(path, value.value, value.origin, value.at)
    return references.finish()


class _References:
    """Replaces references in one document and gathers what is wrong with them."""

    def __init__(self, document: Document, folder: Path) -> None:
        self.assembly = Assembly(document)
        self.searched: set[str] = set()
        self._document = document
        self._folder = folder
        self._problems: list[Problem] = []

    def finish(self) -> Document:
        """Return the whole document.

        Raises:
            SpecError: A reference is wrong.
        """
        if self._problems:
            raise self._document.error(self._problems)
        return self.assembly.document()

    # --- reward weights -----------------------------------------------------------------------------------------

    def place_rewards(self, path: KeyPath) -> None:
        """Replace a reference to weights by the weights."""
        values = self.rewards(path)
        if _is_reference(self.assembly.mapping(*path), RewardReference):
            self.assembly.put(path, {}, self._document, path)
            for name, value in values.items():
                self.assembly.put((*path, groups.split_name(name)[1]), value.value, value.origin, value.at)

    def rewards(self, path: KeyPath) -> Values:
        """Return the weights that stand at a path, or that what stands there refers to."""
        section = value_at(self._document.value, path)
        if not isinstance(section, dict):
            if section is not None:
                self._refuse(path, "expected weights by term, or {file: FILE, preset: NAME}, or {library: NAME}.")
            return {}
        if not _is_reference(section, RewardReference):
            return {f"reward.{name}": _Value(value, self._document, (*path, name)) for name, value in section.items()}
        reference, problems = check_shape(RewardReference, section)
        self._problems += [problem.under(*path) for problem in problems]
        return {} if reference is None else self._referred_rewards(reference, path)

    def _referred_rewards(self, reference: RewardReference, path: KeyPath) -> Values:
        own = {f"reward.{n}": _Value(v, self._document, (*path, "weights", n)) for n, v in reference.weights.items()}
        file = self._reward_file(reference, path)
        if file is None:
            return own
        document = read_document(file)
        rewards = read_rewards(document)
        if reference.preset is not None and (message := preset_problem(rewards.presets, reference.preset)) is not None:
            self._refuse((*path, "preset"), message)
            return own
        places = weight_paths(rewards, reference.preset)
        return {
            **{f"reward.{n}": _Value(value_at(document.value, at), document, at) for n, at in places.items()},
            **own,
        }

    def _reward_file(self, reference: RewardReference, path: KeyPath) -> Path | None:
        if reference.file is not None and reference.library is not None:
            self._refuse(path, "names both a file and an entry of the library; keep one of them.")
        elif reference.library is not None:
            return self._library_file(reference.library, (*path, "library"))
        elif reference.file is not None:
            return self._file(reference.file, (*path, "file"))
        elif reference.preset is not None:
            self._refuse((*path, "preset"), "is a preset of a file; name that too: {file: FILE, preset: NAME}.")
        return None

    def _library_file(self, name: str, path: KeyPath) -> Path | None:
        paths = CampaignPaths(runs_folder())
        if (problem := name_problem(name)) is not None:
            self._refuse(path, problem)
            return None
        file = paths.reward(name)
        if not file.is_file():
            near = did_you_mean(name, [entry.stem for entry in paths.reward_library.glob("*.yaml")])
            text = f"'{name}' is not in the reward library {paths.reward_library.as_posix()}.{near}"
            self._refuse(path, f"{text} See: vbot-campaign rewards list.")
            return None
        return file

    # --- search spaces ------------------------------------------------------------------------------------------

    def search_space(self, path: KeyPath, fixed: Values, start: Values) -> Values:
        """Put in the search space that stands at a path or that it refers to.

        Args:
            path: Of the search space.
            fixed: What the study fixes; that takes it out of a referenced space.
            start: Values at which the search begins, where their own prior does not stand beside the reference.

        Returns:
            What a referenced space fixes; nothing for one that stands in the document.
        """
        section = self.assembly.mapping(*path)
        if not _is_reference(section, SearchSpaceReference):
            self._begin(path, start, keep_priors=True)
            return {}
        reference, problems = check_shape(SearchSpaceReference, section)
        self._problems += [problem.under(*path) for problem in problems]
        file = self._file(reference.file, (*path, "file")) if reference else None
        if reference is None or file is None:
            return {}
        document = read_document(file)
        space = read_search_space(document)
        if reference.preset is not None and (message := preset_problem(space.presets, reference.preset)) is not None:
            self._refuse((*path, "preset"), message)
            return {}
        selection = select(space, reference.preset)
        self.assembly.put(path, {}, self._document, path)
        for name, at in selection.searched.items():
            if name not in fixed:
                self.assembly.put((*path, *groups.path_of(name)), value_at(document.value, at), document, at)
        self._begin(path, start, keep_priors=False)
        return {name: _Value(value, document, at) for name, (value, at) in selection.fixed.items()}

    def _begin(self, path: KeyPath, start: Values, *, keep_priors: bool) -> None:
        for group, name, parameter in _groups(self.assembly.mapping(*path)):
            self.searched.add(f"{group}.{name}")
            value = start.get(f"{group}.{name}")
            if value is not None and isinstance(parameter, dict) and not (keep_priors and "prior" in parameter):
                self.assembly.put((*path, group, name, "prior"), value.value, value.origin, value.at)

    # --- both ---------------------------------------------------------------------------------------------------

    def _file(self, name: str, path: KeyPath) -> Path | None:
        file = self._folder / name
        if file.is_file():
            return file
        near = did_you_mean(file.name, [other.name for other in file.parent.glob("*.y*ml")])
        self._refuse(path, f"no file {file.as_posix()}.{near} A relative path starts at this file's folder.")
        return None

    def _refuse(self, path: KeyPath, message: str) -> None:
        self._problems.append(Problem(path, message))


def _is_reference(section: Mapping[str, Any], model: type[Strict]) -> bool:
    return bool(section.keys() & model.model_fields.keys())


def _entries(document: Document, path: KeyPath) -> Values:
    """Return the values of all groups under a path."""
    section = value_at(document.value, path)
    found = _groups(section) if isinstance(section, dict) else ()
    return {f"{group}.{name}": _Value(value, document, (*path, group, name)) for group, name, value in found}


def _groups(section: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    given = ((group, section.get(group)) for group in groups.GROUPS)
    return itertools.chain.from_iterable(
        [(group, name, value) for name, value in entries.items()]
        for group, entries in given
        if isinstance(entries, dict)
    )
