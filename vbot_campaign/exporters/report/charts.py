"""The charts of a report, each from its numbers to a drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vbot_campaign.exporters import rows
from vbot_campaign.exporters.report import svg
from vbot_campaign.exporters.report.data import TOP, HistoryPoint, ReportData, position_in_range
from vbot_campaign.exporters.report.markup import Markup
from vbot_campaign.exporters.report.svg import XY, Bar, Chart, Series
from vbot_campaign.spec.ranges import find, options
from vbot_campaign.spec.study import AnyParameter, Categorical, Choice, Integer, LogUniform
from vbot_campaign.study.snapshot import TrialState, TrialView
from vbot_campaign.watch import units

MAX_SLICES = 12
MAX_AXES = 7
MAX_LINES = 250
"""Lines of the parallel coordinates."""
MAX_PALE = 60
"""Trials up to which each has its own curve of reported scores; of more, only quantiles and the best are drawn."""

OUTCOMES = (
    ("success", "stopped inside the goal", "good"),
    ("timed_out", "ran out of time", "pale"),
    ("fell_after", "fell after arriving", "c4"),
    ("fell_before", "fell on the way", "bad"),
    ("out_of_bounds", "left the disc", "c3"),
)
CURVES = (
    ("outcome/reached", "Was inside the goal", True),
    ("outcome/success_rate", "Success", True),
    ("outcome/survival_rate", "Survival", True),
    ("outcome/goal_progress", "Share of the way covered", True),
    ("reward_mean", "Reward per step", False),
    ("std", "Standard deviation of actions", False),
    ("kl", "KL divergence of an update", False),
    ("learning_rate", "Learning rate", False),
    ("loss/value", "Value loss", False),
    ("speed", "Env steps per second", False),
)
TERMS = 6


def history(data: ReportData) -> list[Markup]:
    """Return scores by trial, the best over hours and over env steps, and the trials' curves of reported scores."""
    return [_by_trial(data), _curves_of_scores(data), *_best_over(data)]


def _by_trial(data: ReportData) -> Markup:
    trials = data.snapshot.trials
    scored = {
        state: [trial for trial in trials if trial.state is state and trial.score is not None]
        for state in (TrialState.COMPLETE, TrialState.PRUNED)
    }
    failed = [trial for trial in trials if trial.state is TrialState.FAILED]
    floor = min((trial.score for group in scored.values() for trial in group if trial.score is not None), default=0.0)
    best: list[XY] = []
    for trial in scored[TrialState.COMPLETE]:
        best.append((float(trial.number), max(trial.score or 0.0, best[-1][1] if best else float("-inf"))))
    if best:
        best.append((float(trials[-1].number), best[-1][1]))
    series = [
        _dots(scored[TrialState.COMPLETE], "c0", "complete"),
        _dots(scored[TrialState.PRUNED], "pale", "pruned"),
        _dots(failed, "bad", "failed", floor),
        Series(best, "ink", "best so far", step=True),
    ]
    return Chart(
        "Score of each trial",
        [s for s in series if s.points],
        x_name="trial",
        y_name="score",
        x_range=(-0.5, max(len(trials) - 0.5, 0.5)),
    ).render()


def _dots(trials: Sequence[TrialView], style: str, name: str, score: float | None = None) -> Series:
    points = [(float(t.number), (t.score or 0.0) if score is None else score) for t in trials]
    titles = [f"trial {t.number}: {units.score(rows.score(t))}, {t.reason}" for t in trials]
    return Series(points, style, name, line=False, dots=True, titles=titles)


def _best_over(data: ReportData) -> Iterator[Markup]:
    points = [point for point in data.history if point.best is not None]
    if not points:
        return
    yield _best_chart("Best score over time", points, "hours since the first trial began", [p.hours for p in points])
    steps = [float(point.env_steps) for point in points]
    yield _best_chart("Best score over env steps", points, "env steps of all ended trials", steps)


def _best_chart(title: str, points: Sequence[HistoryPoint], x_name: str, x: Sequence[float]) -> Markup:
    best = [(at, point.best or 0.0) for at, point in zip(x, points, strict=True)]
    return Chart(title, [Series(best, "c0", step=True, dots=len(best) <= MAX_PALE)], x_name, "best score").render()


def _curves_of_scores(data: ReportData) -> Markup:
    top = {trial.number for trial in data.top}
    others = [trial for trial in data.snapshot.trials if trial.number not in top and trial.reports]
    many = len(others) > MAX_PALE
    pale = [] if many else [Series(_reports(trial), "pale") for trial in others]
    middle = [Series([(float(s), m) for s, _, m, _ in data.band], "c5", "median of all")] if many else []
    best = [Series(_reports(t), svg.colour(i), f"trial {t.number}") for i, t in enumerate(data.top) if t.reports]
    shaded = [(float(step), low, high) for step, low, _, high in data.band]
    note = ", shaded: where the middle 80 % lie" if many and shaded else ""
    return Chart(
        f"Reported score over a trial's env steps{note}",
        [*best, *middle, *pale],
        x_name="env steps",
        y_name="score",
        band=shaded if many else (),
    ).render()


