"""What a chaos run found, as tables of at most 80 columns and as plain values."""

from __future__ import annotations

import statistics
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vbot_campaign.chaos.runner import ChaosReport
from vbot_campaign.chaos.schedule import Kind

SCHEMA = 1
MAX_SHOWN = 5
"""Violations printed for one invariant; all of them are in the JSON."""


def render_report(report: ChaosReport) -> RenderableType:
    """Return the faults, the invariants and the verdict, for a console."""
    return Group(_faults(report), Text(), _invariants(report), Text(), _verdict(report))


def _faults(report: ChaosReport) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("fault", "rounds", "survived", "median s", "longest s", "env steps"):
        table.add_column(name, justify="left" if name == "fault" else "right", no_wrap=True)
    for kind in report.kinds:
        table.add_row(*_row(report, kind))
    table.add_section()
    table.add_row(*_row(report, None))
    return table


def _row(report: ChaosReport, kind: Kind | None) -> tuple[str, ...]:
    found = kind_values(report, kind)
    name = "all" if kind is None else kind.value
    if not found["rounds"]:
        return name, "0", "-", "-", "-", "-"
    seconds = (f"{found['median_s']:.1f}", f"{found['longest_s']:.1f}")
    return name, f"{found['rounds']}", f"{found['survived']}", *seconds, f"{found['env_steps_repeated']:,}"


def kind_values(report: ChaosReport, kind: Kind | None) -> dict[str, Any]:
    """Return what came of a kind of fault, or of all: counts, seconds until training went on, env steps repeated."""
    rounds = [done for done in report.rounds if kind is None or done.planned.kind is kind]
    seconds = [done.seconds for done in rounds]
    return {
        "rounds": len(rounds),
        "survived": sum(done.survived for done in rounds),
        "median_s": round(statistics.median(seconds), 2) if seconds else None,
        "longest_s": round(max(seconds), 2) if seconds else None,
        "env_steps_repeated": sum(done.repeated for done in rounds),
    }


def _invariants(report: ChaosReport) -> RenderableType:
    lines: list[Text] = []
    for name, texts in report.violations.items():
        words = "OK" if not texts else "1 violation" if len(texts) == 1 else f"{len(texts)} violations"
        lines.append(Text(f"{name:<54}{words}", style="" if not texts else "red"))
        lines += [Text(f"  {text}") for text in texts[:MAX_SHOWN]]
        if len(texts) > MAX_SHOWN:
            lines.append(Text(f"  … and {len(texts) - MAX_SHOWN} more"))
    return Group(*lines)


def _verdict(report: ChaosReport) -> RenderableType:
    done, survived = len(report.rounds), sum(done.survived for done in report.rounds)
    short = f" of {report.planned} (the time was up)" if done < report.planned else ""
    counts = f"{done} rounds{short} in {len(report.studies)} studies, seed {report.seed}, {report.seconds / 60:.1f} min"
    violations = sum(map(len, report.violations.values()))
    lines = [f"{counts}:", f"{survived} survived, {violations} violations"]
    lines += [f"Everything is kept in {report.folder}"] if report.kept else []
    return Text("\n".join(lines))


def report_json(report: ChaosReport) -> dict[str, Any]:
    """Return the same, and every round, as plain values."""
    return {
        "schema_version": SCHEMA,
        "passed": report.passed,
        "seed": report.seed,
        "seconds": round(report.seconds, 1),
        "undisturbed_s": round(report.undisturbed_s, 1),
        "folder": str(report.folder) if report.kept else None,
        "rounds_planned": report.planned,
        "faults": {kind.value: kind_values(report, kind) for kind in report.kinds},
        "all": kind_values(report, None),
        "invariants": report.violations,
        "rounds": [
            {
                "round": done.planned.number,
                "fault": done.planned.kind.value,
                "moment": done.planned.moment.value,
                "study": done.study,
                "trial": done.trial,
                "env_step": done.env_step,
                "seconds": round(done.seconds, 2),
                "env_steps_repeated": done.repeated,
                "problem": done.problem or None,
            }
            for done in report.rounds
        ],
    }
