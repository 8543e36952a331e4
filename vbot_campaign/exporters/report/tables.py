"""The tables of a report as plain texts, which the HTML page and the Markdown file both show."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vbot_campaign.exporters import plain_yaml, rows
from vbot_campaign.exporters.report.data import Cost, ReportData
from vbot_campaign.exporters.report.evaluations import ENGINES, Played
from vbot_campaign.exporters.trial_config import TrialConfig
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.groups import defaults
from vbot_campaign.spec.training import TrainingSpec
from vbot_campaign.study.snapshot import TrialView
from vbot_campaign.watch import units
from vbot_campaign.watch.outcome_table import number

SHOWN_ALERTS = 20
_PARTS = (
    ("success_rate", "success", units.percent),
    ("survival_rate", "survival", units.percent),
    ("goal_progress", "progress", units.percent),
    ("time_to_goal", "time to goal", lambda v: number(v, ".1f")),
    ("episode_reward_mean", "reward", lambda v: number(v, ".0f")),
)


@dataclass(frozen=True)
class Row:
    """One row: its name and its cells."""

    cells: tuple[str, ...]
    marked: frozenset[int] = frozenset()
    """Columns that differ from what they are compared with."""
    group: bool = False
    """A heading inside the table."""


@dataclass(frozen=True)
class Table:
    """Column names and rows."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    words: frozenset[int] = frozenset()
    """Columns of sentences, which may be broken over lines."""


def tiles(data: ReportData) -> list[tuple[str, str]]:
    """Return the figures that are read first: value and what it is."""
    best = data.ranked[0] if data.ranked else None
    parts = (best.parts or {}) if best else {}
    cost = data.cost
    return [
        (units.score(best.score if best else None), "best score"),
        (units.percent(parts.get("success_rate")), "its success"),
        (str(len(data.snapshot.trials)), "trials"),
        (units.count(cost.env_steps), "env steps"),
        (units.duration(data.snapshot.hours_used * 3600), "of work"),
        _compute(cost),
        (f"{cost.share_saved:.0%}", "saved by pruning"),
    ]


def _compute(cost: Cost) -> tuple[str, str]:
    if cost.gpu_hours:
        return _hours(cost.gpu_hours), "GPU-hours"
    return (
        (_hours(cost.slot_hours), "slot-hours") if cost.core_hours is None else (_hours(cost.core_hours), "core-hours")
    )


def _hours(hours: float) -> str:
    return f"{hours:.2f}" if hours < 10 else f"{hours:,.0f}"


def top(data: ReportData) -> Table:
    """Return scores and parts of the best trials."""
    columns = ("trial", "score", *(name for _, name, _ in _PARTS), "env steps", "hours", "attempts")
    return Table(columns, tuple(_top_row(trial) for trial in data.ranked[:10]))


def _top_row(trial: TrialView) -> Row:
    parts = trial.parts or {}
    hours = rows.hours(trial)
    shown = (text(parts.get(name)) for name, _, text in _PARTS)
    return Row(
        (
            str(trial.number),
            units.score(trial.score),
            *shown,
            units.count(trial.env_steps),
            number(hours, ".2f"),
            str(len(trial.attempts)),
        )
    )


def configurations(data: ReportData) -> Table:
    """Return what the best trials were trained with; what differs from the best trial is marked."""
    configs = [data.configs[trial.number] for trial in data.top]
    body: list[Row] = []
    for group, of in _GROUPS:
        names = list(dict.fromkeys(name for config in configs for name in of(config)))
        if names:
            body.append(Row((group,), group=True))
        body += [_config_row(name, [of(config).get(name) for config in configs]) for name in names]
    return Table(("", *(f"trial {trial.number}" for trial in data.top)), tuple(body))


_GROUPS: tuple[tuple[str, Callable[[TrialConfig], Mapping[str, Any]]], ...] = (
    ("ppo", lambda config: config.hp_config),
    ("reward", lambda config: config.reward_config),
    ("env", lambda config: config.env_config),
)


def _config_row(name: str, values: list[Any]) -> Row:
    texts = [units.value(plain_yaml.plain(value)) if value is not None else units.NOTHING for value in values]
    return Row((name, *texts), frozenset(i + 1 for i, text in enumerate(texts) if text != texts[0]))


@dataclass(frozen=True)
class _Measure:
    """One thing that is seen of a policy in an engine."""

    name: str
    keys: tuple[str, ...]
    form: str

    def get(self, done: Mapping[str, Any]) -> float | None:
        """Return the number, or None where it was not measured."""
        value: Any = done
        for key in self.keys:
            value = (value or {}).get(key)
        return None if value is None else float(value)


_MEASURES = (
    _Measure("success", ("rates", "success"), ".1%"),
    _Measure("reached", ("rates", "reached"), ".1%"),
    _Measure("fell before", ("rates", "fell_before"), ".1%"),
    _Measure("fell after", ("rates", "fell_after"), ".1%"),
    _Measure("left disc", ("rates", "out_of_bounds"), ".1%"),
    _Measure("timed out", ("rates", "timed_out"), ".1%"),
    _Measure("to goal s", ("movement", "time_to_goal_arrived_s"), ".2f"),
    _Measure("path eff.", ("movement", "path_efficiency"), ".3f"),
    _Measure("torque", ("movement", "saturation"), ".1%"),
    _Measure("progress", ("parts", "goal_progress"), ".3f"),
    _Measure("score", ("score",), ".3f"),
)


def policies(data: ReportData) -> Table:
    """Return what the best policies did in each engine that they were played in, and what a change of engine does."""
    body = [row for trial, played in data.played.items() for row in _policy_rows(trial, played)]
    return Table(("", *(measure.name for measure in _MEASURES)), tuple(body))


