"""`verify` finds whatever database, mirrors and disk do not agree on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.snapshots import (
    STEPS,
    make_attempt,
    make_failed,
    make_pruned,
    make_running,
    make_snapshot,
    make_trial,
    progress_line,
    write_study,
)
from vbot_campaign import fs
from vbot_campaign.events import Ended, Result
from vbot_campaign.exporters.mirrors import MirrorExporter
from vbot_campaign.exporters.verify import Difference, render_differences, verify_snapshot
from vbot_campaign.paths import CampaignPaths, StudyPaths, TrialPaths
from vbot_campaign.study.snapshot import StudySnapshot, TrialState


class OnDisk:
    """A finished study with its folders and mirrors."""

    def __init__(self, root: Path) -> None:
        self.paths = CampaignPaths(root)
        trials = (make_trial(0), make_pruned(1), make_failed(2))
        self.snapshot = write_study(self.paths, make_snapshot(state="finished", trials=trials))
        self.export()

    def export(self) -> None:
        MirrorExporter(self.paths, "walk").update(self.snapshot)

    @property
    def study(self) -> StudyPaths:
        return self.paths.study("walk")

    def folder(self, trial: int) -> TrialPaths:
        return TrialPaths(self.study.root / str(self.snapshot.trials[trial].folder))

    def verify(self, snapshot: StudySnapshot | None = None) -> list[Difference]:
        return verify_snapshot(self.paths, snapshot or self.snapshot)


@pytest.fixture
def disk(tmp_path: Path) -> OnDisk:
    return OnDisk(tmp_path / "runs")


def flip_a_byte(disk: OnDisk) -> None:
    content = bytearray(disk.folder(0).best_checkpoint.read_bytes())
    content[100] ^= 1
    disk.folder(0).best_checkpoint.write_bytes(content)


def cut_the_checkpoint(disk: OnDisk) -> None:
    content = disk.folder(0).best_checkpoint.read_bytes()
    disk.folder(0).best_checkpoint.write_bytes(content[:-7])


def remove_a_folder(disk: OnDisk) -> None:
    folder = disk.folder(1)
    for path in (folder.spec, folder.metrics):
        path.unlink()
    folder.checkpoints.rmdir()
    folder.root.rmdir()


def edit_the_score(disk: OnDisk) -> None:
    text = disk.study.index.read_text()
    disk.study.index.write_text(text.replace("score: 0.6", "score: 0.9"))


def double_an_iteration(disk: OnDisk) -> None:
    fs.append_line(disk.folder(0).metrics, progress_line(12, STEPS))


def cut_the_metrics(disk: OnDisk) -> None:
    lines = disk.folder(0).metrics.read_text().splitlines(keepends=True)
    disk.folder(0).metrics.write_text("".join(lines[:6]))


def change_the_result(disk: OnDisk) -> None:
    Result(Ended.FINISHED, "finished", 1, STEPS, 12, score=0.7).write(disk.folder(0).result)


def train_with_another_rate(disk: OnDisk) -> None:
    given = fs.read_json(disk.folder(0).spec)
    given["training"]["ppo"]["learning_rate"] = 0.001
    fs.write_json(disk.folder(0).spec, given)


def sample_another_rate(disk: OnDisk) -> None:
    given = fs.read_json(disk.folder(0).spec)
    given["parameters"]["ppo.learning_rate"] = 0.001
    fs.write_json(disk.folder(0).spec, given)


def log_a_removal(disk: OnDisk) -> None:
    fs.append_line(disk.folder(0).checkpoint_log, {"file": "best_agent.pt", "deleted": True})


PLANTED: list[tuple[Callable[[OnDisk], object], str, str, str]] = [
    (flip_a_byte, "checkpoint", "best_agent.pt", "sha256"),
    (cut_the_checkpoint, "checkpoint", "best_agent.pt", "bytes long"),
    (lambda disk: disk.folder(0).best_checkpoint.unlink(), "checkpoint", "best_agent.pt", "missing"),
    (lambda disk: disk.folder(0).checkpoint(7).write_bytes(b"?"), "checkpoint", "agent_7.pt", "no line"),
    (log_a_removal, "checkpoint", "best_agent.pt", "no line"),
    (remove_a_folder, "trial", "0001_", "folder of trial 1 is missing"),
    (lambda disk: disk.folder(0).spec.write_text("{"), "trial", "trial.json", "cannot be read"),
    (lambda disk: disk.folder(0).result.write_text("[]"), "trial", "result.json", "cannot be read"),
    (train_with_another_rate, "trial", "trial.json", "training.ppo.learning_rate is 0.001, the database has 0.0003"),
    (sample_another_rate, "trial", "trial.json", "parameters.ppo.learning_rate is 0.001, the database has 0.0003"),
    (change_the_result, "trial", "result.json", "score is 0.7, the database has 0.6"),
    (double_an_iteration, "metrics", "metrics.jsonl", "iteration 12 follows 12"),
    (cut_the_metrics, "metrics", "metrics.jsonl", "ends at env step 300000, the database has 600000"),
    (edit_the_score, "mirror", "index.yaml", "experiments[0].score is 0.9, the database has 0.6"),
    (lambda disk: disk.study.registry.unlink(), "mirror", "registry.yaml", "missing"),
    (lambda disk: disk.study.automl_state.write_text("a: [b"), "mirror", "automl_state.yaml", "not valid YAML"),
    (lambda disk: disk.study.automl_state.write_text(""), "mirror", "automl_state.yaml", "the file is None"),
    (lambda disk: disk.study.config(1).unlink(), "mirror", "configs/trial_0001.yaml", "missing"),
    (lambda disk: disk.study.experiment(9).write_text("{}"), "mirror", "experiments/trial_0009.yaml", "no trial"),
]


def test_an_untouched_study_agrees(disk: OnDisk) -> None:
    assert disk.verify() == []
    assert render_differences("walk", []) == "walk: database, mirrors and disk agree."


@pytest.mark.parametrize(("plant", "kind", "path", "message"), PLANTED)
def test_every_planted_difference_is_found(
    disk: OnDisk, plant: Callable[[OnDisk], object], kind: str, path: str, message: str
) -> None:
    plant(disk)
    found = disk.verify()
    assert any(d.kind == kind and path in d.path and message in d.message for d in found), found


@pytest.mark.parametrize("plant", [flip_a_byte, cut_the_checkpoint, edit_the_score])
def test_one_difference_is_reported_once(disk: OnDisk, plant: Callable[[OnDisk], object]) -> None:
    plant(disk)
    files = {difference.path for difference in disk.verify()}
    assert len(files) == 1


def test_fewer_environments_after_an_out_of_memory_error_are_no_difference(disk: OnDisk) -> None:
    given = fs.read_json(disk.folder(0).spec)
    given["training"]["num_envs"] = 128
    fs.write_json(disk.folder(0).spec, given)
    disk.export()
    assert disk.verify() == []


def test_a_trial_left_open_by_a_dead_supervisor_is_named(disk: OnDisk) -> None:
    attempt = make_attempt(ended=None, reason=None, exit_code=None)
    open_trial = make_running(3, state=TrialState.WAITING, attempts=(attempt,), env_steps=0, folder=None)
    disk.snapshot = replace(disk.snapshot, state="stopped", trials=(*disk.snapshot.trials, open_trial))
    disk.export()
    [difference] = disk.verify()
    assert difference.kind == "unfinished"
    assert "vbot-campaign resume walk" in render_differences("walk", [difference])


def test_an_interrupted_trial_that_was_closed_is_no_difference(disk: OnDisk) -> None:
    waiting = make_running(3, state=TrialState.WAITING, attempts=(make_attempt(),), env_steps=0, folder=None)
    disk.snapshot = replace(disk.snapshot, state="stopped", trials=(*disk.snapshot.trials, waiting))
    disk.export()
    assert disk.verify() == []


def test_under_a_live_supervisor_only_settled_trials_are_compared(disk: OnDisk) -> None:
    # Not settled by this clock, however long the machine stands still.
    just_ended = replace(disk.snapshot.trials[1], ended=datetime.now(UTC) + timedelta(hours=1))
    moving = replace(
        disk.snapshot,
        state="running",
        supervisor={"host": "box", "pid": 1},
        hours_used=1.5,
        trials=(disk.snapshot.trials[0], just_ended, disk.snapshot.trials[2], make_running(3)),
    )
    assert disk.verify(moving) == []
    flip_a_byte(disk)
    edit_the_score(disk)
    assert {d.kind for d in disk.verify(moving)} == {"checkpoint", "mirror"}


def test_the_lock_of_a_supervisor_counts_as_alive(disk: OnDisk) -> None:
    moving = replace(disk.snapshot, state="running", trials=(*disk.snapshot.trials, make_running(3)))
    assert disk.verify(moving) != []
    with fs.hold_lock(disk.study.supervisor_lock, what="study walk"):
        assert disk.verify(moving) == []


def test_an_old_mirror_does_not_fill_the_screen(disk: OnDisk) -> None:
    disk.study.automl_state.write_text("schema_version: 1\nstudy: walk\n")
    found = [d for d in disk.verify() if d.kind == "mirror"]
    assert len(found) == 6
    assert "more" in found[-1].message
    report = render_differences("walk", found)
    assert report.startswith("walk: 6 differences.")
    assert report.endswith("Mirrors are made again by: vbot-campaign export walk")
