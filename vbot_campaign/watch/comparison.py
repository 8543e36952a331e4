"""Trials side by side: ``vbot-campaign compare``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vbot_campaign.errors import SpecError
from vbot_campaign.exporters import provenance, rows, trial_config
from vbot_campaign.exporters.curves import Curves, read_curves
from vbot_campaign.paths import CampaignPaths, StudyPaths, TrialPaths
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.problems import show
from vbot_campaign.spec.ranges import same
from vbot_campaign.study.snapshot import StudySnapshot, TrialView
from vbot_campaign.watch import units
from vbot_campaign.watch.page import WIDTH, Block, Heading, Paragraph, Table, Title
from vbot_campaign.watch.summary import PART_WORDS, part_text

MOST = 8
"""Trials at most: as many colours can be told apart."""
STRETCHES = 20
"""The last one of so many even stretches before the common env step is what trials are compared by."""


@dataclass(frozen=True)
class Compared:
    """One trial of a comparison."""

    trial: TrialView
    settings: dict[str, Any]
    """Everything it ran with, by dotted name."""
    curves: Curves
    """Over its whole training."""
    common: Curves
    """Up to the env step that all trials have reached."""

    def at_common(self, name: str) -> float | None:
        """Return a curve's mean over the last stretch before the common env step."""
        values = self.common.values.get(name)
        return values[-1] if values else None

    def report_at(self, env_steps: int) -> float | None:
        """Return the last reported score up to an env step."""
        reached = [step for step in self.trial.reports if step <= env_steps]
        return self.trial.reports[max(reached)] if reached else None

    @property
    def peak(self) -> tuple[int, float] | None:
        """Env step and value of the highest reported score."""
        reports = self.trial.reports
        return max(reports.items(), key=lambda item: item[1]) if reports else None


@dataclass(frozen=True)
class Comparison:
    """Trials of one study, side by side."""

    snapshot: StudySnapshot
    trials: tuple[Compared, ...]
    env_steps: int
    """The largest count that all of them have reached; 0 where one has not begun."""


def compare_trials(paths: CampaignPaths, snapshot: StudySnapshot, numbers: Sequence[int]) -> Comparison:
    """Read what is compared; trials may be running.

    Raises:
        StudyError: The study has no such trial.
        SpecError: Fewer than two trials, or more than `MOST`.
    """
    wanted = list(dict.fromkeys(numbers))
    if len(wanted) < 2:
        raise SpecError(
            f"compare {snapshot.spec.study}: name two trials or more, such as: {wanted[0]} {wanted[0] + 1}."
        )
    if len(wanted) > MOST:
        raise SpecError(
            f"compare {snapshot.spec.study}: {len(wanted)} trials are too many to read; name {MOST} at most."
        )
    study = paths.study(snapshot.spec.study)
    trials = [snapshot.trial(number) for number in wanted]
    whole = [_curves(study, trial) for trial in trials]
    common = min(curves.env_steps[-1] if curves.env_steps else 0 for curves in whole)
    compared = [
        Compared(
            trial, _settings(study, snapshot, trial), curves, _curves(study, trial, points=STRETCHES, up_to=common)
        )
        for trial, curves in zip(trials, whole, strict=True)
    ]
    return Comparison(snapshot, tuple(compared), common)


def _curves(study: StudyPaths, trial: TrialView, **options: int) -> Curves:
    return read_curves(TrialPaths(study.root / trial.folder), **options) if trial.folder else Curves()


def _settings(study: StudyPaths, snapshot: StudySnapshot, trial: TrialView) -> dict[str, Any]:
    given = trial_config.resolve(study, snapshot.spec, trial, snapshot.warm_start)
    meta = provenance.read_meta(TrialPaths(study.root / trial.folder)) if trial.folder else None
    ran = provenance.ran_with(given, meta)
    groups: dict[str, Mapping[str, Any]] = {"ppo": ran.ppo, "reward": ran.reward, "env": ran.env}
    return {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}


def comparison_page(comparison: Comparison) -> list[Block]:
    """Return the comparison: what differs, at equal env steps, at the end, and what the reward consisted of."""
    name = comparison.snapshot.spec.study
    numbers = [str(compared.trial.number) for compared in comparison.trials]
    return [
        Title(f"{name} · trials {', '.join(numbers[:-1])} and {numbers[-1]}"),
        *_section("", _states(comparison), comparison),
        *_section(
            "Parameters that differ", _differences(comparison), comparison, "none: they ran with the same values"
        ),
        *_equal_steps(comparison),
        *_section("Score over the whole training", _peaks(comparison), comparison),
        *_section("Evaluation at the end", _evaluations(comparison), comparison, "none has ended yet with one"),
    ]


