"""The recorder on real trainings of a few thousand env steps: cut off, continued, and continued elsewhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.benchmarks.search.record import export, main, queue_missing
from tests.benchmarks.search.table import (
    CONFIGURATIONS,
    STUDY_FILE,
    TABLE_FILE,
    TEN_FILE,
    Table,
    Training,
    new_table,
    read_table,
    write_table,
)
from vbot_campaign.errors import SpecError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.reading import read_snapshot
from vbot_campaign.study.snapshot import TrialState, TrialView
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import CampaignStudy, close_readers, load_snapshot

ROOT = Path(__file__).parents[3]
SMALL = {
    "env_steps_per_trial: 1_000_000": "env_steps_per_trial: 9_000",
    "num_envs: 192": "num_envs: 8, slots: 1",
    "episode_seconds: 4.0": "episode_seconds: 1.0",
    "every_iterations: 40": "every_iterations: 5",
    "episodes: 128": "episodes: 4",
}


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    text = STUDY_FILE.read_text()
    for whole, small in SMALL.items():
        assert text.count(whole) == 1, whole
        text = text.replace(whole, small)
    file = tmp_path / "four.yaml"
    file.write_text(text)
    # The policy that all trainings start from lies beside the study file.
    shutil.copy(STUDY_FILE.with_name("start.pt"), tmp_path)
    return file


@pytest.fixture
def arguments(study_file: Path) -> list[str]:
    folder = study_file.parent
    return [
        *("--runs", str(folder / "runs"), "--table", str(folder / "curves.json.gz")),
        *("--study", str(study_file), "--configurations", "2"),
    ]


def trials(folder: Path) -> list[TrialView]:
    close_readers()
    return list(load_snapshot(CampaignPaths(folder / "runs"), "search-four").trials)


def kill_with_all_its_processes(recorder: subprocess.Popen[bytes]) -> None:
    processes = [psutil.Process(recorder.pid), *psutil.Process(recorder.pid).children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes)
    recorder.wait()


@pytest.mark.slow
def test_a_recording_that_was_killed_goes_on_and_trains_nothing_twice(tmp_path: Path, arguments: list[str]) -> None:
    recorder = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.search.record", *arguments], cwd=ROOT)
    metrics = None
    while metrics is None or "progress" not in metrics.read_text():
        assert recorder.poll() is None
        metrics = next(tmp_path.glob("runs/search-four/trials/*/metrics.jsonl"), None)
        time.sleep(0.02)
    kill_with_all_its_processes(recorder)

    assert main(arguments) == 0

    table = read_table(tmp_path / "curves.json.gz")
    pairs = [(training.configuration, training.seed) for training in table.trainings]
    assert pairs == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert table.missing == []
    made = trials(tmp_path)
    assert [(trial.origin, trial.seed, trial.state) for trial in made] == [
        (f"configuration {number}", seed, TrialState.COMPLETE) for number, seed in pairs
    ]
    assert [len(trial.attempts) for trial in made] == [2, 1, 1, 1]
    assert [training.score for training in table.trainings] == [round(trial.score or 0.0, 5) for trial in made]
    assert all(training.curve[-1][0] == 9_000 and training.env_steps >= 9_000 for training in table.trainings)
    assert made[0].parameters == made[1].parameters == table.points[0]

    # A whole table has nothing to train, here or elsewhere.
    assert main(arguments) == 0
    assert len(trials(tmp_path)) == 4
    assert queue_missing(CampaignPaths(tmp_path / "elsewhere"), table) == 0


def known(configuration: int, seed: int) -> Training:
    return Training(configuration, seed, ((1000, 0.25),), 0.5, {"success_rate": 0.5}, 9_000, 3.0)


@pytest.mark.slow
def test_elsewhere_only_what_the_table_lacks_is_trained(tmp_path: Path, study_file: Path, arguments: list[str]) -> None:
    file = tmp_path / "curves.json.gz"
    partial = new_table(study_file, 2).with_trainings([known(0, 1), known(0, 2), known(1, 2)])
    write_table(partial, file)

    assert main(arguments) == 0

    assert [(trial.origin, trial.seed) for trial in trials(tmp_path)] == [("configuration 1", 1)]
    whole = read_table(file)
    assert whole.missing == []
    assert [training for training in whole.trainings if training in partial.trainings] == list(partial.trainings)


def test_the_queue_follows_the_table(tmp_path: Path, study_file: Path) -> None:
    paths = CampaignPaths(tmp_path / "runs")
    table = new_table(study_file, 3)

    assert queue_missing(paths, table) == 6
    assert queue_missing(paths, table) == 6
    assert queue_missing(paths, table.with_trainings([known(0, 1), known(2, 2)])) == 4


def test_what_has_ended_is_in_the_table_and_what_failed_otherwise_is_queued_again(
    tmp_path: Path, study_file: Path
) -> None:
    paths, file = CampaignPaths(tmp_path / "runs"), tmp_path / "curves.json.gz"
    table = new_table(study_file, 2)
    queue_missing(paths, table)
    storage = open_storage(paths)
    study = CampaignStudy.open(storage, table.spec.study)
    for _ in range(4):
        study.ask()
    study.report(0, 300, 0.125)
    study.report(0, 600, 0.25)
    study.complete(0, 0.75, {"success_rate": 0.5}, None)
    study.fail(1, "diverged: the loss is not finite")
    study.fail(2, "given up after 3 attempts")
    storage.close()

    grown = export(paths, table, file)

    assert read_table(file) == grown
    assert [(t.configuration, t.seed, t.curve, t.score, t.parts) for t in grown.trainings] == [
        (0, 1, ((300, 0.125), (600, 0.25)), 0.75, {"success_rate": 0.5}),
        (0, 2, (), None, {}),
    ]
    assert grown.trainings[1].reason == "diverged: the loss is not finite"
    # Trial 3, of configuration 1 with seed 2, is still to be trained; with seed 1 it is tried again.
    assert queue_missing(paths, grown) == 1
    assert queue_missing(paths, grown) == 1
    again = read_snapshot(paths, table.spec.study).queue
    assert [(entry.trial.origin, entry.trial.seed) for entry in again] == [("configuration 1", 1)]


def test_a_table_survives_its_file(tmp_path: Path, study_file: Path) -> None:
    file, again = tmp_path / "curves.json.gz", tmp_path / "again.json.gz"
    diverged = Training(1, 2, (), None, {}, 900, 1.5, "diverged: the loss is not finite")
    table = new_table(study_file, 2).with_trainings([known(0, 1), diverged])

    write_table(table, file)
    write_table(read_table(file), again)

    assert read_table(file) == table
    assert file.read_bytes() == again.read_bytes()
    assert table.points == new_table(study_file, 3).points[:2]
    with pytest.raises(SpecError, match=r"no table of this benchmark .*Restore it"):
        read_table(study_file)


def test_a_training_that_is_known_is_not_replaced() -> None:
    table = Table(new_table(configurations=1).spec, ({},), (1, 2), (known(0, 1),))

    assert table.with_trainings([replace(known(0, 1), score=0.9)]) == table


@pytest.mark.parametrize(("file", "configurations"), [(TABLE_FILE, CONFIGURATIONS), (TEN_FILE, 48)])
def test_the_tables_that_are_shipped_are_small_and_of_the_study_files_beside_them(
    file: Path, configurations: int
) -> None:
    table, fresh = read_table(file), new_table(file.with_name(file.name.replace(".json.gz", ".yaml")), configurations)

    assert file.stat().st_size < 2_000_000
    assert (table.spec, table.points, table.seeds) == (fresh.spec, fresh.points, fresh.seeds)
    assert table.missing == []
    steps = {step for training in table.trainings for step, _ in training.curve}
    assert steps <= {1_000_000 * point // 30 for point in range(1, 31)}
