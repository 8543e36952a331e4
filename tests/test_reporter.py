"""The module that foreign scripts copy: needs nothing, says the same as we do, and ends well whatever happens."""

from __future__ import annotations

import ast
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.workers import tiny_trial
from vbot_campaign import events, fs, reporter
from vbot_campaign.events import Ended, Result
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.loading import read_trial_spec
from vbot_campaign.spec.objective import Objective
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.study.objective import GridReporter

SOURCE = Path(reporter.__file__)

TOTALS = EpisodeTotals(
    finished=40, success=10, reached=14, fell_before=6, fell_after=4, out_of_bounds=2, timed_out=18,
    goal_progress=21.5, time_to_goal=320.0, length=31_000.0, reward=512.5, final_distance=80.0,
)  # fmt: skip


def run(paths: TrialPaths, train: Any) -> tuple[int, Result]:
    code = reporter.main(train, [str(paths.root)])
    result = Result.read(paths.result)
    assert result is not None
    assert not fs.is_locked(paths.lock)
    return code, result


# --- alone ----------------------------------------------------------------------------------------------------------


def test_it_imports_the_standard_library_only_and_is_python_39() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 9))
    names = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in (node.names if isinstance(node, ast.Import) else [ast.alias(str(node.module))])
    }
    assert names <= set(sys.stdlib_module_names)


def test_a_copy_of_it_runs_where_nothing_is_installed(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path / "trial")
    shutil.copy(SOURCE, tmp_path / "reporter.py")
    script = (
        "import sys\n"
        "import reporter\n"
        "def train(trial):\n"
        "    for number in range(1, 4):\n"
        "        trial.progress(number * 100, {'finished': 4, 'success': number})\n"
        "    trial.checkpoint(lambda file: file.write(b'weights'))\n"
        "    return trial.finished({'finished': 8, 'success': 6})\n"
        "sys.exit(reporter.main(train))\n"
    )
    (tmp_path / "mine.py").write_text(script, encoding="utf-8")
    # -S: no installed package can be found.
    done = subprocess.run([sys.executable, "-S", "mine.py", str(paths.root)], cwd=tmp_path, timeout=240, check=False)
    assert done.returncode == 0
    result = Result.read(paths.result)
    assert result is not None
    assert (result.state, result.token, result.env_steps) == (Ended.FINISHED, "token-1", 300)
    # 0.6 * success 0.75 + 0.25 * survival 1 + 0.15 * progress 0.
    assert result.score == pytest.approx(0.7)


# --- the same words as ours -----------------------------------------------------------------------------------------


def test_codes_states_and_sums_are_ours() -> None:
    assert {state.value: code for state, code in events.EXIT_CODES.items()} == reporter.EXIT_CODES
    assert tuple(EpisodeTotals().as_dict()) == reporter.EPISODE_SUMS
    assert events.EVENT_SCHEMA == reporter.PROTOCOL
    assert reporter._now()[:18] == events.utc_now()[:18] or reporter._now()[-1] == "Z"


@pytest.mark.parametrize(
    "terms",
    [
        {"success_rate": 0.6, "survival_rate": 0.25, "goal_progress": 0.15},
        {"time_to_goal": 0.5, "episode_length": {"weight": 0.5, "scale": 900, "invert": True}},
        {"episode_reward_mean": {"weight": 2.0, "scale": 20}, "time_to_goal": {"weight": 1, "invert": False}},
    ],
)
def test_scores_are_ours(terms: dict[str, Any]) -> None:
    objective = Objective.model_validate(terms)
    parts = TOTALS.parts()
    assert parts is not None
    assert reporter.score_parts(TOTALS.as_dict()) == parts
    assert reporter.objective_score(objective.model_dump(mode="json"), parts) == pytest.approx(
        objective.score(parts), rel=1e-15
    )


def test_its_lines_are_heard_by_the_supervisor(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path, env_steps=10_000)

    def train(trial: reporter.Trial) -> dict[str, Any]:
        for number in range(1, 11):
            trial.progress(number * 1000, TOTALS.as_dict(), loss={"policy": np.float32(0.5), "value": math.nan})
        return trial.finished(TOTALS.as_dict())

    assert run(paths, train)[0] == 0
    grid = GridReporter(read_trial_spec(paths.spec).training)
    reports = [
        report for line in fs.read_lines(paths.metrics) if line["kind"] == "progress" for report in grid.feed(line)
    ]
    assert [report.env_step for report in reports] == [1000 * number for number in range(1, 11)]
    assert fs.read_lines(paths.metrics)[0]["loss"] == {"policy": 0.5, "value": None}


