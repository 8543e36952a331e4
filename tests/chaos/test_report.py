"""The tables of a chaos run."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from vbot_campaign.chaos.lane import SURVIVAL, Round, StudyRecord
from vbot_campaign.chaos.report import render_report, report_json
from vbot_campaign.chaos.runner import ChaosReport
from vbot_campaign.chaos.schedule import Kind, Moment, PlannedRound


def done(number: int, kind: Kind, seconds: float, repeated: int = 0, problem: str = "") -> Round:
    planned = PlannedRound(number, kind, Moment.ANY, gap=0.1, seconds=1.0, choice=0.5)
    return Round(planned, "study-1-1", 0, 5_120, seconds, repeated, problem)


def report_of(rounds: list[Round], study: StudyRecord | None = None) -> ChaosReport:
    studies = (study or StudyRecord("study-1-1"),)
    return ChaosReport(1, Path("/tmp/vbot-chaos-x"), True, 90.0, 40.0, 4, tuple(Kind), tuple(rounds), studies)


def text_of(report: ChaosReport) -> str:
    page = io.StringIO()
    Console(width=80, file=page).print(render_report(report), soft_wrap=True)
    return page.getvalue()


KILLS = [done(n, Kind.WORKER_KILLED, seconds, 512) for n, seconds in enumerate((3.0, 9.0, 4.0), start=1)]


def test_a_run_without_violations() -> None:
    report = report_of([*KILLS, done(4, Kind.DATABASE_LOCKED, 2.5)])
    assert report.passed
    text = text_of(report)
    assert max(map(len, text.splitlines())) <= 80
    rows = {line[:29].strip(): line[29:].split() for line in text.splitlines()}
    assert rows["worker killed"] == ["3", "3", "4.0", "9.0", "1,536"]
    assert rows["database locked"] == ["1", "1", "2.5", "2.5", "0"]
    assert rows["worker frozen"] == ["0", "-", "-", "-", "-"], "what was never tried is shown too"
    assert rows["all"] == ["4", "4", "3.5", "9.0", "1,536"]
    assert text.count("OK\n") == 10
    assert "4 rounds in 1 studies, seed 1, 1.5 min:\n4 survived, 0 violations" in text


def test_violations_are_told_in_words() -> None:
    study = StudyRecord("study-1-1", {"no temporary file": [f"runs/toy/.x{n}.part" for n in range(7)]})
    study.violations[SURVIVAL] = ["round 4, database locked: the command ended with exit code 2: error: locked"]
    report = report_of([*KILLS, done(4, Kind.DATABASE_LOCKED, 2.5, problem="the command ended")], study)
    assert not report.passed
    text = text_of(report)
    assert f"{SURVIVAL:<54}1 violation\n  study-1-1: round 4, database locked" in text
    assert f"{'no temporary file':<54}7 violations" in text
    assert "  … and 2 more" in text
    assert "3 survived, 8 violations" in text
    assert "Everything is kept in /tmp/vbot-chaos-x" in text


def test_fewer_rounds_than_planned_are_said_to_be_so() -> None:
    assert "3 rounds of 4 (the time was up)" in text_of(report_of(KILLS))


def test_the_json_has_every_round_and_every_violation() -> None:
    values = json.loads(json.dumps(report_json(report_of(KILLS))))
    assert values["passed"] is True
    assert values["faults"]["worker killed"] == {
        "rounds": 3, "survived": 3, "median_s": 4.0, "longest_s": 9.0, "env_steps_repeated": 1536,
    }  # fmt: skip
    assert [entry["round"] for entry in values["rounds"]] == [1, 2, 3]
    assert len(values["invariants"]) == 10
