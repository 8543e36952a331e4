"""The kinds of files that people write, and which one a file is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vbot_campaign.errors import SpecError, did_you_mean


@dataclass(frozen=True)
class Kind:
    """One kind of file."""

    name: str
    """As on the command line: ``study``."""
    words: str
    """As in a sentence: ``a study``."""
    name_key: str | None
    """Key at the top that holds its name; None for files that have none."""
    marks: frozenset[str]
    """Keys at the top that no other kind has: one of them settles it."""
    keys: frozenset[str]
    """Keys at the top that speak for this kind."""
    templates: tuple[str, ...]
    """Files in ``templates/``; the first is the usual one."""
    use: str
    """The command, or the lines of another file, that take it; ``FILE`` stands for it."""


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "study",
            "a study",
            "study",
            frozenset(("study",)),
            frozenset(("env_steps_per_trial", "budget", "objective", "sampler", "pruner", "constraints")),
            ("automl_config.yaml",),
            "vbot-campaign run FILE",
        ),
        Kind(
            "training",
            "a single training",
            "run_tag",
            frozenset(("run_tag",)),
            frozenset(("env_steps", "num_envs", "ppo", "env")),
            ("config_template.yaml",),
            "vbot-campaign train --config FILE",
        ),
        Kind(
            "plan",
            "a plan",
            "plan",
            frozenset(("plan", "stages")),
            frozenset(),
            ("plan_template.yaml", "curriculum_plan_template.yaml"),
            "vbot-campaign campaign run FILE",
        ),
        Kind(
            "search_space",
            "a search space",
            None,
            frozenset(),
            frozenset(("search_space", "presets")),
            ("search_space_template.yaml",),
            "search_space: {file: FILE} in a study",
        ),
        Kind(
            "reward",
            "reward weights",
            None,
            frozenset(("record",)),
            frozenset(("reward", "presets")),
            ("reward_config_template.yaml",),
            "reward: {file: FILE} in a study, a training or a plan",
        ),
    )
}


def get_kind(name: str) -> Kind:
    """Return a kind by its name.

    Raises:
        SpecError: There is none of that name.
    """
    if name not in KINDS:
        raise SpecError(f"'{name}' is no kind of file.{did_you_mean(name, KINDS)} Valid: {', '.join(KINDS)}.")
    return KINDS[name]


def kind_of(value: Any) -> Kind | None:
    """Return the kind of a file's content, or None where nothing in it tells.

    A name settles it (``study: mine``); else the kind that most keys at the top speak for.
    """
    if not isinstance(value, Mapping):
        return None
    for kind in KINDS.values():
        if kind.marks & value.keys():
            return kind
    best = max(KINDS.values(), key=lambda kind: len(kind.keys & value.keys()))
    return best if best.keys & value.keys() else None


def require_kind(source: str, value: Any, wanted: str) -> None:
    """Check that a file's content is not plainly of another kind.

    Args:
        source: File name for the message.
        value: Its content.
        wanted: Kind that is needed.

    Raises:
        SpecError: It is; the message says what takes such a file.
    """
    found = kind_of(value)
    if found is not None and found.name != wanted:
        use = found.use.replace("FILE", source)
        raise SpecError(f"{source}: is {found.words}, not {KINDS[wanted].words}. What takes it: {use}.")
