"""What a worker leaves in its folder, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.workers import kill_at_iteration, run_worker, start_worker, tiny_trial, wait_for_iteration
from vbot_campaign import fs
from vbot_campaign.events import EXIT_CODES, Ended, Result, request_stop
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.outcomes import EpisodeTotals

SKRL_TAGS = {
    "Reward / Total reward (mean)",
    "Reward / Instantaneous reward (mean)",
    "Episode / Total timesteps (mean)",
    "Loss / Policy loss",
    "Loss / Value loss",
    "Loss / Entropy loss",
    "Policy / Standard deviation",
    "Learning / Learning rate",
}
"""As skrl's PPO names them."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> TrialPaths:
    paths = tiny_trial(tmp_path_factory.mktemp("finished"))
    assert run_worker(paths).state is Ended.FINISHED
    return paths


def result_of(paths: TrialPaths) -> Result:
    result = Result.read(paths.result)
    assert result is not None
    return result


def test_result_holds_the_evaluation(finished: TrialPaths) -> None:
    result = result_of(finished)
    assert result.env_steps == 48 * 512
    assert result.iteration == 48
    assert result.token == "token-1"
    assert result.episodes is not None
    totals = EpisodeTotals.from_dict(result.episodes)
    assert totals.finished == 8
    assert result.parts == totals.parts()
    assert result.score == pytest.approx(
        0.6 * 0 + 0.25 * result.parts["survival_rate"] + 0.15 * result.parts["goal_progress"]
    )
    assert result.score >= (result.final_score or 0)


def test_progress_lines_are_complete(finished: TrialPaths) -> None:
    lines = [line for line in fs.read_lines(finished.metrics) if line["kind"] == "progress"]
    assert [line["iteration"] for line in lines] == list(range(1, 49))
    assert [line["env_steps"] for line in lines] == [512 * i for i in range(1, 49)]
    for line in lines:
        assert sum(line["terms"].values()) == pytest.approx(line["reward_mean"], rel=1e-4, abs=1e-4)
        assert sum(line["timing"]["shares"].values()) == pytest.approx(1.0, abs=0.001)
        assert set(line["loss"]) == {"policy", "value", "entropy"}
        assert line["memory"]["rss_mb"] > 0
    rates = [line["learning_rate"] for line in lines]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(1e-5)


def test_checkpoints_are_hashed_thinned_out_and_readable_without_running_code(finished: TrialPaths) -> None:
    alive = {}
    for line in fs.read_lines(finished.checkpoint_log):
        alive[line["file"]] = line
    alive = {file: line for file, line in alive.items() if not line.get("deleted")}
    assert set(alive) == {f"agent_{42 * 512}.pt", f"agent_{48 * 512}.pt", "best_agent.pt"}
    assert set(alive) == {path.name for path in finished.checkpoints.glob("*.pt")}
    for file, line in alive.items():
        assert fs.sha256(finished.checkpoints / file) == line["sha256"]
        assert (finished.checkpoints / file).stat().st_size == line["bytes"]
    assert alive["best_agent.pt"]["score"] == result_of(finished).score


def test_meta_says_what_really_ran(finished: TrialPaths) -> None:
    meta = fs.read_json(finished.meta)
    assert meta["rl_overrides"]["rollouts"] == 16
    assert meta["reward_scales"]["arrival_bonus"] == 100.0
    assert meta["env_overrides"]["episode_seconds"] == 1.0
    assert meta["versions"]["torch"]
    assert meta["seed"] == 7


def test_tensorboard_has_curves_and_hparams(finished: TrialPaths) -> None:
    events = EventAccumulator(str(finished.root)).Reload()
    tags = events.Tags()["scalars"]
    groups = {tag.split("/")[0] for tag in tags if " / " not in tag}
    assert groups == {"Score", "Outcome", "Reward terms", "Loss", "Policy", "Speed"}
    assert {tag for tag in tags if " / " in tag} == SKRL_TAGS
    assert [e.step for e in events.Scalars("Loss/policy")] == [512 * i for i in range(1, 49)]
    assert events.Scalars("Loss / Policy loss")[7].value == events.Scalars("Loss/policy")[7].value
    final = [(e.step, e.value) for e in events.Scalars("Score/final score")]
    assert final == [(48 * 512, pytest.approx(result_of(finished).score))]
    assert set(events.PluginTagToContent("hparams")) == {
        "_hparams_/experiment",
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    }


