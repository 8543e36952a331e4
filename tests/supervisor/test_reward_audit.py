"""The audit of the reward while a study starts: it warns, is kept, and never holds anything up."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.builders import TOY_COMMAND, cpu_slots, study_spec
from tests.support.campaign import Campaign, json_of
from tests.support.snapshots import make_snapshot
from vbot_campaign import fs
from vbot_campaign.errors import StudyError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study import load_snapshot
from vbot_campaign.study.snapshot import AuditView
from vbot_campaign.supervisor import reward_audit, run_study
from vbot_campaign.supervisor.reward_audit import StartAudit
from vbot_campaign.watch.progress_lines import ProgressLines

KNOWN_CASE: dict[str, Any] = {
    "env": {"episode_seconds": 30.0},
    "reward": {"alive_bonus": 1.5, "arrival_bonus": 50.0},
}
FEW_EPISODES = {"episodes": 2}
"""Of 30 s each: a trial ends soon."""


def found_by(audit: StartAudit, spec: StudySpec) -> AuditView:
    """Audit a study and return what was found."""
    with audit:
        audit.start(spec)
        deadline = time.monotonic() + 240
        while (found := audit.poll()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert audit.poll() is None, "it is told once"
    return found


def audited(campaign: Campaign) -> list[str]:
    return [line["reason"] for line in fs.read_lines(campaign.study.decisions) if line["action"] == "audited"]


# --- alone ----------------------------------------------------------------------------------------------------------


def test_the_known_case_is_told_with_behaviour_term_and_command() -> None:
    found = found_by(StartAudit("Whole report: vbot-campaign audit FILE"), study_spec(fixed=KNOWN_CASE))

    (warning,) = found.warnings
    assert warning.startswith("Something else than finishing pays most: from 2 m, 'hover at 0.52 m' earns 1")
    assert "most through alive_bonus 4500 against" in warning
    assert warning.endswith(" Whole report: vbot-campaign audit FILE")
    assert (found.points, found.failing) == (0, 0), "the study searches a learning rate only"
    assert found.seconds > 0


def test_a_sound_reward_is_no_news() -> None:
    assert found_by(StartAudit("more"), study_spec()).warnings == ()


def test_a_search_space_that_mostly_pays_something_else_is_news() -> None:
    space = {"reward": {"alive_bonus": {"type": "uniform", "low": 0.1, "high": 20.0, "prior": 0.15}}}

    found = found_by(StartAudit(), study_spec(search_space=space))

    (warning,) = found.warnings
    assert warning.startswith(f"In {found.failing} of {found.points} points of the search space something else")
    assert found.points == 2 + 64
    assert found.failing > 40
    assert "worst at reward.alive_bonus=20: from" in warning


def test_an_audit_that_breaks_is_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_audit, "AUDIT_COMMAND", (sys.executable, "-c", "raise SystemExit('no torch here')"))

    with pytest.raises(StudyError, match=r"the audit of the reward failed \(exit code 1\): no torch here"):
        found_by(StartAudit(), study_spec())


def test_an_unfinished_audit_is_dropped_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_audit, "AUDIT_COMMAND", (sys.executable, "-c", "import time; time.sleep(600)"))
    started = time.monotonic()

    with StartAudit() as audit:
        audit.start(study_spec())
        assert audit.poll() is None

    assert time.monotonic() - started < 300


# --- in a study -----------------------------------------------------------------------------------------------------


def test_a_study_goes_on_when_its_audit_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_audit, "AUDIT_COMMAND", (sys.executable, "-c", "raise SystemExit('no torch here')"))
    monkeypatch.setenv("TOY_ITERATION_S", "0.05")
    paths = CampaignPaths(tmp_path / "runs")
    spec = study_spec(budget={"trials": 2})

    outcome = run_study(
        paths, spec, worker_command=TOY_COMMAND, slots=cpu_slots(), poll_s=0.02, audit=StartAudit("more")
    )

    assert (outcome.state, outcome.failed) == ("finished", False)
    reasons = {line["action"]: line.get("reason", "") for line in fs.read_lines(paths.study("toy").decisions)}
    assert "no torch here" in reasons["audit_failed"]
    assert load_snapshot(paths, "toy").audit is None


def test_a_warning_is_printed_when_it_comes_and_at_the_next_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = CampaignPaths(tmp_path)
    before = make_snapshot(state="running")
    audit = AuditView("2026-01-31T12:00:00Z", ("Something else pays most.",), 3, 1, 0.9)
    after = make_snapshot(state="running", audit=audit)

    with ProgressLines(paths) as lines:
        for snapshot in (before, after, after):
            lines.update(snapshot)
    once = capsys.readouterr().out
    with ProgressLines(paths) as lines:
        lines.update(after)

    assert once.count("WARNING: Something else pays most.") == 1
    assert "WARNING: Something else pays most." in capsys.readouterr().out


@pytest.mark.slow
def test_a_study_with_a_bad_reward_is_warned_of_and_runs(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    fixed = {**study_fixed(campaign), **KNOWN_CASE}
    space = {"ppo": {"learning_rate": {"type": "loguniform", "low": 1e-4, "high": 1e-2}}}

    study = campaign.write(fixed=fixed, search_space=space, budget={"trials": 2}, evaluation=FEW_EPISODES)
    output = campaign.call("run", study)

    printed = " ".join(output.split())
    assert "WARNING: Something else than finishing pays most: from 2 m, 'hover at 0.52 m' earns" in printed
    assert f"audit {campaign.folder / 'tiny.yaml'}" in printed
    assert campaign.snapshot().state == "finished"
    (reason,) = audited(campaign)
    assert "most through alive_bonus" in reason
    kept = campaign.snapshot().audit
    assert kept is not None
    assert (*kept.warnings,) == (reason,)
    assert json_of(campaign.call("status", "tiny", "--json"))["audit"]["warnings"] == [reason]
    # What is known is not asked again.
    campaign.call("run", campaign.folder / "tiny.yaml")
    assert len(audited(campaign)) == 1


def study_fixed(campaign: Campaign) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(campaign.write().read_text())["fixed"]
    return values


@pytest.mark.slow
def test_the_audit_can_be_left_out(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)

    campaign.call("run", campaign.write(budget={"trials": 2}), "--no-audit")

    assert audited(campaign) == []
    assert campaign.snapshot().audit is None


@pytest.mark.slow
def test_a_training_without_a_study_is_audited_too(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    file = tmp_path / "short.yaml"
    short = {"env_steps": 512, "num_envs": 32, "ppo": {"rollouts": 16}, "evaluation": FEW_EPISODES}
    file.write_text(yaml.safe_dump({"environment": "vbot_navigation_section001", **short}), encoding="utf-8")
    small = ("--config", file, "--threads", "1")
    bad = ("--set", "env.episode_seconds=30", "--set", "reward.alive_bonus=1.5", "--set", "reward.arrival_bonus=50")

    warned = " ".join(campaign.call("train", *small, *bad).split())
    (run,) = (campaign.runs.root / "vbot_navigation_section001").iterdir()
    silent = campaign.call("train", *small, *bad, "--no-audit")

    assert "WARNING: Something else than finishing pays most: from 2 m, 'hover at 0.52 m' earns" in warned
    assert f"audit {run}" in warned
    assert "WARNING" not in silent
    assert "FAILED  from 2 m, 'hover at 0.52 m' earns" in campaign.call("audit", run, code=1)
