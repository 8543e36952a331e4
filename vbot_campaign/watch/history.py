"""What all studies of a runs folder have tried: ``vbot-campaign history``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vbot_campaign.errors import StudyError
from vbot_campaign.exporters import rows
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.ranges import same
from vbot_campaign.spec.resolve import prior_point, unsearched_values
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study import load_snapshot, study_names
from vbot_campaign.study.snapshot import TrialView
from vbot_campaign.watch import units
from vbot_campaign.watch.distance import distance, mean_distance
from vbot_campaign.watch.page import Block, Commands, Heading, Paragraph, Points, Table, Title
from vbot_campaign.watch.program import program

EXPLAINED = 3
"""Nearest trials whose differences are listed."""
_MAX_DIFFERENCES = 12
_CELL = 22
"""Characters of a value in a table."""


@dataclass(frozen=True)
class PastTrial:
    """A trial of any study."""

    spec: StudySpec
    trial: TrialView

    @property
    def name(self) -> str:
        """How it is written: ``section001/7``."""
        return f"{self.spec.study}/{self.trial.number}"

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that was sampled or fixed, by dotted name, with the defaults of today for what was not."""
        return {**unsearched_values(self.spec), **self.trial.parameters}


@dataclass(frozen=True)
class Past:
    """All trials of all studies."""

    root: str
    trials: tuple[PastTrial, ...] = ()
    studies: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    """Studies that could not be read, and why."""


def load_past(paths: CampaignPaths) -> Past:
    """Return the trials of all studies in a runs folder; running ones among them.

    Raises:
        StorageError: The database cannot be read.
    """
    trials: list[PastTrial] = []
    unreadable: dict[str, str] = {}
    names = study_names(paths)
    for name in names:
        try:
            snapshot = load_snapshot(paths, name)
        except StudyError as error:
            unreadable[name] = str(error)
            continue
        trials += [PastTrial(snapshot.spec, trial) for trial in snapshot.trials]
    return Past(paths.root.as_posix(), tuple(trials), len(names), unreadable)


def all_trials_page(past: Past, limit: int) -> list[Block]:
    """Return the trials of all studies, best first.

    Args:
        past: What `load_past` found.
        limit: Trials to list.
    """
    ordered = sorted(past.trials, key=lambda one: (-_rank(one.trial), one.name))
    count = f"{len(past.trials)} trials of {past.studies} stud{'y' if past.studies == 1 else 'ies'} in {past.root}"
    blocks: list[Block] = [Title(f"{count}, best first")]
    if not ordered:
        return [*blocks, Paragraph(f"Nothing has been tried yet. Start: {program()} run FILE"), *_complaints(past)]
    lines = tuple((one.name, *_cells(one.trial)) for one in ordered[:limit])
    return [
        *blocks,
        Table(("trial", *_TITLES), lines, left=2, wraps=0),
        *_rest(len(ordered), limit),
        *_complaints(past),
    ]


_TITLES = ("state", "score", "succ", "surv", "prog", "steps", "took", "when")


def _cells(trial: TrialView) -> tuple[str, ...]:
    metrics, hours = rows.metrics(trial), rows.hours(trial)
    return (
        trial.state.value,
        units.score(rows.score(trial)),
        *(units.percent(metrics.get(name)) for name in ("success_rate", "survival_rate", "goal_progress")),
        units.count(trial.env_steps),
        units.duration(hours * 3600 if hours is not None else None),
        trial.started.strftime("%Y-%m-%d") if trial.started else units.NOTHING,
    )


def _rank(trial: TrialView) -> float:
    score = rows.score(trial)
    return -1.0 if score is None else score


def _rest(found: int, limit: int) -> list[Block]:
    return [Paragraph(f"{found - limit} more: --limit {found}")] if found > limit else []


def _complaints(past: Past) -> list[Block]:
    return [Points(tuple(past.unreadable.values()))] if past.unreadable else []