def test_a_pruned_trial_has_its_last_score_among_the_hparams_and_a_stopped_one_has_none(tmp_path: Path) -> None:
    ended = {}
    for reason in ("pruned", "stop"):
        paths = tiny_trial(tmp_path / reason, env_steps=512 * 4000, report_points=200)
        process = start_worker(paths)
        wait_for_iteration(paths, process, 25)  # a point of the grid is every 20
        request_stop(paths.stop_request, reason, token="token-1")
        assert process.wait(timeout=240) == 0, paths.log.read_text()
        ended[reason] = EventAccumulator(str(paths.root)).Reload()
    tags = ended["pruned"].Tags()["scalars"]
    assert ended["pruned"].Scalars("Score/final score")[-1].value == pytest.approx(
        ended["pruned"].Scalars("Score/score (training episodes)")[-1].value
    )
    assert ended["pruned"].PluginTagToContent("hparams")
    assert "Score/final score" in tags
    assert "Score/final score" not in ended["stop"].Tags()["scalars"], "it goes on"


def test_resumed_curves_have_no_saw_tooth(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path)
    kill_at_iteration(paths, 10)
    time.sleep(1.1)  # event files are named by the second; the later attempt must sort after the first
    tiny_trial(tmp_path, attempt=2)
    run_worker(paths)
    events = EventAccumulator(str(paths.root)).Reload()
    assert [e.step for e in events.Scalars("Loss/value")] == [512 * i for i in range(1, 49)]


def test_stop_request_is_meant_for_one_attempt(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path, env_steps=512 * 4000)
    request_stop(paths.stop_request, "pruned", token="an older attempt")
    process = start_worker(paths)
    wait_for_iteration(paths, process, 3)
    request_stop(paths.stop_request, "pruned", token="token-1")
    assert process.wait(timeout=240) == 0
    result = result_of(paths)
    assert (result.state, result.reason, result.score) == (Ended.STOPPED, "pruned", None)
    assert (paths.checkpoints / (result.last_checkpoint or "")).is_file()


def test_a_folder_has_one_worker(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path, env_steps=512 * 4000)
    first = start_worker(paths)
    wait_for_iteration(paths, first, 1)
    assert fs.is_locked(paths.lock)
    assert start_worker(paths).wait(timeout=240) == 3
    assert not paths.result.exists(), "the second worker touched nothing"
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=240) == 0
    assert not fs.is_locked(paths.lock)


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"environment": "vbot_navigation_section01"}, Ended.INVALID, "vbot_navigation_section001"),
        ({"reward": {"arrival_bonsu": 3.0}}, Ended.INVALID, "arrival_bonus"),
        (
            {"ppo": {"learning_rate": 0.9, "rollouts": 16, "grad_norm_clip": 0.0}, "reward": {"alive_bonus": 1e30}},
            Ended.DIVERGED,
            "iteration",
        ),
    ],
)
def test_errors_have_a_class_an_exit_code_and_a_reason(
    tmp_path: Path, changes: dict[str, object], state: Ended, words: str
) -> None:
    paths = tiny_trial(tmp_path, **changes)
    code = start_worker(paths).wait(timeout=240)
    result = result_of(paths)
    assert result.state is state, result.reason
    assert code == EXIT_CODES[state]
    assert words in result.reason
    assert result.error is not None
    assert result.score is None
    assert "Traceback" in paths.log.read_text()


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_a_bad_checkpoint_costs_one_interval(tmp_path: Path, damage: str) -> None:
    paths = tiny_trial(tmp_path)
    kill_at_iteration(paths, 16)
    newest = max(paths.checkpoints.glob("agent_*.pt"), key=lambda path: int(path.stem.split("_")[1]))
    content = newest.read_bytes()
    if damage == "truncated":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "altered":
        newest.write_bytes(content[:-100] + b"x" + content[-99:])
    else:
        newest.unlink()
    tiny_trial(tmp_path, attempt=2)
    assert run_worker(paths).state is Ended.FINISHED
    assert newest.name in paths.log.read_text()
    assert (paths.quarantine / newest.name).exists() is (damage != "missing")
    iterations = [line["iteration"] for line in fs.read_lines(paths.metrics) if line["kind"] == "progress"]
    assert iterations == list(range(1, 49))


def test_without_arguments_it_says_how_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-m", "vbot_campaign.worker"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "TRIAL_DIR" in done.stderr