def _section(
    title: str, lines: Iterator[tuple[str, ...]], comparison: Comparison, nothing: str = "nothing yet"
) -> Iterator[Block]:
    """Yield a heading and the rows under it, in as many tables as it takes to stay on the screen."""
    if title:
        yield Heading(title)
    found = list(lines)
    if not found:
        yield Paragraph(nothing)
        return
    titles = [f"trial {compared.trial.number}" for compared in comparison.trials]
    label = max(len(row[0]) for row in found)
    column = max(len(cell) for row in (("", *titles), *found) for cell in row[1:])
    fitting = max((WIDTH - 2 - label) // (column + 2), 1)
    for start in range(0, len(titles), fitting):
        some = slice(start, start + fitting)
        yield Table(("", *titles[some]), tuple((row[0], *row[1:][some]) for row in found))


def _row(label: str, comparison: Comparison, cell: Callable[[Compared], str]) -> tuple[str, ...]:
    return (label, *(cell(compared) for compared in comparison.trials))


def _states(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    yield _row("state", comparison, lambda c: c.trial.state.value)
    yield _row("score", comparison, lambda c: units.score(rows.score(c.trial)))
    yield _row("env steps", comparison, lambda c: units.count(_reached(c)))
    yield _row(
        "trained for", comparison, lambda c: units.duration(c.curves.hours[-1] * 3600 if c.curves.hours else None)
    )


def _reached(compared: Compared) -> int:
    return max(compared.trial.env_steps, *compared.curves.env_steps[-1:], 0)


def _differences(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    names = dict.fromkeys(name for compared in comparison.trials for name in compared.settings)
    for name in names:
        values = [compared.settings.get(name) for compared in comparison.trials]
        if not all(same(value, values[0]) for value in values[1:]):
            yield (name, *(_setting(value) for value in values))


def _setting(value: Any) -> str:
    if value is None:
        return units.NOTHING
    if isinstance(value, list | tuple):
        return "x".join(str(item) for item in value)  # layer sizes, short enough for a column
    return units.value(value) if isinstance(value, str | float) else show(value)


def _equal_steps(comparison: Comparison) -> Iterator[Block]:
    title = f"At {comparison.env_steps:,} env steps, which all have reached"
    if not comparison.env_steps:
        waiting = [str(c.trial.number) for c in comparison.trials if not c.curves.env_steps]
        yield Heading("At equal env steps")
        yield Paragraph(f"nothing yet: trial {', '.join(waiting)} has no metrics")
        return
    yield from _section(title, _measures(comparison), comparison)
    yield from _section("Reward per step there", _terms(comparison), comparison)


def _measures(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    yield _row("reported score", comparison, lambda c: units.score(c.report_at(comparison.env_steps)))
    for name, words in PART_WORDS.items():
        yield (words, *(_part(name, compared.at_common(f"outcome/{name}")) for compared in comparison.trials))
    yield _row("hours trained", comparison, lambda c: f"{c.common.hours[-1]:.3f}")
    yield _row("env steps per s", comparison, lambda c: _number(c.at_common("speed"), ".0f"))
    yield _row("kl", comparison, lambda c: _number(c.at_common("kl"), ".4f"))
    yield _row("action std", comparison, lambda c: _number(c.at_common("std"), ".3f"))


def _terms(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    yield _row("all terms", comparison, lambda c: _number(c.at_common("reward_mean"), "+.4f"))
    names = dict.fromkeys(n for c in comparison.trials for n in c.common.values if n.startswith("term/"))
    declared = get_environment(comparison.snapshot.spec.environment).rewards

    def category(name: str) -> str:
        term = declared.get(name.removeprefix("term/"))
        return term.category if term else "other"

    for group in dict.fromkeys(map(category, names)):
        members = [name for name in names if category(name) == group]
        yield (group, *(_number(_sum(compared, members), "+.4f") for compared in comparison.trials))
        for name in members:
            values = [compared.at_common(name) for compared in comparison.trials]
            if any(values):
                yield (f"  {name.removeprefix('term/')}", *(_number(value, "+.4f") for value in values))


def _sum(compared: Compared, names: Sequence[str]) -> float | None:
    known = [value for name in names if (value := compared.at_common(name)) is not None]
    return sum(known) if known else None


def _peaks(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    yield _row("peak", comparison, lambda c: units.score(c.peak[1] if c.peak else None))
    yield _row("  at env steps", comparison, lambda c: units.count(c.peak[0]) if c.peak else units.NOTHING)
    yield _row("last", comparison, lambda c: units.score(c.report_at(max(c.trial.reports, default=0))))


def _evaluations(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    if any(compared.trial.evaluation for compared in comparison.trials):
        for name, words in PART_WORDS.items():
            yield (words, *(_evaluated(compared, name) for compared in comparison.trials))


def _evaluated(compared: Compared, name: str) -> str:
    return _part(name, (compared.trial.parts or {}).get(name) if compared.trial.evaluation else None)


def _part(name: str, value: float | None) -> str:
    return units.NOTHING if value is None else part_text(name, value)


def _number(value: float | None, form: str) -> str:
    return units.NOTHING if value is None else format(value, form)
