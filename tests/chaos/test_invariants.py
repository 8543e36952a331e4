"""Each invariant finds the violation that is planted in a copy of a real study, and names it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vbot_campaign import fs
from vbot_campaign.chaos import invariants
from vbot_campaign.chaos.campaign import ToyCampaign
from vbot_campaign.chaos.invariants import Evidence, check_all
from vbot_campaign.chaos.progress import Repeat
from vbot_campaign.chaos.toy_study import INTERVAL, ITERATION, ITERATIONS
from vbot_campaign.paths import TrialPaths
from vbot_campaign.study.snapshot import TrialState


def violations(copied: ToyCampaign, undisturbed: ToyCampaign) -> dict[str, list[str]]:
    """Return what was found by the check's name, without those that found nothing."""
    evidence = Evidence.of(copied, undisturbed)
    return {check.__name__: found for check in invariants.INVARIANTS.values() if (found := list(check(evidence)))}


def sql(campaign: ToyCampaign, statement: str, *values: Any) -> None:
    with contextlib.closing(sqlite3.connect(campaign.runs.database)) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0, "the plant changed nothing"


def folder_of(campaign: ToyCampaign, trial: int) -> TrialPaths:
    (folder,) = campaign.paths.trials.glob(f"{trial:04d}_*")
    return TrialPaths(folder)


