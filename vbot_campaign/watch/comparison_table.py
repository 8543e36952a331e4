"""Several evaluations side by side, as text, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from vbot_campaign.spec.evaluation import Evaluation
from vbot_campaign.spec.movement import RINGS, ring_name
from vbot_campaign.watch.outcome_table import OUTCOMES, SCHEMA, case_json, number, wilson

_LABEL = 15
_WIDTH = 20
_PER_TABLE = 3
"""Columns that fit into 80 characters."""


@dataclass(frozen=True)
class Row:
    """One measure of an evaluation."""

    label: str
    value: Callable[[Evaluation], float | None]
    form: str
    interval: Callable[[Evaluation], tuple[float, float]] | None = None


@dataclass(frozen=True)
class Transfer:
    """The difference between two engines for one checkpoint played in one way."""

    name: str
    reference: Evaluation
    other: Evaluation


def comparison_table(evaluations: Sequence[Evaluation]) -> str:
    """Return the evaluations side by side, at most 80 columns wide; tables follow one another where they must."""
    columns = list(_columns(evaluations))
    lines = _legend(evaluations)
    for start in range(0, len(columns), _PER_TABLE):
        some = columns[start : start + _PER_TABLE]
        lines += ["", " " * _LABEL + "".join(f"{_title(column, evaluations):>{_WIDTH}}" for column in some)]
        lines += [f"{row.label:<{_LABEL}}" + "".join(f"{_cell(row, c):>{_WIDTH}}" for c in some) for row in _rows()]
    return "\n".join(lines)


def comparison_markdown(evaluations: Sequence[Evaluation]) -> str:
    """Return the evaluations side by side as one Markdown table."""
    columns = list(_columns(evaluations))
    titles = ["", *(_title(column, evaluations) for column in columns)]
    table = [titles, ["---", *("---:" for _ in columns)]]
    table += [[row.label, *(" ".join(_cell(row, column).split()) for column in columns)] for row in _rows()]
    return "\n".join([*(f"{line}  " for line in _legend(evaluations)), "", *(f"| {' | '.join(r)} |" for r in table)])


def comparison_json(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Return the evaluations and the differences between engines as plain values."""
    transfers = [column for column in _columns(evaluations) if isinstance(column, Transfer)]
    return {
        "schema_version": SCHEMA,
        "evaluations": [case_json(done) for done in evaluations],
        "transfer": [
            {
                "checkpoint": change.other.checkpoint,
                "deterministic": change.other.deterministic,
                "from": change.reference.physics,
                "to": change.other.physics,
                "difference": {row.label: _difference(row, change) for row in _rows()},
            }
            for change in transfers
        ],
    }


def _columns(evaluations: Sequence[Evaluation]) -> Iterator[Evaluation | Transfer]:
    """Yield the evaluations, and after the last engine of a checkpoint its differences from the first."""
    for group in _groups(evaluations):
        yield from group
        for other in group[1:]:
            name = f"{other.physics} - {group[0].physics}" if len(group) > 2 else "transfer"
            yield Transfer(name, group[0], other)


def _groups(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    groups: dict[tuple[str, bool], list[Evaluation]] = {}
    for done in evaluations:
        groups.setdefault((done.checkpoint, done.deterministic), []).append(done)
    return list(groups.values())


def _legend(evaluations: Sequence[Evaluation]) -> list[str]:
    names = {done.checkpoint: done for done in evaluations}
    lines = [
        f"{letter}  {done.checkpoint}" + (f" ({done.env_steps:,} env steps)" if done.env_steps is not None else "")
        for letter, done in zip(_letters(len(names)), names.values(), strict=True)
    ]
    seeds = evaluations[0].seeds
    span = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]} together"
    return [*lines, f"{int(evaluations[0].episodes.finished)} episodes each, {span}; [95 % interval]"]


def _title(column: Evaluation | Transfer, evaluations: Sequence[Evaluation]) -> str:
    if isinstance(column, Transfer):
        return column.name
    checkpoints = list(dict.fromkeys(done.checkpoint for done in evaluations))
    letter = _letters(len(checkpoints))[checkpoints.index(column.checkpoint)]
    return f"{letter} {column.physics}" + ("" if column.deterministic else " sampled")


def _letters(count: int) -> list[str]:
    return [ascii_uppercase[i] if i < len(ascii_uppercase) else str(i + 1) for i in range(count)]


def _cell(row: Row, column: Evaluation | Transfer) -> str:
    if isinstance(column, Transfer):
        return number(_difference(row, column), "+" + row.form)
    text = number(row.value(column), row.form)
    if row.interval is None:
        return text
    low, high = row.interval(column)
    return f"{text} [{100 * low:5.1f} {100 * high:5.1f}]"


def _difference(row: Row, change: Transfer) -> float | None:
    before, after = row.value(change.reference), row.value(change.other)
    return None if before is None or after is None else after - before


def _rows() -> list[Row]:
    rows = [
        Row(name, lambda done, n=name: _share(done, n), ".1%", lambda done, n=name: _interval(done, n))  # type: ignore[misc]
        for name, _ in OUTCOMES
    ]
    rows += [
        Row("time to goal s", lambda done: _measure(done, "time_to_goal_arrived_s"), ".2f"),
        Row("path efficiency", lambda done: _measure(done, "path_efficiency"), ".3f"),
    ]
    rows += [Row(f"m/s at {ring_name(ring)} m", _ring_speed(ring_name(ring)), ".2f") for ring in RINGS]
    return [
        *rows,
        Row("torque limit", lambda done: _measure(done, "saturation"), ".1%"),
        Row("goal progress", lambda done: done.parts["goal_progress"], ".3f"),
        Row("reward", lambda done: done.parts["episode_reward_mean"], ".1f"),
        Row("score", lambda done: done.score, ".4f"),
    ]


def _share(done: Evaluation, name: str) -> float:
    return float(getattr(done.episodes, name) / done.episodes.finished)


def _interval(done: Evaluation, name: str) -> tuple[float, float]:
    return wilson(int(getattr(done.episodes, name)), int(done.episodes.finished))


def _measure(done: Evaluation, name: str) -> float | None:
    return done.movement.measures()[name] if done.movement else None


def _ring_speed(ring: str) -> Callable[[Evaluation], float | None]:
    return lambda done: done.movement.measures()["speed_by_ring_m_s"][ring] if done.movement else None