def test_a_misspelt_sum_is_an_error_and_not_a_zero(tmp_path: Path) -> None:
    code, result = run(tiny_trial(tmp_path), lambda trial: trial.progress(100, {"finished": 1, "sucess": 1}))
    assert (code, result.state) == (1, Ended.FAILED)
    assert "sucess" in result.reason
    assert "success" in result.reason


# --- ends -----------------------------------------------------------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    """Named as torch's is."""


@pytest.mark.parametrize(
    ("error", "code", "state"),
    [
        (reporter.Diverged("loss is NaN"), 10, Ended.DIVERGED),
        (reporter.Invalid("no such robot"), 2, Ended.INVALID),
        (OutOfMemoryError("CUDA out of memory"), 11, Ended.OUT_OF_MEMORY),
        (MemoryError(), 11, Ended.OUT_OF_MEMORY),
        (KeyError("weights"), 1, Ended.FAILED),
        (SystemExit("enough"), 1, Ended.FAILED),
    ],
)
def test_every_error_becomes_a_result(tmp_path: Path, error: BaseException, code: int, state: Ended) -> None:
    paths = tiny_trial(tmp_path)

    def train(trial: reporter.Trial) -> dict[str, Any]:
        trial.progress(512)
        trial.checkpoint(lambda file: file.write(b"one"))
        raise error

    found, result = run(paths, train)
    assert (found, result.state, result.token) == (code, state, "token-1")
    assert (result.env_steps, result.iteration, result.last_checkpoint) == (512, 1, "agent_512.pt")
    assert str(error).strip("'") in result.reason
    assert result.error is not None
    assert "Traceback" in result.error


def test_a_script_that_forgets_its_result_has_failed(tmp_path: Path) -> None:
    code, result = run(tiny_trial(tmp_path), lambda trial: None)
    assert (code, result.state) == (1, Ended.FAILED)
    assert "trial.finished" in result.reason


@pytest.mark.parametrize("content", [None, "{", '{"schema_version": 2, "training": {}}'])
def test_a_trial_of_another_version_is_invalid(tmp_path: Path, content: str | None) -> None:
    paths = TrialPaths(tmp_path)
    if content is not None:
        paths.spec.write_text(content, encoding="utf-8")
    code, result = run(paths, lambda trial: trial.stopped("never"))
    assert (code, result.state) == (2, Ended.INVALID)
    assert "trial.json" in result.reason


def test_a_second_signal_does_what_it_always_does(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path)
    script = (
        "import time; from vbot_campaign import reporter\n"
        "reporter.main(lambda trial: [trial.progress(1), time.sleep(600)])"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(paths.root)])
    deadline = time.monotonic() + 240
    while not fs.read_lines(paths.metrics):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert process.poll() is None, "the first one only asks"
    while process.poll() is None:  # two of which none was heard yet count as one
        assert time.monotonic() < deadline
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert process.returncode == -signal.SIGTERM
    assert not paths.result.exists()


def test_without_a_folder_it_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert reporter.main(lambda trial: {}, []) == 2
    assert "TRIAL_DIR" in capsys.readouterr().err


# --- checkpoints ----------------------------------------------------------------------------------------------------


def write_points(paths: TrialPaths, count: int) -> None:
    def train(trial: reporter.Trial) -> dict[str, Any]:
        for _ in range(count):
            trial.progress(trial.env_steps + 100)
            trial.checkpoint(lambda file: file.write(str(trial.iteration).encode()))
        trial.checkpoint(lambda file: file.write(b"best"), best=True, score=0.5)
        return trial.stopped("enough")

    run(paths, train)


def resumed(paths: TrialPaths) -> tuple[str | None, int, int]:
    found: list[tuple[str | None, int, int]] = []

    def train(trial: reporter.Trial) -> dict[str, Any]:
        content = trial.resume_file.read_text() if trial.resume_file else None
        found.append((content, trial.iteration, trial.env_steps))
        return trial.stopped("looked")

    run(paths, train)
    return found[0]


