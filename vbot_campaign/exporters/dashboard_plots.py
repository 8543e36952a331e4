"""Pictures of a study that optuna-dashboard does not draw by itself, as plotly's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from vbot_campaign.exporters import rows
from vbot_campaign.exporters.curves import Curves
from vbot_campaign.spec.outcomes import Outcome
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView

CURVES = 5
"""Best trials whose score is drawn over their training."""
BARS = 12
"""Best trials whose outcomes are drawn."""
TERMS = 8
"""Reward terms that are drawn, the largest."""
POINTS = 60
"""Points of a reward term's curve."""

_COLOURS = {
    Outcome.SUCCESS: "#28a050",
    Outcome.TIMED_OUT: "#d9b343",
    Outcome.FELL_AFTER: "#f08c1e",
    Outcome.FELL_BEFORE: "#c8382e",
    Outcome.OUT_OF_BOUNDS: "#6d4c9f",
}


def best_trials(snapshot: StudySnapshot, count: int) -> list[TrialView]:
    """Return the complete trials with the highest scores, the best first."""
    complete = [trial for trial in snapshot.trials if trial.state is TrialState.COMPLETE and trial.score is not None]
    return sorted(complete, key=lambda trial: trial.score or 0.0, reverse=True)[:count]


def figures(snapshot: StudySnapshot, curves: Curves) -> dict[str, go.Figure]:
    """Return every figure by its name, which is a word for HTML; none before a trial is complete.

    Args:
        snapshot: The study.
        curves: Of its best trial, `POINTS` at most.
    """
    best = best_trials(snapshot, BARS)
    if not best:
        return {}
    drawn = {
        "score-over-env-steps": _scores(best[:CURVES]),
        "outcome-shares": _outcomes(best),
        "reward-terms-of-the-best": _terms(best[0], curves),
    }
    return {name: figure for name, figure in drawn.items() if figure.data}


def _scores(trials: Sequence[TrialView]) -> go.Figure:
    lines = [
        go.Scatter(
            x=list(trial.reports),
            y=[_short(value) for value in trial.reports.values()],
            name=f"trial {trial.number}: {trial.score:.3f}",
            mode="lines+markers",
        )
        for trial in trials
    ]
    return _figure(lines, f"Score over env steps of the best {len(trials)}", "env steps", "score of training episodes")


def _outcomes(trials: Sequence[TrialView]) -> go.Figure:
    shares = [(f"trial {trial.number}", rows.outcomes(trial)) for trial in trials if rows.outcomes(trial)]
    bars = [
        go.Bar(
            x=[name for name, _ in shares],
            y=[_short(share.get(outcome.value, 0.0)) for _, share in shares],
            name=outcome.value.replace("_", " "),
            marker_color=colour,
        )
        for outcome, colour in _COLOURS.items()
        if shares
    ]
    figure = _figure(bars, "How the evaluation's episodes ended, the best trials first", "", "share of episodes")
    return figure.update_layout(barmode="stack", yaxis_range=[0, 1])


def _terms(trial: TrialView, curves: Curves) -> go.Figure:
    terms = {name.removeprefix("term/"): values for name, values in curves.values.items() if name.startswith("term/")}
    lines = [
        go.Scatter(x=list(curves.env_steps), y=[_short(value) for value in terms[name]], name=name, mode="lines")
        for name in _largest(terms)
    ]
    return _figure(lines, f"Reward terms of trial {trial.number}, the best", "env steps", "weighted value per step")


def _largest(terms: Mapping[str, Sequence[float | None]]) -> list[str]:
    def size(name: str) -> float:
        return max((abs(value) for value in terms[name] if value is not None), default=0.0)

    return [name for name in sorted(terms, key=size, reverse=True) if size(name) > 0][:TERMS]


def _figure(data: list[Any], title: str, x: str, y: str) -> go.Figure:
    figure = go.Figure(data)
    # Without plotly's own template, which would be most of what is stored.
    return figure.update_layout(
        template="none", title={"text": title}, xaxis_title=x, yaxis_title=y, legend={"orientation": "h", "y": -0.25}
    )


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
