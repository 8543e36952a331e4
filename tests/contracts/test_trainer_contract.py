"""What every trainer owes the supervisor, on real processes: ours, skrl's, and the documented foreign script."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.workers import TINY, tiny_trial, wait_for_iteration
from vbot_campaign import fs
from vbot_campaign.events import EXIT_CODES, Ended, Result, request_stop, stable
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.loading import read_trial_spec
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.training import TrialSpec
from vbot_campaign.study.objective import GridReporter
from vbot_campaign.supervisor.process import command_of
from vbot_campaign.worker.evaluation import evaluate_checkpoint

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
ITERATIONS = 12
EVERY = 5
LONG = 100_000
"""Iterations of a training that nobody wants to see the end of."""


@dataclass(frozen=True)
class Case:
    """A trainer with a training of a dozen iterations."""

    name: str
    trainer: Any
    per_iteration: int
    changes: dict[str, Any] = field(default_factory=dict)

    def trial(self, folder: Path, *, attempt: int = 1, iterations: int = ITERATIONS, **changes: Any) -> TrialPaths:
        """Write the trial.json of an attempt."""
        own = {
            "trainer": self.trainer,
            "env_steps": iterations * self.per_iteration,
            "num_envs": 16,
            "checkpoints": {"every_iterations": EVERY, "keep_last": 2},
            "report_points": 4,
        }
        return tiny_trial(folder, attempt=attempt, **{**own, **self.changes, **changes})

    def start(self, paths: TrialPaths) -> subprocess.Popen[bytes]:
        """Start the worker as a supervisor does."""
        trainer = TrialSpec.model_validate(fs.read_json(paths.spec)).training.trainer
        command, cwd = command_of(trainer)
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with paths.log.open("ab") as log:
            return subprocess.Popen([*command, str(paths.root)], cwd=cwd, stdout=log, stderr=log, env=environ)

    def run(self, paths: TrialPaths) -> Result:
        """Run the worker to its end."""
        code = self.start(paths).wait(timeout=300)
        result = result_of(paths)
        assert code == EXIT_CODES[result.state], paths.log.read_text()
        return result

    def signal_at(self, paths: TrialPaths, iteration: int, number: int) -> int:
        """Start the worker, send it a signal once it has reported an iteration, and return its exit code."""
        process = self.start(paths)
        wait_for_iteration(paths, process, iteration)
        process.send_signal(number)
        return process.wait(timeout=240)


SEARCH = {"command": ["python", "random_search.py"], "folder": str(EXAMPLES)}
CASES = [
    Case("builtin", "builtin", 16 * 16),
    Case("skrl", "skrl", 16 * 16),
    Case("command", SEARCH, 16 * 100, {"ppo": {**TINY["ppo"], "learning_rate": 0.05}}),
]


@pytest.fixture(scope="module", params=CASES, ids=[case.name for case in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def finished(case: Case, tmp_path_factory: pytest.TempPathFactory) -> TrialPaths:
    paths = case.trial(tmp_path_factory.mktemp(case.name))
    result = case.run(paths)
    assert result.state is Ended.FINISHED, paths.log.read_text()
    return paths


def result_of(paths: TrialPaths) -> Result:
    result = Result.read(paths.result)
    assert result is not None, paths.log.read_text()
    return result


def lines(paths: TrialPaths, kind: str = "progress") -> list[dict[str, Any]]:
    return [line for line in fs.read_lines(paths.metrics) if line["kind"] == kind]


def registered(paths: TrialPaths) -> dict[str, dict[str, Any]]:
    """Return the newest line of every checkpoint that was not deleted."""
    newest = {line["file"]: line for line in fs.read_lines(paths.checkpoint_log)}
    return {file: line for file, line in newest.items() if not line.get("deleted")}


# --- a whole training -----------------------------------------------------------------------------------------------


def test_every_iteration_has_its_line(case: Case, finished: TrialPaths) -> None:
    assert [line["iteration"] for line in lines(finished)] == list(range(1, ITERATIONS + 1))
    for line in lines(finished):
        assert line["env_steps"] == line["iteration"] * case.per_iteration
        assert (line["v"], line["attempt"], line["token"]) == (1, 1, "token-1")
        assert line["time"].endswith("Z")
        assert set(line["episodes"]) == set(EpisodeTotals().as_dict())


def test_the_lines_give_a_score_at_the_points_of_the_grid(case: Case, finished: TrialPaths) -> None:
    reporter = GridReporter(read_trial_spec(finished.spec).training)
    reports = [report for line in lines(finished) for report in reporter.feed(line)]
    steps = [report.env_step for report in reports]
    grid = [ITERATIONS * case.per_iteration * point // 4 for point in (1, 2, 3, 4)]
    # Before an episode has ended there is no score.
    assert steps == grid[-len(steps) :]
    assert len(steps) >= 2
    assert all(0.0 <= report.score <= 1.0 for report in reports)


def test_the_score_is_that_of_the_studys_evaluation(finished: TrialPaths) -> None:
    result, training = result_of(finished), read_trial_spec(finished.spec).training
    assert (result.token, result.attempt, result.iteration) == ("token-1", 1, ITERATIONS)
    assert result.best_checkpoint is not None
    again = evaluate_checkpoint(finished.checkpoints / result.best_checkpoint, training=training, threads=1)
    assert again.episodes.finished == 8
    assert result.episodes == again.episodes.as_dict()
    assert result.parts == again.parts
    assert result.score == pytest.approx(again.score, rel=1e-12)
    assert lines(finished, "evaluation")[-1]["score"] is not None


def test_checkpoints_are_registered_with_their_hash(case: Case, finished: TrialPaths) -> None:
    files = {path.name for path in finished.checkpoints.iterdir() if path.is_file()} - {"checkpoints.jsonl"}
    assert set(registered(finished)) == files
    for file, line in registered(finished).items():
        path = finished.checkpoints / file
        assert (fs.sha256(path), path.stat().st_size) == (line["sha256"], line["bytes"])
        assert line["env_steps"] == line["iteration"] * case.per_iteration
    points = [line["iteration"] for line in registered(finished).values() if line["kind"] == "resume"]
    assert sorted(points) == [2 * EVERY, ITERATIONS], "two are kept"
    assert registered(finished)["best_agent.pt"]["score"] == pytest.approx(result_of(finished).score)


# --- stopped --------------------------------------------------------------------------------------------------------


def test_a_pruned_training_stops_with_a_checkpoint(case: Case, tmp_path: Path) -> None:
    paths = case.trial(tmp_path, iterations=LONG)
    request_stop(paths.stop_request, "stop", token="an older attempt")
    process = case.start(paths)
    wait_for_iteration(paths, process, 2)
    request_stop(paths.stop_request, "pruned", token="token-1")
    assert process.wait(timeout=240) == 0, paths.log.read_text()
    result = result_of(paths)
    assert (result.state, result.reason, result.token) == (Ended.STOPPED, "pruned", "token-1")
    assert result.score is None
    assert_checkpoint_of_the_end(paths, result)


def test_sigterm_stops_with_a_checkpoint(case: Case, tmp_path: Path) -> None:
    paths = case.trial(tmp_path, iterations=LONG)
    assert case.signal_at(paths, 2, signal.SIGTERM) == 0
    result = result_of(paths)
    assert (result.state, result.reason) == (Ended.STOPPED, "signal SIGTERM")
    assert_checkpoint_of_the_end(paths, result)


def assert_checkpoint_of_the_end(paths: TrialPaths, result: Result) -> None:
    assert result.env_steps == lines(paths)[-1]["env_steps"]
    assert result.last_checkpoint is not None
    line = registered(paths)[result.last_checkpoint]
    assert (line["kind"], line["env_steps"]) == ("resume", result.env_steps)
    assert fs.sha256(paths.checkpoints / result.last_checkpoint) == line["sha256"]


# --- killed ---------------------------------------------------------------------------------------------------------


def killed_in_its_middle(case: Case, folder: Path) -> TrialPaths:
    """Return a trial whose worker was killed behind its first checkpoint; where a worker was quicker, try another."""
    for number in range(5):
        paths = case.trial(folder / str(number))
        code = case.signal_at(paths, EVERY + 2, signal.SIGKILL)
        if code == -signal.SIGKILL and lines(paths)[-1]["iteration"] < ITERATIONS:
            assert not paths.result.exists()
            return paths
        assert code in (0, -signal.SIGKILL), paths.log.read_text()
    pytest.fail("five workers were quicker than the signal")


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(case: Case, finished: TrialPaths, tmp_path: Path) -> None:
    paths = killed_in_its_middle(case, tmp_path)
    case.trial(paths.root, attempt=2)
    result = case.run(paths)
    assert (result.state, result.attempt, result.token) == (Ended.FINISHED, 2, "token-2")
    iterations = {attempt: [x["iteration"] for x in lines(paths) if x["attempt"] == attempt] for attempt in (1, 2)}
    point = iterations[1][-1]
    assert point in (EVERY, 2 * EVERY), "cut behind the checkpoint that it went on from"
    assert iterations == {1: list(range(1, point + 1)), 2: list(range(point + 1, ITERATIONS + 1))}
    for kind in ("progress", "evaluation"):
        assert [stable(line) for line in lines(paths, kind)] == [stable(line) for line in lines(finished, kind)]
    assert result.score == result_of(finished).score


@pytest.mark.slow
def test_an_altered_checkpoint_costs_one_interval(case: Case, tmp_path: Path) -> None:
    paths = case.trial(tmp_path)
    case.run(paths)
    newest = paths.checkpoints / str(result_of(paths).last_checkpoint)
    newest.write_bytes(newest.read_bytes()[:-100])
    case.trial(tmp_path, attempt=2)
    assert case.run(paths).state is Ended.FINISHED
    assert [line["attempt"] for line in lines(paths)] == [1] * 2 * EVERY + [2] * (ITERATIONS - 2 * EVERY)
    assert (paths.quarantine / newest.name).is_file()
    assert newest.name in paths.log.read_text()


# --- faults ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_trained_is_invalid(case: Case, tmp_path: Path) -> None:
    paths = case.trial(tmp_path, reward={"arrival_bonsu": 3.0})
    assert case.start(paths).wait(timeout=240) == 2, paths.log.read_text()
    result = result_of(paths)
    assert (result.state, result.token) == (Ended.INVALID, "token-1")
    assert "arrival_bonus" in result.reason
    assert "Traceback" in (result.error or "")
    assert lines(paths) == []


@pytest.mark.slow
def test_a_folder_has_one_worker(case: Case, tmp_path: Path) -> None:
    paths = case.trial(tmp_path, iterations=LONG)
    first = case.start(paths)
    wait_for_iteration(paths, first, 1)
    assert fs.is_locked(paths.lock), "this is how a supervisor knows that it lives"
    assert case.start(paths).wait(timeout=240) == 3
    assert not paths.result.exists(), "the second worker touched nothing"
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=240) == 0
    assert not fs.is_locked(paths.lock)