def similar_page(past: Past, spec: StudySpec, limit: int) -> list[Block]:
    """Return the past trials nearest to the first trial of a study, nearest first, and what they achieved.

    The distance is the root mean square, over the parameters that the study searches, of the difference as a share of
    its range. Only trials of the same environment are looked at.

    Args:
        past: What `load_past` found.
        spec: The study that somebody thinks of starting.
        limit: Trials to list.
    """
    point = prior_point(spec)
    ranked = sorted(_near(past, spec, point), key=lambda pair: (pair[0], -_rank(pair[1].trial), pair[1].name))
    title = f"{len(ranked)} trials of {spec.environment}, nearest to the first trial of {spec.study}"
    blocks: list[Block] = [Title(title)]
    if not ranked:
        return [*blocks, Paragraph("Nothing like it has been tried in this runs folder."), *_complaints(past)]
    lines = tuple((one.name, *_cells(one.trial)[:-1], f"{away:.3f}") for away, one in ranked[:limit])
    blocks.append(Table(("trial", *_TITLES[:-1], "distance"), lines, left=2, wraps=0))
    blocks += _rest(len(ranked), limit)
    for _, one in ranked[:EXPLAINED]:
        blocks += _explained(spec, point, one)
    nearest = ranked[0][1]
    command = f"{program()} show {nearest.spec.study} {nearest.trial.number}"
    return [*blocks, Heading("Look at the nearest"), Commands((command,)), *_complaints(past)]


def _near(past: Past, spec: StudySpec, point: dict[str, Any]) -> Iterator[tuple[float, PastTrial]]:
    for one in past.trials:
        if one.spec.environment == spec.environment:
            settings = one.settings
            there = {name: settings[name] for name in spec.parameters if name in settings}
            yield mean_distance(spec.parameters, point, _active(one, spec, point, there)), one


def _active(one: PastTrial, spec: StudySpec, point: dict[str, Any], there: dict[str, Any]) -> dict[str, Any]:
    # A conditional parameter that is off on both sides is no difference, whatever its default is.
    off = [n for n in spec.parameters if n not in point and n not in one.trial.parameters]
    return {name: value for name, value in there.items() if name not in off}


def _explained(spec: StudySpec, point: dict[str, Any], one: PastTrial) -> list[Block]:
    """Return what sets a past trial apart: searched values by distance, and what the study fixes otherwise."""
    settings = one.settings
    searched = [
        (distance(parameter, point[name], settings[name]), name)
        for name, parameter in spec.parameters.items()
        if name in point and name in settings
    ]
    lines = [
        (name, _text(settings[name]), _text(point[name]), f"{away:.0%}")
        for away, name in sorted(searched, reverse=True)
        if away
    ]
    lines += [(name, _text(before), _text(now), "fixed") for name, before, now in _other(spec, one, settings)]
    heading = Heading(f"How {one.name} differs")
    if not lines:
        return [heading, Paragraph("in nothing")]
    more = [Paragraph(f"and {len(lines) - _MAX_DIFFERENCES} more")] if len(lines) > _MAX_DIFFERENCES else []
    table = Table(("name", "there", "here", "of the range"), tuple(lines[:_MAX_DIFFERENCES]))
    return [heading, table, *more]


def _other(spec: StudySpec, one: PastTrial, settings: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    here: dict[str, Any] = {n: v for n, v in unsearched_values(spec).items() if n not in spec.parameters}
    before = settings | _outside(one.spec)
    now = here | _outside(spec)
    yield from ((n, before[n], value) for n, value in now.items() if n in before and not same(before[n], value))


def _outside(spec: StudySpec) -> dict[str, Any]:
    """Return what else makes the results of two studies differ."""
    return {
        "physics": spec.physics,
        "env_steps_per_trial": spec.env_steps_per_trial,
        "num_envs": spec.workers.num_envs,
        "warm_start": spec.warm_start.words() if spec.warm_start else "none",
        "score": ", ".join(f"{name} {term.weight:g}" for name, term in spec.objective.terms().items()),
    }


def _text(value: Any) -> str:
    text = "x".join(map(str, value)) if isinstance(value, list | tuple) else units.value(value)
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"
