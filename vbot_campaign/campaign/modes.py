"""The modes of ``run``: which part of a study file is searched, and what follows the search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from vbot_campaign.campaign.confirm import Confirmed, confirm_wanted, confirmation_is_over
from vbot_campaign.campaign.derived import best_trials, derived_name, is_over
from vbot_campaign.campaign.extend import extend_study
from vbot_campaign.campaign.stage import confirmed_order
from vbot_campaign.errors import SpecError, did_you_mean
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec import groups
from vbot_campaign.spec.checks import study_problems
from vbot_campaign.spec.resolve import prior_point
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.spec.trainable import require
from vbot_campaign.supervisor import Outcome, run_study

Mode = Literal["hp-search", "reward-search", "stage", "full", "eval"]
MODES: tuple[Mode, ...] = get_args(Mode)
SEARCHED: dict[Mode, groups.Group] = {"hp-search": "ppo", "reward-search": "reward"}
"""The one group that a mode searches."""
FULL_FACTOR = 3
"""Length of the full training that ends a stage, in trials, where nobody says otherwise."""

Supervise = Callable[[str, Callable[..., Outcome]], Outcome]
"""Runs a supervisor, given a study's name and what takes `Supervisor`'s further options: whoever watches, watches."""
Confirm = Callable[[str], Confirmed | None]
"""Confirms the best trials of a study by name if it asks for that; returns None where it does not."""


def parse_mode(text: str) -> Mode:
    """Return a mode.

    Raises:
        SpecError: There is none of that name.
    """
    found = next((mode for mode in MODES if mode == text), None)
    if found is None:
        raise SpecError(f"--mode {text}: no such mode.{did_you_mean(text, MODES)} Valid: {', '.join(MODES)}.")
    return found


def derive(spec: StudySpec, mode: Mode) -> StudySpec:
    """Return the study that a mode searches, under a name of its own.

    ``hp-search`` and ``reward-search`` keep one group of the search space and fix the rest at the values of the first
    trial; ``stage`` keeps all.

    Args:
        spec: The study file.
        mode: One of those three.

    Raises:
        SpecError: It searches nothing of that group, or the rest makes no study.
    """
    spec = spec.model_copy(update={"study": derived_name(spec.study, mode)})
    if mode in SEARCHED:
        spec = _only(spec, mode, SEARCHED[mode])
    require(study_problems(spec))
    return spec


def run_mode(
    paths: CampaignPaths,
    spec: StudySpec,
    mode: Mode,
    *,
    folder: Path | None = None,
    full_env_steps: int | None = None,
    supervise: Supervise | None = None,
    confirm: Confirm | None = None,
    **options: Any,
) -> Outcome | Confirmed:
    """Run a study file in a mode; continue it when it is there already.

    Args:
        paths: The runs folder.
        spec: The study.
        mode: Any but ``full``, which runs a plan, and ``eval``, which runs no study.
        folder: Folder of the file, which relative paths in it start from.
        full_env_steps: Of the training that ends a ``stage``, counted from its beginning; `FULL_FACTOR` trials' worth
            if left out.
        supervise: Given each study's name and its start, returns the outcome; the start takes the options of
            `Supervisor`.
        confirm: Given the name of the study that was searched, confirms its best trials if it asks for that.
        **options: Of `Supervisor`.

    Returns:
        How the last of its parts ended.

    Raises:
        SpecError: The file does not fit the mode.
        StudyError: A stage's search ended without a complete trial.
        CampaignError: As `run_study`, `confirm_study` and `extend_study`.
    """
    watched = supervise or (lambda _, start: start())

    def run(name: str, start: Callable[..., Outcome]) -> Outcome:
        return watched(name, lambda **more: start(**{**options, **more}))

    if mode in ("full", "eval"):
        what = "runs a plan" if mode == "full" else "runs no study"
        raise SpecError(f"--mode {mode}: {what}; '{spec.study}' is a study.")
    search = derive(spec, mode)
    longer = _full_env_steps(search, mode, full_env_steps)
    for phase in _phases(search, mode):
        derived_name(search.study, phase)  # a name that gets too long is refused before anything runs
    outcome = run(search.study, lambda **more: run_study(paths, search, folder=folder, **more))
    if not is_over(paths, outcome.snapshot):
        return outcome
    confirmed = confirm(search.study) if confirm is not None else confirm_wanted(paths, search.study, **options)
    if mode != "stage" or (confirmed is not None and not confirmation_is_over(paths, search.study)):
        return confirmed or outcome
    best = best_trials(outcome.snapshot, 1) if confirmed is None else confirmed_order(confirmed)[:1]
    return _train(paths, search.study, best, longer, run)


def _phases(search: StudySpec, mode: Mode) -> Iterator[str]:
    if search.confirm is not None:
        yield "confirm"
    if mode == "stage":
        yield "extend"


def _train(paths: CampaignPaths, name: str, trials: Sequence[int], env_steps: int, run: Supervise) -> Outcome:
    return run(
        derived_name(name, "extend"),
        lambda **more: extend_study(paths, name, trials=trials, env_steps=env_steps, **more),
    )


def _full_env_steps(spec: StudySpec, mode: Mode, env_steps: int | None) -> int:
    if mode != "stage" and env_steps is not None:
        raise SpecError(f"--full-env-steps: is for --mode stage, which trains the best trial on; not for {mode}.")
    if env_steps is not None and env_steps <= spec.env_steps_per_trial:
        raise SpecError(
            f"--full-env-steps {env_steps:,}: is not more than the trials have already ({spec.env_steps_per_trial:,}); "
            "it counts from the beginning of the training."
        )
    return env_steps or FULL_FACTOR * spec.env_steps_per_trial


def _only(spec: StudySpec, mode: Mode, group: groups.Group) -> StudySpec:
    if not spec.search_space.get(group):
        searched = ", ".join(name for name, entries in spec.search_space.items() if entries)
        raise SpecError(
            f"--mode {mode}: the study searches nothing under search_space.{group} (only {searched}); add a parameter "
            "there, or take another mode."
        )
    fixed: dict[groups.Group, dict[str, Any]] = {one: dict(entries) for one, entries in spec.fixed.items()}
    for name, value in prior_point(spec).items():
        other, short = groups.split_name(name)
        if other != group:
            fixed.setdefault(other, {})[short] = list(value) if isinstance(value, tuple) else value
    return spec.model_copy(update={"search_space": {group: spec.search_space[group]}, "fixed": fixed})