def edit_metrics(campaign: ToyCampaign, edit: Callable[[list[dict[str, Any]]], object], trial: int = 0) -> None:
    path = folder_of(campaign, trial).metrics
    lines = fs.read_lines(path)
    edit(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_a_study_left_alone_violates_nothing(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    evidence = Evidence.of(copied, undisturbed)
    assert [trial.state for trial in evidence.found.trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert len(check_all(evidence)) == 9
    assert not any(check_all(evidence).values())


# --- finished once --------------------------------------------------------------------------------------------------


def test_a_trial_told_twice(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    told = [line for line in fs.read_lines(copied.paths.decisions) if line["action"] == "completed"]
    fs.append_line(copied.paths.decisions, told[0])
    assert violations(copied, undisturbed) == {"trials_finished_once": ["trial 0 was told 2 times"]}


def test_a_trial_with_two_folders(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    (copied.paths.trials / "0001_20200101T000000Z_PPO").mkdir()
    assert violations(copied, undisturbed) == {"trials_finished_once": ["trial 1 has 2 folders"]}


def test_a_cloned_trial(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    sql(copied, "INSERT INTO trials (number, study_id, state) SELECT number + 2, study_id, state FROM trials LIMIT 1")
    assert "there are 3 trials instead of 2" in violations(copied, undisturbed)["trials_finished_once"]


def test_a_failed_trial(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    sql(copied, "UPDATE trials SET state = 'FAIL' WHERE number = 0")
    found = violations(copied, undisturbed)
    assert any(text.startswith("trial 0 is failed") for text in found["trials_finished_once"])
    assert any(text.startswith("trial 0: is failed") for text in found["same_suggestions"])


# --- env steps and metrics ------------------------------------------------------------------------------------------


def test_a_doubled_line(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    edit_metrics(copied, lambda lines: lines.insert(10, lines[9]))
    found = violations(copied, undisturbed)
    assert "trial 0: iteration 10 follows 10" in found["env_steps_grow"]
    assert found["metrics_equal"][0].endswith(f": {ITERATIONS + 3} lines instead of {ITERATIONS + 2}")


def test_a_lost_line(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    edit_metrics(copied, lambda lines: lines.pop(9))
    assert "trial 0: iteration 11 follows 9" in violations(copied, undisturbed)["env_steps_grow"]


def test_a_line_of_an_attempt_that_was_given_up(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    def fence(lines: list[dict[str, Any]]) -> None:
        lines[4]["attempt"] = 2

    edit_metrics(copied, fence)
    assert violations(copied, undisturbed) == {"env_steps_grow": ["trial 0: attempt 1 wrote after attempt 2"]}


def test_a_changed_metric(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    def change(lines: list[dict[str, Any]]) -> None:
        lines[6]["reward_mean"] += 1e-12

    edit_metrics(copied, change, trial=1)
    (text,) = violations(copied, undisturbed)["metrics_equal"]
    assert text.startswith("trial 1: line 7 (iteration 7): reward_mean is ")


def test_times_and_a_longer_pruned_trial_are_no_violations(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    def at_another_time(lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["time"], line["timing"] = "2020-01-01T00:00:00.000Z", {}

    def longer(lines: list[dict[str, Any]]) -> None:
        last = lines[-1]
        lines.append({**last, "iteration": last["iteration"] + 1, "env_steps": last["env_steps"] + ITERATION})

    edit_metrics(copied, at_another_time)
    edit_metrics(copied, longer, trial=1)
    assert violations(copied, undisturbed) == {}


@pytest.mark.parametrize(("destroyed", "allowed"), [(False, INTERVAL), (True, 2 * INTERVAL)])
def test_a_stretch_that_was_too_long(
    copied: ToyCampaign, undisturbed: ToyCampaign, destroyed: bool, allowed: int
) -> None:
    evidence = Evidence.of(copied, undisturbed)
    within, beyond = (Repeat(0, 2, 30_000, 30_000 - steps, destroyed) for steps in (allowed, allowed + 1))
    assert list(invariants.env_steps_grow(dataclasses.replace(evidence, repeats=(within,)))) == []
    (text,) = invariants.env_steps_grow(dataclasses.replace(evidence, repeats=(beyond,)))
    assert text.startswith(f"trial 0, attempt 2: went on at {beyond.resumed:,} after 30,000")


# --- the database ---------------------------------------------------------------------------------------------------


def test_another_score(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    sql(copied, "UPDATE trial_values SET value = value + 1e-9 WHERE trial_id = 1")
    assert violations(copied, undisturbed)["scores_equal"][0].startswith("trial 0: score is 0.")


def test_another_report(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    sql(copied, "UPDATE trial_intermediate_values SET intermediate_value = 0.5 WHERE trial_id = 1 AND step = 10240")
    (text,) = violations(copied, undisturbed)["scores_equal"]
    assert text.startswith("trial 0: report at 10,240 is 0.5, not 0.")


def test_a_running_row(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    sql(copied, "UPDATE trials SET state = 'RUNNING' WHERE number = 1")
    assert violations(copied, undisturbed)["nothing_runs"] == ["trial 1 is RUNNING in the database (waiting)"]


def test_an_open_attempt(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    sql(copied, "UPDATE campaign_attempts SET ended = NULL WHERE trial = 0")
    assert "trial 0: attempt 1 is open" in violations(copied, undisturbed)["nothing_runs"]


def test_another_suggestion(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    name = "reward.forward_velocity"
    sql(copied, "UPDATE trial_params SET param_value = 1.25 WHERE trial_id = 2 AND param_name = ?", name)
    (text,) = violations(copied, undisturbed)["same_suggestions"]
    assert text.startswith("trial 1: was drawn as ")
    assert "1.25" in text


def test_a_trial_that_was_not_pruned(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    sql(copied, "UPDATE trials SET state = 'COMPLETE' WHERE number = 1")
    (text,) = violations(copied, undisturbed)["same_suggestions"]
    assert text.startswith("trial 1: is complete")


# --- the folder -----------------------------------------------------------------------------------------------------


def test_an_edited_mirror(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    text = copied.paths.index.read_text(encoding="utf-8")
    copied.paths.index.write_text(text.replace("pruned", "complete"), encoding="utf-8")
    (text,) = violations(copied, undisturbed)["mirrors_equal"]
    assert text.startswith("index.yaml: ")


def test_a_missing_mirror(copied: ToyCampaign, undisturbed: ToyCampaign) -> None:
    copied.paths.experiment(1).unlink()
    assert violations(copied, undisturbed) == {"mirrors_equal": ["experiments/trial_0001.yaml: the file is missing"]}


@pytest.mark.parametrize("named", [True, False], ids=["by its arguments", "by where it runs"])
def test_an_orphan(copied: ToyCampaign, undisturbed: ToyCampaign, named: bool) -> None:
    code = "import sys; print(flush=True); sys.stdin.read()"
    arguments = [str(copied.paths.trials)] if named else []
    orphan = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=None if named else copied.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with orphan:
        assert orphan.stdout is not None
        orphan.stdout.readline()
        found = violations(copied, undisturbed)
        orphan.kill()
    assert list(found) == ["no_orphans"]
    assert found["no_orphans"][0].startswith(f"process {orphan.pid} is still there: ")
    assert violations(copied, undisturbed) == {}, "once it is gone"


@pytest.mark.parametrize("name", [".index.yaml.x7f3.part", "state.tmp"])
def test_a_temporary_file(copied: ToyCampaign, undisturbed: ToyCampaign, name: str) -> None:
    part = Path(folder_of(copied, 0).checkpoints / name)
    part.touch()
    assert violations(copied, undisturbed) == {"no_temporary_files": [part.relative_to(copied.folder).as_posix()]}
