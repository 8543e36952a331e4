"""A study in short, for whoever goes on with it: ``vbot-campaign summary`` and ``best``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vbot_campaign.campaign.confirm import Confirmed
from vbot_campaign.errors import StudyError
from vbot_campaign.exporters import plain_yaml, rows
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.ranges import range_text
from vbot_campaign.spec.resolve import prior_point
from vbot_campaign.spec.trainer import trainer_words
from vbot_campaign.study.annotations import Annotations
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView
from vbot_campaign.watch import units
from vbot_campaign.watch.confirm_table import confirmed_line
from vbot_campaign.watch.distance import distance
from vbot_campaign.watch.facts import by_state
from vbot_campaign.watch.page import Block, Commands, Heading, Paragraph, Points, Table, Title
from vbot_campaign.watch.program import program
from vbot_campaign.watch.summary import parts_text
from vbot_campaign.watch.trial_story import policy_commands

TOP = 5
"""Trials in the table of the best."""
NAMED = 3
"""Parameters named in a row of it: those farthest from the first trial's."""
LAST_ALERTS = 10


def best_checkpoint(paths: CampaignPaths, snapshot: StudySnapshot) -> Path:
    """Return the file of the best trial's policy.

    Raises:
        StudyError: No trial is complete yet, or its policy is not on disk.
    """
    name = snapshot.spec.study
    if snapshot.best is None:
        raise StudyError(
            f"study '{name}': no trial is complete yet ({by_state(snapshot.trials)}), so there is no best policy. "
            f"See: {program()} status {name}"
        )
    checkpoint = rows.best_checkpoint(snapshot.best)
    if checkpoint is None:
        raise StudyError(f"trial {snapshot.best.number} of study '{name}': its policy is not on disk any more.")
    return paths.study(name).root / checkpoint.path


def best_page(paths: CampaignPaths, snapshot: StudySnapshot) -> list[Block]:
    """Return the best trial, its parameters, its policy and how to use it.

    Raises:
        StudyError: There is none.
    """
    checkpoint, best, name = best_checkpoint(paths, snapshot), snapshot.best, snapshot.spec.study
    assert best is not None  # noqa: S101 - there is a policy
    priors = prior_point(snapshot.spec)
    lines = tuple(
        (parameter, units.value(value), units.value(priors.get(parameter, units.NOTHING)))
        for parameter, value in best.parameters.items()
    )
    return [
        Title(f"{name} · best is trial {best.number}, score {units.score(best.score)}, of {by_state(snapshot.trials)}"),
        Paragraph(parts_text(best.parts or {})),
        *_confirmed(snapshot),
        Heading("Parameters"),
        Table(("name", "value", "prior"), lines),
        Heading("Policy"),
        Commands((checkpoint.as_posix(),)),
        Heading("Use it"),
        Commands(
            (
                *policy_commands(checkpoint),
                f"{program()} checkpoints export {checkpoint.as_posix()}",
                f"{program()} show {name} {best.number}",
            )
        ),
        Paragraph(f"Another study starts from it with:  warm_start: {{study: {name}}}"),
    ]


def summary_page(paths: CampaignPaths, snapshot: StudySnapshot, annotations: Annotations) -> list[Block]:
    """Return what a person who takes a study over must know, in about a page.

    Args:
        paths: The runs folder.
        snapshot: The study; it may be running.
        annotations: Notes and tags of its trials.
    """
    name = snapshot.spec.study
    reason = f" ({snapshot.reason})" if snapshot.reason else ""
    blocks: list[Block] = [Title(f"{name} · {snapshot.state}{reason}"), *_result(paths, snapshot)]
    for part in (_searched(snapshot), _top(snapshot, annotations), _failures(snapshot), _notes(annotations)):
        blocks += part
    return [*blocks, *_alerts(snapshot), *_cost(snapshot), *_next(snapshot)]


def _result(paths: CampaignPaths, snapshot: StudySnapshot) -> Iterator[Block]:
    best = snapshot.best
    yield Paragraph(f"{by_state(snapshot.trials)}; created {plain_yaml.utc(snapshot.created)}")
    if best is None:
        yield Paragraph("No trial is complete yet.")
        return
    yield Paragraph(f"Best: trial {best.number}, score {units.score(best.score)}: {parts_text(best.parts or {})}")
    if (checkpoint := rows.best_checkpoint(best)) is not None:
        yield Commands(((paths.study(snapshot.spec.study).root / checkpoint.path).as_posix(),))
    yield from _confirmed(snapshot)


def _confirmed(snapshot: StudySnapshot) -> Iterator[Block]:
    if snapshot.confirmed is not None:
        yield Paragraph(confirmed_line(Confirmed.from_record(snapshot.confirmed)))


def _searched(snapshot: StudySnapshot) -> Iterator[Block]:
    spec, best = snapshot.spec, snapshot.best
    yield Heading("What was searched")
    objective = " + ".join(f"{term.weight:g} {name}" for name, term in spec.objective.terms().items())
    start = f", every trial from {snapshot.warm_start}" if snapshot.warm_start else ""
    yield Paragraph(
        f"{spec.environment} on {spec.physics}, trainer {trainer_words(spec.trainer)}, "
        f"{units.count(spec.env_steps_per_trial)} env steps a trial{start}; score = {objective}; "
        f"sampler {spec.sampler.name}, pruner {spec.pruner.name}"
    )
    priors = prior_point(spec)
    lines = tuple(
        (
            name,
            _value(priors.get(name)),
            _value(best.parameters.get(name)) if best else units.NOTHING,
            range_text(parameter) + (f"; when {parameter.when}" if parameter.when else ""),
        )
        for name, parameter in spec.parameters.items()
    )
    yield Table(("parameter", "prior", "best", "range"), lines, left=4, wraps=3)


