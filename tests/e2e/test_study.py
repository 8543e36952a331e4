"""Whole studies through the command line, with real workers: run, kill, resume, stop, look, evaluate."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import yaml

from tests.support.campaign import (
    ITERATION,
    Campaign,
    assert_at_most_one_interval_again,
    assert_fits_80_columns,
    assert_grows,
    finish,
    json_of,
    kill_everything,
    progress_lines,
    stable_lines,
)
from vbot_campaign.paths import StudyPaths, TrialPaths
from vbot_campaign.study.snapshot import TrialState

pytestmark = pytest.mark.slow

BUDGET = 48 * ITERATION


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Run the tiny study on one slot to its end, undisturbed."""
    campaign = Campaign(tmp_path_factory.mktemp("whole"))
    output = campaign.call("run", campaign.write())
    (campaign.folder / "output.txt").write_text(output, encoding="utf-8")
    return campaign


def mirrors(study: StudyPaths) -> dict[str, str]:
    """Return the text of every mirror by its path, without the one line that follows the clock."""
    files = [study.automl_state, study.registry, study.index]
    files += [file for folder in ("configs", "experiments") for file in (study.root / folder).iterdir()]
    return {
        file.relative_to(study.root).as_posix(): re.sub(
            r"^elapsed_hours:.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        for file in files
    }


def best_policy(campaign: Campaign) -> Path:
    best = yaml.safe_load(campaign.study.registry.read_text(encoding="utf-8"))["best"]
    return campaign.study.root / best["path"]


def scores(campaign: Campaign) -> dict[int, float | None]:
    return {trial.number: trial.score for trial in campaign.snapshot().trials}


# --- to the end -----------------------------------------------------------------------------------------------------


def test_a_study_runs_to_its_end(whole: Campaign) -> None:
    snapshot = whole.snapshot()
    assert (snapshot.state, snapshot.supervisor) == ("finished", None)
    assert [trial.state for trial in snapshot.trials] == [TrialState.COMPLETE] * 4
    assert [trial.env_steps for trial in snapshot.trials] == [BUDGET] * 4
    assert all(trial.score is not None and 0 <= trial.score <= 1 for trial in snapshot.trials)
    grid = [BUDGET * point // 10 for point in range(1, 11)]
    for trial in snapshot.trials:
        # No episode has ended before the first point, so there is no score yet.
        assert list(trial.reports) == grid[1:]
        folder = whole.trial_folder(trial.number)
        assert folder is not None
        assert_grows(folder)


def test_the_output_ends_with_the_best_policy_and_what_to_do_next(whole: Campaign) -> None:
    output = (whole.folder / "output.txt").read_text(encoding="utf-8")
    for number in range(4):
        assert f"trial {number} started" in output
        assert f"trial {number} complete: score" in output
    assert best_policy(whole).as_posix() in output
    for command in ("evaluate", "status tiny", "dashboard"):
        assert command in output
    assert "Traceback" not in output


def test_mirrors_agree_with_the_database(whole: Campaign) -> None:
    assert "agree" in whole.call("verify", "tiny")
    found = mirrors(whole.study)
    assert len(found) == 3 + 2 * 4
    loaded = {name: yaml.safe_load(text) for name, text in found.items()}
    assert loaded["automl_state.yaml"]["status"] == "completed"
    assert [row["trial"] for row in loaded["index.yaml"]["experiments"]] == [0, 1, 2, 3]
    history = {row["trial"]: row["score"] for row in loaded["automl_state.yaml"]["hp_search_history"]}
    assert history == scores(whole)


def test_deleted_mirrors_are_made_again(whole: Campaign) -> None:
    before = mirrors(whole.study)
    for name in before:
        (whole.study.root / name).unlink()
    assert "11 files" in whole.call("export", "tiny")
    assert mirrors(whole.study) == before


def test_a_changed_checkpoint_is_found(whole: Campaign, tmp_path: Path) -> None:
    shutil.copytree(whole.folder, tmp_path / "copy")
    copy = Campaign(tmp_path / "copy")
    policy = best_policy(copy)
    content = bytearray(policy.read_bytes())
    content[len(content) // 2] ^= 1
    policy.write_bytes(content)
    report = copy.call("verify", "tiny", code=1)
    assert policy.relative_to(copy.study.root).as_posix() in report
    assert "sha256" in report


def test_the_best_policy_is_evaluated(whole: Campaign) -> None:
    policy = best_policy(whole)
    table = whole.call("evaluate", policy)
    assert_fits_80_columns(table)
    assert "8 episodes" in table
    report = json_of(whole.call("evaluate", policy, "--json"))
    best = whole.snapshot().best
    assert best is not None
    assert report["score"] == best.score, "the same policy on the same episodes"
    other = json_of(whole.call("evaluate", policy, "--json", "--episodes", "3", "--seed", "5"))
    assert (other["episodes"]["finished"], other["seed"]) == (3, 5)


def test_a_finished_study_says_so(whole: Campaign) -> None:
    before = scores(whole)
    assert "finished" in whole.call("run", whole.folder / "tiny.yaml")
    assert "finished: the budget of trials is used" in whole.call("resume", "tiny")
    assert scores(whole) == before
    assert "agree" in whole.call("verify", "tiny")


def test_status_and_list(whole: Campaign) -> None:
    report = json_of(whole.call("status", "tiny", "--json"))
    assert (report["study"], report["state"], report["used"]["trials"]) == ("tiny", "finished", 4)
    assert {row["trial"]: row["score"] for row in report["trials"]} == scores(whole)
    assert Path(report["best"]["policy"]).is_file()
    for output in (whole.call("status"), whole.call("status", "tiny"), whole.call("list")):
        assert "tiny" in output
        assert_fits_80_columns(output)


def test_optunas_own_tools_read_the_study(whole: Campaign) -> None:
    script = Path(sys.executable).with_name("optuna")
    url = whole.runs.database_url
    listed = subprocess.run(
        [script, "studies", "--storage", url, "-f", "json"], check=True, capture_output=True, text=True, timeout=240
    )
    assert [(row["name"], row["n_trials"]) for row in json_of(listed.stdout)] == [("tiny", 4)]
    study = optuna.load_study(study_name="tiny", storage=url)
    assert {trial.number: trial.value for trial in study.trials} == scores(whole)
    assert all(len(trial.intermediate_values) == 9 for trial in study.trials)
    assert study.best_trial.params["ppo.learning_rate"] > 0


# --- killed and continued -------------------------------------------------------------------------------------------


def kill_in(campaign: Campaign, process: subprocess.Popen[str], trial: int, iteration: int) -> int:
    """Kill everything once a trial has reported an iteration; return the last env step it reported."""
    campaign.wait_for(process, lambda: campaign.iteration(trial) >= iteration)
    assert kill_everything(process) == 1
    return campaign.iteration(trial) * ITERATION


def test_killed_twice_and_resumed_equals_uninterrupted(tmp_path: Path, whole: Campaign) -> None:
    campaign = Campaign(tmp_path)
    first = kill_in(campaign, campaign.start("run", campaign.write()), trial=0, iteration=16)
    second = kill_in(campaign, campaign.start("resume", "tiny"), trial=2, iteration=16)
    output = campaign.call("resume", "tiny")

    found = re.search(r"trial 2: interrupted at env step .*; continues at ([\d,]+)", output)
    assert found, output
    assert second - int(found[1].replace(",", "")) <= 7 * ITERATION
    assert "2 complete, 0 pruned, 0 failed, 1 unfinished" in output

    snapshot = campaign.snapshot()
    assert [trial.number for trial in snapshot.trials] == [0, 1, 2, 3], "none is missing, none doubled"
    assert [len(trial.attempts) for trial in snapshot.trials] == [2, 1, 2, 1]
    assert_at_most_one_interval_again(snapshot.trials[0], 2, first)
    assert_at_most_one_interval_again(snapshot.trials[2], 2, second)
    assert "agree" in campaign.call("verify", "tiny")
    assert_equal_studies(campaign, whole)


def assert_equal_studies(found: Campaign, wanted: Campaign) -> None:
    for left, right in zip(found.snapshot().trials, wanted.snapshot().trials, strict=True):
        assert (left.parameters, left.score, left.reports) == (right.parameters, right.score, right.reports)
        folders = found.trial_folder(left.number), wanted.trial_folder(right.number)
        assert folders[0] is not None
        assert folders[1] is not None
        assert stable_lines(folders[0]) == stable_lines(folders[1]), f"trial {left.number}"


@pytest.mark.timeout(1800)  # it starts four supervisors one after the other
def test_two_slots_killed_interrupted_and_stopped(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    file = campaign.write(workers={"num_envs": 32, "slots": 2}, env_steps_per_trial=3 * BUDGET, budget={"trials": 3})

    process = campaign.start("run", file)
    campaign.wait_for(process, lambda: min(campaign.iteration(0), campaign.iteration(1)) >= 10)
    assert kill_everything(process) == 2
    killed_at = [campaign.iteration(number) * ITERATION for number in (0, 1)]

    process = resume_both(campaign)
    process.send_signal(signal.SIGINT)
    output = finish(process)
    assert "resume tiny" in output, "it says how to go on"
    assert_stopped(campaign, "stopped by SIGINT")
    for number, reached in enumerate(killed_at):
        assert_at_most_one_interval_again(campaign.snapshot().trials[number], 2, reached)

    process = resume_both(campaign)
    assert "tiny" in campaign.call("stop", "tiny")
    finish(process)
    assert_stopped(campaign, "stopped on request")

    finish(campaign.start("resume", "tiny"))
    snapshot = campaign.snapshot()
    assert [trial.state for trial in snapshot.trials] == [TrialState.COMPLETE] * 3
    assert [len(trial.attempts) for trial in snapshot.trials] == [4, 4, 1]
    study = optuna.load_study(study_name="tiny", storage=campaign.runs.database_url)
    assert {trial.state for trial in study.trials} == {optuna.trial.TrialState.COMPLETE}
    for number in range(3):
        folder = campaign.trial_folder(number)
        assert folder is not None
        assert_grows(folder)
    assert "agree" in campaign.call("verify", "tiny")


def resume_both(campaign: Campaign) -> subprocess.Popen[str]:
    """Resume the study and wait until its first two trials are further than they were."""
    before = [campaign.iteration(number) for number in (0, 1)]
    process = campaign.start("resume", "tiny")
    campaign.wait_for(process, lambda: all(campaign.iteration(number) >= before[number] + 10 for number in (0, 1)))
    return process


def assert_stopped(campaign: Campaign, reason: str) -> None:
    """Check that a study was stopped with a checkpoint of the very last iteration, and can be resumed."""
    snapshot = campaign.snapshot()
    assert (snapshot.state, snapshot.reason, snapshot.supervisor) == ("stopped", reason, None)
    assert [trial.state for trial in snapshot.trials] == [TrialState.WAITING] * 2
    for trial in snapshot.trials:
        folder = campaign.trial_folder(trial.number)
        assert folder is not None
        assert folder.checkpoint(progress_lines(folder)[-1]["env_steps"]).is_file()
        assert trial.attempts[-1].ended is not None
    assert "agree" in campaign.call("verify", "tiny"), "the mirrors were written before it ended"


# --- without a study ------------------------------------------------------------------------------------------------

TRAIN = (
    "train",
    "--env-steps=24_576",
    "--num-envs=32",
    "--threads=1",
    "--set=ppo.rollouts=16",
    "--set=ppo.policy_hidden_layer_sizes=[32, 16]",
    "--set=ppo.value_hidden_layer_sizes=[32, 16]",
    "--set=env.episode_seconds=1.0",
    "--set=reward.forward_velocity=2.0",
)


def only_run(campaign: Campaign) -> TrialPaths:
    (folder,) = (campaign.runs.root / "vbot_navigation_section001").iterdir()
    return TrialPaths(folder)


def test_train_stopped_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole, stopped = (Campaign(tmp_path / name) for name in ("whole", "stopped"))
    for campaign in (whole, stopped):
        campaign.folder.mkdir()
    table = whole.call(*TRAIN)
    assert "finished after 24,576 env steps" in table
    assert_fits_80_columns(table)

    process = stopped.start(*TRAIN)
    stopped.wait_for(process, lambda: stopped.runs.root.is_dir() and len(iterations_of(stopped)) >= 10)
    process.send_signal(signal.SIGINT)
    output = finish(process)
    run = only_run(stopped)
    assert f"train --resume {run.root}" in output
    assert 10 <= len(progress_lines(run)) < 48
    assert "finished after" in stopped.call("train", "--resume", run.root)
    assert stable_lines(run) == stable_lines(only_run(whole))


def iterations_of(campaign: Campaign) -> list[int]:
    runs = list((campaign.runs.root / "vbot_navigation_section001").glob("*_PPO"))
    return [line["iteration"] for run in runs for line in progress_lines(TrialPaths(run))]


def test_a_study_that_measures_with_a_bent_yardstick_says_so_at_its_start(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    bent = {"objective": {"episode_reward_mean": {"weight": 1.0, "scale": 500}}, "budget": {"trials": 1}}
    output = campaign.call("run", campaign.write(**bent))
    assert "WARNING:" in output
    assert "episode_reward_mean" in output.split("study tiny:")[0], "before the first trial, and with the reason"
