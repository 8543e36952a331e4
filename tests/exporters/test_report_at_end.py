"""The report that a study writes by itself when it ends, with the toy worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import toy_study
from tests.support.builders import cpu_slots
from vbot_campaign.exporters.report import at_end
from vbot_campaign.exporters.report.at_end import ReportAtEnd
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.snapshot import StudySnapshot
from vbot_campaign.study.study import close_readers
from vbot_campaign.supervisor import Outcome, request_study_stop


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CampaignPaths]:
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    yield CampaignPaths(tmp_path / "runs")
    close_readers()


def run(paths: CampaignPaths, *observers: Any, **overrides: Any) -> tuple[Outcome, list[str]]:
    """Run the toy study on one slot; return how it ended, and what was said of its report."""
    said: list[str] = []
    with ReportAtEnd(paths, "toy", said.append) as report:
        supervisor = {"observers": (*observers, report), "slots": cpu_slots(1)}
        outcome = toy_study.run(paths, supervisor, **overrides)
    return outcome, said


def test_a_study_that_has_ended_has_a_report(paths: CampaignPaths) -> None:
    _, said = run(paths, budget={"trials": 2})
    file = paths.study("toy").report
    assert said == [f"report: {file}"]
    text = file.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "not finished" not in text


def test_the_end_of_the_budget_is_an_end(paths: CampaignPaths) -> None:
    # The second trial is cut off by the env steps.
    outcome, said = run(paths, budget={"env_steps": 35_000})
    assert outcome.reason == "budget of env steps used (35,000)"
    assert said == [f"report: {paths.study('toy').report}"]


def test_a_study_that_somebody_stops_has_not_ended(paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopper:
        def update(self, snapshot: StudySnapshot) -> None:
            if snapshot.supervisor is not None:
                request_study_stop(paths, "toy")

    monkeypatch.setenv("TOY_ITERATION_S", "0.2")
    outcome, said = run(paths, Stopper())
    assert outcome.state == "stopped"
    assert said == []
    assert not paths.study("toy").report.exists()


def test_nobody_waits_for_the_report_of_a_large_study(paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_end, "MAX_TRIALS", 1)
    _, said = run(paths, budget={"trials": 2})
    assert said == []
    assert not paths.study("toy").report.exists()


def test_a_report_that_cannot_be_written_is_one_line_and_the_study_is_finished(paths: CampaignPaths) -> None:
    paths.study("toy").report.mkdir(parents=True)
    outcome, said = run(paths, budget={"trials": 1})
    assert outcome.state == "finished"
    (line,) = said
    assert line.startswith("report: could not be written (")
    assert line.endswith("try again: vbot-campaign report toy")
    assert "\n" not in line