def _value(value: Any) -> str:
    return units.NOTHING if value is None else units.value(value)


def _top(snapshot: StudySnapshot, annotations: Annotations) -> Iterator[Block]:
    scored = [t for t in snapshot.trials if t.state is TrialState.COMPLETE and t.score is not None]
    top = sorted(scored, key=lambda trial: (-(trial.score or 0.0), trial.number))[:TOP]
    if not top:
        return
    yield Heading(f"Top {len(top)} of {len(scored)} complete")
    lines = tuple(
        (
            f"{trial.number}",
            *(units.percent((trial.parts or {}).get(n)) for n in ("success_rate", "survival_rate", "goal_progress")),
            units.score(trial.score),
            ", ".join([*annotations.tags.get(trial.number, ()), *_unlike(snapshot, trial)]),
        )
        for trial in top
    )
    yield Table(("#", "succ", "surv", "prog", "score", "tags; farthest from the first trial"), lines, left=1, wraps=5)


def _unlike(snapshot: StudySnapshot, trial: TrialView) -> list[str]:
    priors = prior_point(snapshot.spec)
    ranges = snapshot.spec.parameters
    away = {n: distance(ranges[n], v, priors[n]) if n in priors else 1.0 for n, v in trial.parameters.items()}
    changed = sorted((name for name in away if away[name]), key=lambda name: -away[name])
    words = [f"{name.partition('.')[2]} {units.value(trial.parameters[name])}" for name in changed[:NAMED]]
    return [*words, f"{len(changed) - NAMED} more"] if len(changed) > NAMED else words


def _failures(snapshot: StudySnapshot) -> Iterator[Block]:
    causes: dict[str, list[str]] = {}
    for trial in snapshot.trials:
        if trial.state is TrialState.FAILED:
            causes.setdefault(trial.reason, []).append(str(trial.number))
    ended = Counter(
        attempt.reason or "unknown" for trial in snapshot.trials for attempt in trial.attempts[:-1] if attempt.ended
    )
    if not causes and not ended:
        return
    yield Heading("Failures")
    points = [f"trial {', '.join(numbers)}: {cause}" for cause, numbers in causes.items()]
    points += [
        f"{count} attempt{'s' * (count != 1)} followed by another: {cause}" for cause, count in ended.most_common()
    ]
    yield Points(tuple(points))


def _notes(annotations: Annotations) -> Iterator[Block]:
    numbers = sorted({*annotations.notes, *annotations.tags})
    if numbers:
        yield Heading("Notes and tags")
        yield Points(tuple(f"trial {number}: {_annotated(annotations, number)}" for number in numbers))


def _annotated(annotations: Annotations, number: int) -> str:
    tags = "".join(f"[{tag}] " for tag in annotations.tags.get(number, ()))
    return (tags + " ".join(annotations.notes.get(number, "").split())).strip()


def _alerts(snapshot: StudySnapshot) -> Iterator[Block]:
    warnings = list(snapshot.audit.warnings) if snapshot.audit else []
    points = [f"audit of the reward: {warning}" for warning in warnings]
    for alert in snapshot.alerts[-LAST_ALERTS:]:
        about = f"trial {alert.trial}: " if alert.trial is not None else ""
        points.append(f"{alert.level}, {alert.time[:16].replace('T', ' ')}: {about}{alert.message}")
    if points:
        yield Heading(f"Alerts (the last {LAST_ALERTS})" if len(snapshot.alerts) > LAST_ALERTS else "Alerts")
        yield Points(tuple(points))


def _cost(snapshot: StudySnapshot) -> Iterator[Block]:
    trained = sum(hours for trial in snapshot.trials if (hours := rows.hours(trial)) is not None)
    spared = [t for t in snapshot.trials if t.state is TrialState.PRUNED]
    budget = snapshot.spec.env_steps_per_trial
    saved = sum(max(budget - trial.env_steps, 0) for trial in spared)
    text = (
        f"{units.duration(snapshot.hours_used * 3600)} with a supervisor, {units.duration(trained * 3600)} of training "
        f"on all slots together, {units.count(snapshot.env_steps_used)} env steps"
    )
    if spared:
        share = saved / (saved + snapshot.env_steps_used)
        text += (
            f"; pruning saved {units.count(saved)} env steps ({share:.0%} of what {len(snapshot.trials)} trials take)"
        )
    yield Heading("Cost")
    yield Paragraph(text)


def _next(snapshot: StudySnapshot) -> Iterator[Block]:
    name, best = snapshot.spec.study, snapshot.best
    commands = [] if snapshot.state in ("finished", "running") else [f"resume {name}"]
    commands += [f"show {name} {best.number}", f"best {name}"] if best else [f"status {name}"]
    yield Heading("Go on")
    yield Commands(tuple(f"{program()} {command}" for command in commands))
