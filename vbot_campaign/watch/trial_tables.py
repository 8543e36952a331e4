"""The trials of a study as tables: those that run or wait, and the best of those that ended."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from rich.text import Text

from vbot_campaign.exporters import rows
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView
from vbot_campaign.watch import units
from vbot_campaign.watch.columns import columns, line
from vbot_campaign.watch.estimate import TrialProgress
from vbot_campaign.watch.screen import bar
from vbot_campaign.watch.sparkline import sparkline
from vbot_campaign.watch.standing import standing
from vbot_campaign.watch.summary import parts_text

WIDE = 110
"""Columns from which on bars and curves are longer and finished trials show their parameters."""

_COLOURS = {
    TrialState.WAITING: "yellow",
    TrialState.RUNNING: "cyan",
    TrialState.COMPLETE: "green",
    TrialState.PRUNED: "bright_black",
    TrialState.FAILED: "red",
}
_SILENT_S = 60.0
"""After so many seconds without a line a worker is shown in yellow, after five times as many in red."""
_LONGEST_CURVE = 30
_PARTS = {"success_rate": "succ", "survival_rate": "surv", "goal_progress": "prog"}


def unfinished_lines(
    snapshot: StudySnapshot, trials: Sequence[TrialProgress], *, width: int, details: bool
) -> list[Text]:
    """Return titles and one or two lines per trial that runs or waits.

    Args:
        snapshot: The study.
        trials: Its unfinished trials.
        width: Columns of the screen.
        details: Give each a second line: the pruner's view, score parts and speed, or why it waits.
    """
    titles = ("#", "slot", "progress", "score", *_PARTS.values(), "ETA", "try", "seen")
    cells = [_unfinished(row, wide=width >= WIDE) for row in trials]
    lines = columns(titles, cells, right=("#", *titles[3:]))
    head, *lines = _with_curves(lines, [row.trial for row in trials], width)
    if not details:
        return [head, *lines]
    pairs = zip(lines, (_detail(snapshot, row, wide=width >= WIDE) for row in trials), strict=True)
    return [head, *itertools.chain.from_iterable(pairs)]


def _unfinished(row: TrialProgress, *, wide: bool) -> tuple[str | Text, ...]:
    trial = row.trial
    attempt = trial.attempts[-1] if trial.attempts else None
    running = trial.state is TrialState.RUNNING
    return (
        str(trial.number),
        attempt.slot if attempt and running else Text(trial.state.value, style=_COLOURS[trial.state]),
        bar(row.share, 20 if wide else 6),
        units.score(row.score),
        *(units.percent((trial.parts or {}).get(name)) for name in _PARTS),
        units.duration(row.eta_s) if running else "",
        str(len(trial.attempts)),
        _seen(row.silent_s),
    )


def _with_curves(lines: Sequence[Text], trials: Sequence[TrialView], width: int) -> list[Text]:
    """Put the curve of the reported scores at the end of each line, as long as there is room for."""
    longest = max(text.cell_len for text in lines)
    room = min(width - longest - 2, _LONGEST_CURVE)
    if room < len("curve"):
        return list(lines)
    curves = [Text("curve", style="bright_black"), *(Text(_curve(trial, room), style="cyan") for trial in trials)]
    joined = [line(text, " " * (longest - text.cell_len + 2), curve) for text, curve in zip(lines, curves, strict=True)]
    for text in joined:
        text.rstrip()
    return joined


def _curve(trial: TrialView, width: int) -> str:
    scores = [None if math.isnan(score) else score for _, score in sorted(trial.reports.items())]
    return sparkline(scores, width=width)


def _detail(snapshot: StudySnapshot, row: TrialProgress, *, wide: bool) -> Text:
    trial = row.trial
    if trial.state is TrialState.WAITING:
        return line("    ", trial.reason, style="bright_black")
    place = standing(snapshot, trial)
    facts = [f"{units.count(row.env_steps_per_s)} steps/s"] if row.env_steps_per_s else []
    facts += [parts_text(trial.parts)] if trial.parts and wide else []
    if place is None:
        return line("    ", " · ".join(facts) or "starts", style="bright_black")
    colour = "" if place.margin is None else "green" if place.margin >= 0 else "yellow"
    return line("    ", (place.words(), colour), *(f" · {fact}" for fact in facts), style="bright_black")


def _seen(silent_s: float | None) -> Text:
    if silent_s is None:
        return Text("")
    style = "green" if silent_s < _SILENT_S else "yellow" if silent_s < 5 * _SILENT_S else "red"
    return Text(units.duration(silent_s), style=style)


def finished_lines(snapshot: StudySnapshot, trials: Sequence[TrialView], *, width: int) -> list[Text]:
    """Return titles and one line per trial that ended.

    Args:
        snapshot: The study.
        trials: The ones to show, in order.
        width: Columns of the screen.
    """
    wide = width >= WIDE
    titles = ("#", "state", "score", *_PARTS.values(), "env steps", "try", "took", *(("parameters",) if wide else ()))
    cells = [(*_finished(snapshot, trial), *((_parameters(trial),) if wide else ())) for trial in trials]
    return columns(titles, cells, right=("#", "score", *_PARTS.values(), "try", "took"))


def best_first(trials: Sequence[TrialView]) -> list[TrialView]:
    """Return trials in the order in which a person wants to see them: complete ones first, the best one on top."""

    def place(trial: TrialView) -> tuple[bool, float]:
        score = trial.score if trial.score is not None and not math.isnan(trial.score) else -math.inf
        return trial.state is not TrialState.COMPLETE, -score

    return sorted(trials, key=place)


def _finished(snapshot: StudySnapshot, trial: TrialView) -> tuple[str | Text, ...]:
    failed = trial.state is TrialState.FAILED
    parts = {} if failed else trial.parts or {}
    is_best = snapshot.best is not None and trial.number == snapshot.best.number
    hours = rows.hours(trial)
    return (
        str(trial.number),
        Text(trial.state.value, style=_COLOURS[trial.state]),
        Text(units.score(None if failed else trial.score), style="bold green" if is_best else ""),
        *(units.percent(parts.get(name)) for name in _PARTS),
        bar(min(trial.env_steps / snapshot.spec.env_steps_per_trial, 1.0), 10),
        str(len(trial.attempts)),
        units.duration(None if hours is None else hours * 3600),
    )


def _parameters(trial: TrialView) -> Text:
    settings = [f"{name.partition('.')[2] or name} {units.value(value)}" for name, value in trial.parameters.items()]
    return Text(", ".join(settings), style="bright_black")