def test_the_newest_points_stay_and_the_others_are_said_to_be_gone(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path)
    write_points(paths, 5)
    assert sorted(path.name for path in paths.checkpoints.glob("*.pt")) == [
        "agent_400.pt",
        "agent_500.pt",
        "best_agent.pt",
    ]
    gone = [line["file"] for line in fs.read_lines(paths.checkpoint_log) if line.get("deleted")]
    assert gone == ["agent_100.pt", "agent_200.pt", "agent_300.pt"]
    assert resumed(paths) == ("5", 5, 500)


def test_a_file_without_its_line_does_not_exist(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path)
    write_points(paths, 2)
    (paths.checkpoints / "agent_900.pt").write_bytes(b"9")
    (paths.checkpoints / ".agent_950.pt.abc.part").write_bytes(b"half")
    with paths.checkpoint_log.open("a", encoding="utf-8") as log:
        log.write('{"file": "agent_900.pt", "env_ste')
    assert resumed(paths) == ("2", 2, 200)
    assert not list(paths.checkpoints.glob(".*.part"))


def test_a_resume_cuts_what_comes_behind_the_point(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path)
    write_points(paths, 3)
    (paths.checkpoints / "agent_300.pt").write_bytes(b"altered")
    assert resumed(paths) == ("2", 2, 200)
    assert [line["iteration"] for line in fs.read_lines(paths.metrics)] == [1, 2]
    assert not paths.best_checkpoint.exists(), "it belongs to a future that is trained again"
    assert (paths.quarantine / "agent_300.pt").read_bytes() == b"altered"


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path)

    def train(trial: reporter.Trial) -> dict[str, Any]:
        trial.progress(100)
        trial.checkpoint(lambda file: file.write(b"good"))
        trial.checkpoint(lambda file: [file.write(b"ba"), json.loads("{")])
        return trial.stopped("never")

    assert run(paths, train)[1].state is Ended.FAILED
    assert (paths.checkpoints / "agent_100.pt").read_bytes() == b"good"
    assert not list(paths.checkpoints.glob(".*.part"))


# --- fenced, and out of room ----------------------------------------------------------------------------------------


def everything(paths: TrialPaths) -> dict[str, bytes]:
    """Return the content of every file of a folder but the lock and what the system wrote."""
    files = (path for path in paths.root.rglob("*") if path.is_file() and path not in (paths.lock, paths.log))
    return {path.relative_to(paths.root).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "write",
    [
        lambda trial: trial.stop_reason(),
        lambda trial: trial.progress(1024),
        lambda trial: trial.alert("a word"),
        lambda trial: trial.checkpoint(lambda file: file.write(b"two")),
        lambda trial: trial.finished({"finished": 1}),
        lambda trial: None,
    ],
)
def test_an_attempt_that_lost_its_folder_writes_nothing_more(tmp_path: Path, write: Any) -> None:
    paths = tiny_trial(tmp_path)
    before: dict[str, bytes] = {}

    def train(trial: reporter.Trial) -> Any:
        trial.progress(512)
        trial.checkpoint(lambda file: file.write(b"one"))
        tiny_trial(tmp_path, attempt=2)
        Result(Ended.FINISHED, "by the later attempt", 2, 512, 1, token="token-2").write(paths.result)
        before.update(everything(paths))
        write(trial)
        return trial.stopped("late")

    assert reporter.main(train, [str(tmp_path)]) == events.EXIT_FENCED == reporter.EXIT_FENCED
    assert everything(paths) == before


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (OSError(28, "No space left on device"), "disk_full"),
        (OSError(27, "File too large"), "disk_full"),
        (PermissionError(13, "Permission denied"), "failed"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), "out_of_memory"),
        (RuntimeError("another one"), "failed"),
    ],
)
def test_a_lack_of_room_has_a_class_of_its_own(tmp_path: Path, error: Exception, state: str) -> None:
    def train(trial: reporter.Trial) -> Any:
        raise error

    code, result = run(tiny_trial(tmp_path), train)
    assert (code, result.state) == (reporter.EXIT_CODES[state], Ended(state))


def test_an_evaluation_that_was_cut_off_after_its_line_is_written_once(tmp_path: Path) -> None:
    paths = tiny_trial(tmp_path)

    def train(trial: reporter.Trial) -> Any:
        if trial.resume_file is None:
            trial.progress(512)
            trial.checkpoint(lambda file: file.write(b"one"))
        return trial.finished({"finished": 8, "success": 6})

    run(paths, train)
    paths.result.unlink()
    run(paths, train)
    assert [line["kind"] for line in fs.read_lines(paths.metrics)] == ["progress", "evaluation"]
