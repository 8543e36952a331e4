"""Everything there is to say about one trial: ``vbot-campaign show``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vbot_campaign.exporters import experiment_log, plain_yaml, provenance, rows, trial_config
from vbot_campaign.exporters.trial_config import TrialConfig
from vbot_campaign.paths import CampaignPaths, StudyPaths, TrialPaths
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.resolve import prior_point
from vbot_campaign.study.annotations import Annotations
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView
from vbot_campaign.watch import units
from vbot_campaign.watch.distance import distance, position
from vbot_campaign.watch.page import Block, Commands, Heading, Paragraph, Points, Table, Title
from vbot_campaign.watch.program import program
from vbot_campaign.watch.sparkline import sparkline
from vbot_campaign.watch.summary import PART_WORDS, part_text


@dataclass(frozen=True)
class _Told:
    """A trial with what its folder says."""

    study: StudyPaths
    snapshot: StudySnapshot
    trial: TrialView
    annotations: Annotations
    folder: TrialPaths | None
    given: TrialConfig
    meta: dict[str, Any] | None

    @property
    def ran(self) -> TrialConfig:
        """The configuration that the worker says it ran with."""
        return provenance.ran_with(self.given, self.meta)


def trial_story(
    paths: CampaignPaths, snapshot: StudySnapshot, number: int, annotations: Annotations | None = None
) -> list[Block]:
    """Return the story of a trial, finished or not.

    Args:
        paths: The runs folder.
        snapshot: The study; it may be running.
        number: Number of the trial.
        annotations: Notes and tags of the study.

    Raises:
        StudyError: The study has no such trial.
    """
    study, trial = paths.study(snapshot.spec.study), snapshot.trial(number)
    folder = TrialPaths(study.root / trial.folder) if trial.folder else None
    told = _Told(
        study,
        snapshot,
        trial,
        annotations or Annotations(),
        folder,
        trial_config.resolve(study, snapshot.spec, trial, snapshot.warm_start),
        provenance.read_meta(folder) if folder else None,
    )
    parts = (_head, _score, _curve, _parameters, _attempts, _checkpoints, _reward_terms, _warnings, _files, _commands)
    return [block for part in parts for block in part(told)]


def _head(told: _Told) -> Iterator[Block]:
    trial, snapshot = told.trial, told.snapshot
    yield Title(f"{snapshot.spec.study} · trial {trial.number} · {trial.state.value}: {trial.reason}")
    score, hours = rows.score(trial), rows.hours(trial)
    facts = [f"score {units.score(score)}{_rank(snapshot, trial)}"] if score is not None else ["no score"]
    facts.append(f"{units.count(trial.env_steps)} of {units.count(snapshot.spec.env_steps_per_trial)} env steps")
    if hours is not None:
        facts.append(f"{units.duration(hours * 3600)} of training")
    facts.append(f"{len(trial.attempts)} attempt{'s' * (len(trial.attempts) != 1)}")
    if trial.started is not None:
        facts.append(f"started {plain_yaml.utc(trial.started)}")
    yield Paragraph(", ".join(facts))
    yield Paragraph(_where(told.meta)) if told.meta else Paragraph("no worker has written yet what it runs with")
    if tags := told.annotations.tags.get(trial.number):
        yield Paragraph(f"tags: {', '.join(tags)}")
    if note := told.annotations.notes.get(trial.number):
        yield Heading("Note")
        yield Paragraph(note)


def _rank(snapshot: StudySnapshot, trial: TrialView) -> str:
    if trial.state is not TrialState.COMPLETE:
        return ""
    scores = [rows.score(t) for t in snapshot.trials if t.state is TrialState.COMPLETE and t.score is not None]
    better = sum(score > (trial.score or 0.0) for score in scores if score is not None)
    return f" (rank {better + 1} of {len(scores)} complete)"


def _where(meta: Mapping[str, Any]) -> str:
    versions, git = meta.get("versions") or {}, meta.get("git") or {}
    words = [f"on {meta.get('device')} of {meta.get('host')}", f"torch {versions.get('torch', '?')}"]
    if git:
        words.append(f"commit {str(git.get('commit'))[:12]}{' with changes' if git.get('dirty') else ''}")
    return ", ".join(words)


def _score(told: _Told) -> Iterator[Block]:
    trial = told.trial
    parts = {} if trial.state is TrialState.FAILED else trial.parts or {}
    if not parts:
        return
    by = "the evaluation" if trial.evaluation else "the training episodes before the last report"
    yield Heading(f"Score, by {by}")
    terms = told.snapshot.spec.objective.terms()
    lines = [
        (
            PART_WORDS.get(name, name),
            part_text(name, value),
            f"{terms[name].weight:g} x {terms[name].map(value):.3f} = {terms[name].weight * terms[name].map(value):.3f}"
            if name in terms
            else "",
        )
        for name, value in parts.items()
    ]
    yield Table(("part", "value", "weight x mapped = share"), tuple(lines))
    if outcomes := rows.outcomes(trial):
        yield Paragraph(
            "episodes: " + ", ".join(f"{n.replace('_', ' ')} {units.percent(v)}" for n, v in outcomes.items())
        )


def _curve(told: _Told) -> Iterator[Block]:
    reports = told.trial.reports
    if not reports:
        return
    yield Heading("Score over training, without evaluation")
    peak = max(reports, key=lambda step: reports[step])
    last = max(reports)
    yield Commands((sparkline(list(reports.values()), width=60, low=0.0),))
    yield Paragraph(
        f"peak {units.score(reports[peak])} at {units.count(peak)}, last {units.score(reports[last])} at "
        f"{units.count(last)} env steps"
    )
    if (noted := told.trial.would_prune) is not None:
        yield Paragraph(f"would have been stopped: {noted.reason} (pruner.dry_run)")


def _parameters(told: _Told) -> Iterator[Block]:
    spec = told.snapshot.spec
    priors = prior_point(spec)
    yield Heading("Parameters, and how far from the first trial's as a share of the range")
    lines = [
        (
            name,
            units.value(value),
            units.value(priors[name]) if name in priors else units.NOTHING,
            _away(told, name, priors),
        )
        for name, value in told.trial.parameters.items()
    ]
    yield Table(("name", "value", "prior", "away"), tuple(lines), wraps=None)


def _away(told: _Told, name: str, priors: Mapping[str, Any]) -> str:
    if name not in priors:
        return units.NOTHING
    parameter, value = told.snapshot.spec.parameters[name], told.trial.parameters[name]
    here, there = position(parameter, value), position(parameter, priors[name])
    if here is None or there is None:
        return "other" if distance(parameter, value, priors[name]) else "="
    return f"{here - there:+.0%}" if here != there else "="


def _attempts(told: _Told) -> Iterator[Block]:
    if not told.trial.attempts:
        return
    yield Heading("Attempts")
    lines = [
        (
            str(attempt.number),
            f"{attempt.slot} {attempt.host}",
            attempt.reason or "at work",
            plain_yaml.utc(attempt.started)[5:16].replace("T", " "),
            units.duration((attempt.ended - attempt.started).total_seconds()) if attempt.ended else units.NOTHING,
            f"{units.count(attempt.first_env_step)}-{units.count(attempt.last_env_step)}",
            units.NOTHING if attempt.exit_code is None else str(attempt.exit_code),
            units.NOTHING if attempt.memory_peak_mb is None else f"{attempt.memory_peak_mb:.0f}",
        )
        for attempt in told.trial.attempts
    ]
    titles = ("#", "where", "ended because", "started", "took", "env steps", "exit", "MB")
    yield Table(titles, tuple(lines), left=4, wraps=2)


def _checkpoints(told: _Told) -> Iterator[Block]:
    kept = sorted(told.trial.checkpoints, key=lambda checkpoint: (checkpoint.env_steps, checkpoint.kind))
    if not kept:
        return
    yield Heading("Checkpoints")
    lines = [
        (Path(c.path).name, c.kind, f"{c.env_steps:,}", units.score(c.score), f"{c.bytes / 1e6:.1f}") for c in kept
    ]
    yield Table(("file", "kind", "env steps", "score", "MB"), tuple(lines), left=2)


def _reward_terms(told: _Told) -> Iterator[Block]:
    if told.folder is None:
        return
    values = experiment_log.reward_terms(told.folder, told.trial.env_steps)
    if not any(values.values()):
        return
    yield Heading(f"Reward per step, mean of the last {experiment_log.TERM_LINES} iterations")
    yield Table(("term", "value", "weight"), tuple(term_rows(values, told.ran.reward, told.snapshot.spec.environment)))
    if zero := [name for name, value in values.items() if not value]:
        yield Paragraph(f"zero: {', '.join(zero)}")


def term_rows(
    values: Mapping[str, float], weights: Mapping[str, float], environment: str
) -> Iterator[tuple[str, str, str]]:
    """Yield a row for each category with its sum, and under it one for each term that is not zero."""
    groups = experiment_log.by_category(values, weights, get_environment(environment))
    for category in experiment_log.CATEGORIES:
        terms = {name: value for name, value in groups[category].items() if value}
        if terms:
            yield category, f"{sum(terms.values()):+.4f}", ""
        for name, value in sorted(terms.items(), key=lambda item: -abs(item[1])):
            yield f"  {name}", f"{value:+.4f}", units.value(weights[name]) if name in weights else ""


def _warnings(told: _Told) -> Iterator[Block]:
    trial = told.trial
    found = provenance.warnings(trial, told.given, told.meta, told.folder) if told.folder else []
    alerts = [alert for alert in told.snapshot.alerts if alert.trial == trial.number]
    found += [" ".join(f"{alert.level}: {alert.message} {alert.advice}".split()) for alert in alerts]
    if found:
        yield Heading("Warnings")
        yield Points(tuple(found))


def _files(told: _Told) -> Iterator[Block]:
    files = [told.study.config(told.trial.number), told.study.experiment(told.trial.number)]
    files += [told.folder.root, told.folder.log] if told.folder else []
    yield Heading("Files")
    yield Commands(tuple(path.as_posix() for path in files))


def _commands(told: _Told) -> Iterator[Block]:
    best = rows.best_checkpoint(told.trial)
    if best is None:
        return
    yield Heading("Use its policy")
    yield Commands(policy_commands(told.study.root / best.path))


def policy_commands(checkpoint: Path) -> tuple[str, ...]:
    """Return the commands that evaluate and film a policy; a run's best one goes by the name of its folder."""
    run = checkpoint.parent.parent
    shown = (run if checkpoint == TrialPaths(run).best_checkpoint else checkpoint).as_posix()
    return (f"{program()} evaluate {shown}", f"{program()} play {shown} --video out.gif")
