"""Whole studies with other trainers through the command line: run, prune, kill, resume; and what is refused."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from tests.support.campaign import (
    COMMAND,
    ITERATION,
    Campaign,
    assert_at_most_one_interval_again,
    assert_grows,
    finish,
    json_of,
    kill_everything,
    progress_lines,
)
from tests.support.workers import TINY
from vbot_campaign import fs
from vbot_campaign.paths import TrialPaths
from vbot_campaign.study.snapshot import TrialState

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "random_search.py"

STAND_OR_FALL: dict[str, Any] = {
    "objective": {"survival_rate": 1.0},
    "sampler": {"name": "grid"},
    "search_space": {"ppo": {"initial_log_std": {"type": "choice", "values": [-4.0, 1.5]}}},
    "pruner": {"name": "threshold", "lower": 0.5},
    "budget": {"trials": 2},
    # Without shins to kneel on.
    "fixed": {"ppo": TINY["ppo"], "env": {**TINY["env"], "collision": "fast"}},
}
"""Two trials: one whose noise is so small that the robots stand, and one whose noise throws them over."""


@pytest.mark.slow
def test_a_study_with_skrl_runs_prunes_and_resumes(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    env_steps = 2 * TINY["env_steps"]  # it is killed long before its end
    file = campaign.write(trainer="skrl", env_steps_per_trial=env_steps, **STAND_OR_FALL)
    process = campaign.start("run", file)
    campaign.wait_for(process, lambda: campaign.iteration(standing(campaign)) >= 16)
    number = standing(campaign)
    assert kill_everything(process) == 1
    reached = campaign.iteration(number) * ITERATION
    finish(campaign.start("resume", "tiny"))

    trials = {trial.parameters["ppo.initial_log_std"]: trial for trial in campaign.snapshot().trials}
    assert {std: trial.state for std, trial in trials.items()} == {-4.0: TrialState.COMPLETE, 1.5: TrialState.PRUNED}
    assert trials[1.5].env_steps < env_steps
    stood = trials[-4.0]
    assert_at_most_one_interval_again(stood, 2, reached)
    folder = campaign.trial_folder(stood.number)
    assert folder is not None
    assert_grows(folder)
    assert fs.read_json(folder.spec)["training"]["trainer"] == "skrl"
    assert fs.read_json(folder.meta)["versions"]["skrl"].startswith("2.")
    report = json_of(campaign.call("evaluate", folder.best_checkpoint, "--json"))
    assert report["score"] == stood.score, "the score is that of our own evaluation"
    assert "agree" in campaign.call("verify", "tiny")


def standing(campaign: Campaign) -> int:
    """Return the number of the trial whose robots stand; 99 before it was started."""
    for folder in campaign.study.trials.glob("*/trial.json") if campaign.study.trials.is_dir() else ():
        spec = fs.read_json(folder)
        if spec["parameters"]["ppo.initial_log_std"] == -4.0:
            return int(spec["trial"])
    return 99


@pytest.mark.slow
def test_the_documented_script_learns_in_a_study_and_is_resumed_from_anywhere(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path / "study")
    campaign.folder.mkdir()
    shutil.copy(EXAMPLE, campaign.folder)
    campaign.write(
        trainer={"command": ["python", "random_search.py"]},
        env_steps_per_trial=20 * 64 * 100,
        workers={"num_envs": 64, "slots": 1},
        objective={"survival_rate": 1.0},
        search_space={"ppo": {"learning_rate": {"type": "choice", "values": [0.05]}}},
        fixed={"env": {"episode_seconds": 1.0, "collision": "fast"}},
        budget={"trials": 1},
        seed=42,
    )
    # From another folder than the script's: relative paths start at the study file.
    process = start_in(tmp_path, campaign, "run", "study/tiny.yaml")
    campaign.wait_for(process, lambda: campaign.iteration(0) >= 9)
    assert kill_everything(process) == 1
    (elsewhere := tmp_path / "elsewhere").mkdir()
    finish(start_in(elsewhere, campaign, "resume", "tiny"))

    (trial,) = campaign.snapshot().trials
    assert (trial.state, len(trial.attempts)) == (TrialState.COMPLETE, 2)
    folder = campaign.trial_folder(0)
    assert folder is not None
    assert [line["iteration"] for line in progress_lines(folder)] == list(range(1, 21))
    assert_learned(folder)
    table = campaign.call("evaluate", folder.best_checkpoint, "--set=env.episode_seconds=1.0", "--episodes=8")
    assert "8 episodes" in table, "its policy is one that we can read"


def test_the_protocols_example_is_a_worker(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    page = (EXAMPLE.parents[1] / "worker-protocol.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "my_worker.py").write_text(script, encoding="utf-8")
    file = campaign.write(trainer={"command": ["python", "my_worker.py"]}, objective={"success_rate": 1.0})
    campaign.call("run", file)
    trials = campaign.snapshot().trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    assert [trial.score for trial in trials] == pytest.approx(
        [min(1.0, 100 * trial.parameters["ppo.learning_rate"]) for trial in trials]
    )
    assert all(len(trial.reports) == 10 for trial in trials)
    assert "agree" in campaign.call("verify", "tiny")


def test_the_documented_study_is_valid(tmp_path: Path) -> None:
    page = (EXAMPLE.parents[1] / "trainers.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(study: .*?)```", page, flags=re.DOTALL)
    shutil.copy(EXAMPLE, tmp_path)
    (tmp_path / "search.yaml").write_text(text, encoding="utf-8")
    assert "python random_search.py" in Campaign(tmp_path).call("check", tmp_path / "search.yaml")


def start_in(folder: Path, campaign: Campaign, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env=campaign.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def assert_learned(folder: TrialPaths) -> None:
    """Check that robots last longer and earn more later on than at the start."""
    lines = progress_lines(folder)
    rewards = [line["episode_reward"] for line in lines]
    lengths = [line["episodes"]["length"] / line["episodes"]["finished"] for line in lines]
    assert mean(rewards[5:]) > mean(rewards[:3]) + 30
    assert mean(lengths[5:]) > mean(lengths[:3]) + 8


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ("skrll", ("tiny.yaml:", "trainer: 'skrll'", "Did you mean 'skrl'?", "builtin, skrl")),
        ({"command": ["python", "my_trainer.py"]}, ("no such script", "my_trainer.py", "study file's folder")),
        ({"command": ["train-robots"]}, ("no program 'train-robots' on the PATH",)),
        ({"command": []}, ("trainer.command", "at least 1 entry")),
        ({"comand": ["python"]}, ("comand", "Did you mean 'command'?")),
        (7, ("trainer: 7 is not valid", "a text or a mapping with command")),
    ],
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_trainer_that_is_not_there_is_refused(
    tmp_path: Path, command: str, trainer: Any, words: tuple[str, ...]
) -> None:
    campaign = Campaign(tmp_path)
    output = campaign.call(command, campaign.write(trainer=trainer), code=2)
    assert all(word in output for word in words), output
    assert "Traceback" not in output
    assert not campaign.runs.root.exists(), "nothing was made"


def test_a_script_that_has_gone_is_named_by_resume(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    script = tmp_path / "my_trainer.py"
    script.write_text("import sys; sys.exit('not today')", encoding="utf-8")
    file = campaign.write(trainer={"command": ["python", "my_trainer.py"]}, workers={"num_envs": 32, "slots": 1})
    assert "not today" in campaign.call("run", file, code=1)
    assert "my_trainer.py" in campaign.call("check", file)
    script.unlink()
    (tmp_path / "tiny.yaml").unlink()
    output = campaign.call("resume", "tiny", code=2)
    assert f"no such script {script}" in output


@pytest.mark.slow
def test_train_takes_a_trainer(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    small = ("--num-envs=16", "--env-steps=2048", "--threads=1", "--set=ppo.rollouts=16", "--set=env.episode_seconds=1")
    assert "finished after 2,048 env steps" in campaign.call("train", "--trainer=skrl", *small)
    (run,) = (campaign.runs.root / "vbot_navigation_section001").iterdir()
    assert fs.read_json(TrialPaths(run).meta)["trainer"] == "skrl"
    assert "'skrll' is not installed here" in campaign.call("train", "--trainer=skrll", *small, code=2)