def _reports(trial: TrialView) -> list[XY]:
    return [(float(step), value) for step, value in trial.reports.items()]


def importances(data: ReportData) -> list[Markup]:
    """Return a bar chart for each method that was asked."""
    found = []
    for method, shares in data.importances.items():
        bars = [Bar(name, [(share, "c0")], f"{share:.0%}") for name, share in list(shares.items())[:20]]
        highest = max(shares.values(), default=1.0)
        found.append(svg.bars(f"Share of what decides the score ({method})", bars, highest=highest))
    return found


def by_importance(data: ReportData) -> list[str]:
    """Return the searched parameters that any trial has, the most important first."""
    used = {name for trial in data.snapshot.trials for name in trial.parameters}
    shares = next(iter(data.importances.values()), {})
    return sorted((n for n in data.snapshot.spec.parameters if n in used), key=lambda name: -shares.get(name, 0.0))


def slices(data: ReportData) -> list[Markup]:
    """Return the score over each parameter's values, the most important parameters first."""
    return [_slice(data, name) for name in by_importance(data)[:MAX_SLICES]] if data.ranked else []


def _slice(data: ReportData, name: str) -> Markup:
    parameter = data.snapshot.spec.parameters[name]
    series = []
    for state, style in ((TrialState.COMPLETE, "c0"), (TrialState.PRUNED, "pale")):
        trials = [t for t in data.snapshot.trials if t.state is state and name in t.parameters and t.score is not None]
        points = [(_x(parameter, t.parameters[name], t.number), t.score or 0.0) for t in trials]
        titles = [f"trial {t.number}: {units.value(t.parameters[name])}, {units.score(t.score)}" for t in trials]
        series.append(Series(points, style, line=False, dots=True, titles=titles))
    names = [units.value(value) for value in options(parameter)] if isinstance(parameter, Choice | Categorical) else []
    negative = isinstance(parameter, LogUniform) and parameter.high < 0
    return Chart(
        name,
        series,
        categories=names,
        x_log=_is_log(parameter),
        x_range=_x_range(parameter),
        x_label=(lambda x: svg.short(-x)) if negative else svg.short,
        width=340,
        height=210,
        margins=(10, 12, 24, 44),
    ).render()


def _x(parameter: AnyParameter, value: Any, number: int) -> float:
    if isinstance(parameter, Choice | Categorical):
        # Side by side, or hundreds of trials with one value would be one column; the same in every report.
        return _index(parameter, value) + (number * 37 % 21 - 10) / 10 * 0.2
    return abs(value) if isinstance(parameter, LogUniform) else float(value)


def _x_range(parameter: AnyParameter) -> XY | None:
    """Return the range that was searched, with some air for the dots at its edges."""
    if isinstance(parameter, Choice | Categorical):
        return None
    low, high = (
        sorted((abs(parameter.low), abs(parameter.high))) if _is_log(parameter) else (parameter.low, parameter.high)
    )
    if _is_log(parameter):
        air = (high / low) ** 0.03
        return low / air, high * air
    return low - 0.03 * (high - low), high + 0.03 * (high - low)


def _is_log(parameter: AnyParameter) -> bool:
    return isinstance(parameter, LogUniform) or (isinstance(parameter, Integer) and parameter.log)


def _index(parameter: Choice | Categorical, value: Any) -> int:
    choices = options(parameter)
    found = find(value, choices)
    return choices.index(found) if found is not None else 0


