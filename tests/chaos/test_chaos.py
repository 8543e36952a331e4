"""Every fault once, on real studies side by side."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vbot_campaign.chaos.report import report_json
from vbot_campaign.chaos.runner import Chaos
from vbot_campaign.chaos.schedule import available_kinds


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = available_kinds()
    report = Chaos(rounds=len(kinds), seed=1, trials=3, say=print).run()
    said = capsys.readouterr().out
    assert report.passed, f"{said}\n{report_json(report)}"
    assert sorted(done.planned.kind for done in report.rounds) == sorted(kinds)
    assert not report.folder.exists(), "nothing is left behind"
    assert said.count(" again after ") == len(kinds)
    assert "every invariant holds" in said


@pytest.mark.parametrize("option", [("--rounds", "0"), ("--minutes", "0"), ("--seed", "-1")])
def test_what_makes_no_sense_is_refused(option: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "vbot_campaign.cli", "chaos", *option]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert option[0] in done.stderr