def _policy_rows(trial: int, played: Played) -> Iterator[Row]:
    engines = [engine for engine in ENGINES if engine in played]
    if engines:
        yield Row((f"trial {trial}",), group=True)
    for engine in engines:
        yield Row((engine, *(_seen(measure, played[engine]) for measure in _MEASURES)))
    if len(engines) == len(ENGINES):
        first, last = (played[engine] for engine in ENGINES)
        yield Row(("difference", *(_difference(measure, first, last) for measure in _MEASURES)))


def _seen(measure: _Measure, done: Mapping[str, Any]) -> str:
    text = number(measure.get(done), measure.form)
    if measure.name != "success":
        return text
    low, high = done["intervals"]["success"]
    return f"{text} [{100 * low:.1f} {100 * high:.1f}]"


def _difference(measure: _Measure, first: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    before, after = measure.get(first), measure.get(last)
    return units.NOTHING if before is None or after is None else f"{after - before:+{measure.form}}"


def failures(data: ReportData) -> Table:
    """Return why trials failed."""
    return Table(
        ("failed", "cause", "trials"),
        tuple(Row((str(len(f.trials)), f.cause, _numbers(f.trials))) for f in data.failures),
        words=frozenset({1, 2}),
    )


def _numbers(trials: tuple[int, ...]) -> str:
    shown = ", ".join(str(number) for number in trials[:12])
    return f"{shown} and {len(trials) - 12} more" if len(trials) > 12 else shown


def alerts(data: ReportData) -> Table:
    """Return the newest alerts, the last one first."""
    newest = data.snapshot.alerts[::-1][:SHOWN_ALERTS]
    return Table(
        ("time", "level", "trial", "what to know"),
        tuple(
            Row(
                (
                    alert.time[:16].replace("T", " "),
                    alert.level,
                    units.NOTHING if alert.trial is None else str(alert.trial),
                    f"{alert.message} {alert.advice}".strip(),
                )
            )
            for alert in newest
        ),
        words=frozenset({3}),
    )


def cost(data: ReportData) -> Table:
    """Return what the study used."""
    cost, snapshot = data.cost, data.snapshot
    lines = [
        ("Supervisor at work", units.duration(snapshot.hours_used * 3600)),
        *([("GPU-hours", f"{cost.gpu_hours:.2f}")] if cost.gpu_hours else []),
        *([("CPU slot-hours", f"{cost.slot_hours:.2f}")] if cost.slot_hours else []),
        *([("Core-hours", f"{cost.core_hours:.2f}")] if cost.core_hours else []),
        ("Env steps", f"{cost.env_steps:,}"),
        ("Median speed of a trial", f"{number(cost.steps_per_s, ',.0f')} env steps/s"),
        ("Saved by pruning", f"{cost.share_saved:.0%} ({units.count(cost.pruned_steps)} env steps)"),
        ("Attempts", f"{cost.attempts}, {cost.interrupted} of them after an interruption"),
        ("Trained twice after interruptions", f"{units.count(cost.again)} env steps"),
        ("Checkpoints on disk", f"{cost.checkpoint_bytes / 1e6:,.1f} MB"),
        *([("Refused by constraints", f"{snapshot.skipped} combinations")] if snapshot.skipped else []),
    ]
    return Table(("", "used"), tuple(Row(line) for line in lines))


def commands(data: ReportData) -> list[str]:
    """Return commands that repeat the study, its best training, and what was seen of it."""
    name, best = data.snapshot.spec.study, data.ranked[0] if data.ranked else None
    found = [f"vbot-campaign resume {shlex.quote(name)}"] if data.snapshot.state != "finished" else []
    config = data.configs.get(best.number) if best else None
    if best is None or config is None:
        return [*found, f"vbot-campaign status {shlex.quote(name)}"]
    checkpoint = rows.best_checkpoint(best)
    if checkpoint is not None:
        policy = shlex.quote((data.paths.root / checkpoint.path).as_posix())
        found += [
            f"vbot-campaign evaluate {policy} --physics mujoco,motrixsim",
            f"vbot-campaign play {policy} --video best.gif",
        ]
    if config.training is not None:
        found.append(train_command(data, config, config.training))
    return found


def train_command(data: ReportData, config: TrialConfig, training: TrainingSpec) -> str:
    """Return the command that trains a configuration once more; settings that are defaults are left out."""
    usual = defaults(get_environment(training.environment))
    options = [f"--env-steps {training.env_steps}", f"--num-envs {training.num_envs}", f"--seed {training.seed}"]
    options.append(f"--physics {training.physics}")
    if data.snapshot.warm_start is not None:
        options.append(f"--checkpoint {shlex.quote(data.paths.warm_start.as_posix())}")
    groups = {"ppo": config.ppo, "reward": config.reward, "env": config.env}
    for group, values in groups.items():
        for key, value in plain_yaml.plain(values).items():
            full = f"{group}.{key}"
            if key != "num_envs" and value != plain_yaml.plain(usual.get(full)):
                options.append(f"--set {shlex.quote(f'{full}={value}')}")
    return "vbot-campaign train " + " \\\n  ".join(options)


def origin(data: ReportData) -> str:
    """Return versions, commit and device of the best trial's training; an empty text where none is known."""
    meta = data.meta
    versions = ", ".join(f"{name} {version}" for name, version in (meta.get("versions") or {}).items())
    git = meta.get("git") or {}
    commit = (
        f"commit {str(git['commit'])[:12]}{' with changes' if git.get('dirty') else ''}" if git.get("commit") else ""
    )
    device = f"on {meta['device']} of {meta.get('host', '?')}" if meta.get("device") else ""
    return "; ".join(part for part in (versions, commit, device) if part)