def parallel(data: ReportData) -> Markup | None:
    """Return parallel coordinates of the most important parameters; None with fewer than two scores."""
    names = by_importance(data)[:MAX_AXES]
    trials = [trial for trial in data.ranked if all(name in trial.parameters for name in names)]
    scores = [trial.score or 0.0 for trial in trials]
    if len(trials) < 2 or not names:
        return None
    low, high = min(scores), max(scores)
    axes = [(name.partition(".")[2], _axis(data.snapshot.spec.parameters[name])) for name in names]
    axes.append(("score", [(0.0, units.score(low)), (1.0, units.score(high))]))
    best = max(min(len(trials) // 10, 15), 1)
    every = -(-(len(trials) - best) // MAX_LINES) or 1
    lines = []
    for rank, trial in [*list(enumerate(trials))[:best], *list(enumerate(trials))[best::every]]:
        at = [_position(data.snapshot.spec.parameters[name], trial.parameters[name]) for name in names]
        at.append((((trial.score or 0.0) - low) / (high - low)) if high > low else 0.5)
        style, name = ("c1", "best tenth" if best > 1 else "best trial") if rank < best else ("pale", "other trials")
        lines.append(Series([(float(i), position) for i, position in enumerate(at)], style, name))
    return svg.parallel("Values of the best trials and of the others", axes, lines)


def _position(parameter: AnyParameter, value: Any) -> float:
    if isinstance(parameter, Choice | Categorical):
        return _index(parameter, value) / max(len(options(parameter)) - 1, 1)
    share = position_in_range(parameter, value)
    return 0.5 if share is None else share


def _axis(parameter: AnyParameter) -> list[tuple[float, str]]:
    if isinstance(parameter, Choice | Categorical):
        return [(_position(parameter, value), units.value(value)) for value in options(parameter)]
    return [(0.0, units.value(parameter.low)), (1.0, units.value(parameter.high))]


def outcomes(data: ReportData) -> Markup | None:
    """Return how the evaluation episodes of the best trials ended; None without an evaluation."""
    bars = []
    for trial in data.ranked[: 2 * TOP]:
        rates = rows.outcomes(trial)
        if rates:
            parts = [(rates[name], style) for name, _, style in OUTCOMES]
            titles = [f"{meaning}: {rates[name]:.1%}" for name, meaning, _ in OUTCOMES]
            bars.append(Bar(f"trial {trial.number}", parts, f"{rates['success']:.0%}", titles))
    keys = [(meaning, style) for _, meaning, style in OUTCOMES]
    title = "How evaluation episodes ended; on the right the success"
    return svg.bars(title, bars, highest=1.0, keys=keys) if bars else None


def states(data: ReportData) -> Markup | None:
    """Return the trials by state as one bar; None where there are none."""
    kinds = (
        (TrialState.COMPLETE, "good"),
        (TrialState.PRUNED, "pale"),
        (TrialState.FAILED, "bad"),
        (TrialState.RUNNING, "c0"),
        (TrialState.WAITING, "c4"),
    )
    counts = [(data.count(state), state.value, style) for state, style in kinds]
    shown = [(count, word, style) for count, word, style in counts if count]
    total = len(data.snapshot.trials)
    if not total:
        return None
    bar = Bar("trials", [(float(count), style) for count, _, style in shown], str(total))
    keys = [(f"{count} {word}", style) for count, word, style in shown]
    return svg.bars("How the trials ended", [bar], highest=float(total), keys=keys)


def curves(data: ReportData) -> list[Markup]:
    """Return the training curves of the best trials, one chart for each quantity that any of them has."""
    return [chart for name, title, share in CURVES if (chart := _curve(data, name, title, share)) is not None]


def _curve(data: ReportData, name: str, title: str, share: bool) -> Markup | None:
    series = []
    for i, trial in enumerate(data.top):
        found = data.curves.get(trial.number)
        values = found.values.get(name, ()) if found else ()
        points = (
            [(float(s), v) for s, v in zip(found.env_steps, values, strict=False) if v is not None] if found else []
        )
        if points:
            series.append(Series(points, svg.colour(i), f"trial {trial.number}"))
    if not series:
        return None
    label = (lambda y: f"{y:.0%}") if share else svg.short
    return _small(title, series, label, (0.0, 1.0) if share else None)


def terms(data: ReportData) -> Markup | None:
    """Return the largest reward terms of the best trial over its training; None without metrics."""
    found = data.curves.get(data.ranked[0].number) if data.ranked else None
    by_term = {k.removeprefix("term/"): v for k, v in (found.values if found else {}).items() if k.startswith("term/")}
    if found is None or not by_term:
        return None

    def size(name: str) -> float:
        late = [abs(v) for v in by_term[name][len(by_term[name]) // 2 :] if v is not None]
        return sum(late) / len(late) if late else 0.0

    largest = sorted(by_term, key=size, reverse=True)[:TERMS]
    series = [
        Series(
            [(float(s), v) for s, v in zip(found.env_steps, by_term[name], strict=True) if v is not None],
            svg.colour(i),
            name,
        )
        for i, name in enumerate(largest)
    ]
    return Chart(
        f"Largest reward terms of trial {data.ranked[0].number}, per step", series, x_name="env steps", y_name="reward"
    ).render()


def _small(title: str, series: Sequence[Series], y_label: svg.Label, y_range: XY | None) -> Markup:
    return Chart(
        title,
        series,
        y_label=y_label,
        y_range=y_range,
        width=340,
        height=190,
        margins=(10, 12, 24, 46),
        with_legend=False,
    ).render()


def names_of_top(data: ReportData) -> Markup | None:
    """Return the legend of the training curves."""
    return svg.legend([Series((), svg.colour(i), f"trial {trial.number}") for i, trial in enumerate(data.top)])
