"""What a trial folder shows to someone who watches it from outside."""

from __future__ import annotations

from pathlib import Path

from vbot_campaign import fs
from vbot_campaign.chaos.progress import Repeat, StudyProgress, whole_resume_points
from vbot_campaign.paths import StudyPaths, TrialPaths


def write(folder: TrialPaths, attempt: int, env_steps: list[int]) -> None:
    folder.root.mkdir(parents=True, exist_ok=True)
    for steps in env_steps:
        fs.append_line(folder.metrics, {"kind": "progress", "attempt": attempt, "env_steps": steps})


def cut(folder: TrialPaths, env_steps: int) -> None:
    """Take back what is beyond a checkpoint, as a resumed worker does."""
    kept = [line for line in fs.read_lines(folder.metrics) if line["env_steps"] <= env_steps]
    fs.write_json_lines(folder.metrics, kept)


def test_a_stretch_that_is_trained_again_is_noted_once(tmp_path: Path) -> None:
    progress = StudyProgress(StudyPaths(tmp_path), iteration_steps=100)
    folder = StudyPaths(tmp_path).new_trial(0)
    write(folder, 1, [100, 200, 300, 400, 500])
    progress.poll()
    cut(folder, 300)
    progress.poll()
    assert (progress.env_steps, progress.lines, progress.repeats) == (500, 5, []), "old lines are no news"

    write(folder, 2, [400, 500, 600])
    progress.poll()
    assert progress.repeats == [Repeat(0, 2, reached=500, resumed=300, newest_destroyed=False)]
    assert progress.repeats[0].env_steps == 200
    assert (progress.env_steps, progress.lines) == (600, 8)


def test_a_worker_that_was_adopted_repeats_nothing(tmp_path: Path) -> None:
    progress = StudyProgress(StudyPaths(tmp_path), iteration_steps=100)
    folder = StudyPaths(tmp_path).new_trial(0)
    write(folder, 1, [100, 200])
    progress.poll()
    write(folder, 1, [300])
    progress.poll()
    assert progress.repeats == []


def test_trials_add_up_and_the_newest_is_the_one_that_is_trained(tmp_path: Path) -> None:
    progress = StudyProgress(StudyPaths(tmp_path), iteration_steps=100)
    for number, reached in enumerate([500, 300, 200]):
        write(StudyPaths(tmp_path).new_trial(number), 1, list(range(100, reached + 1, 100)))
        progress.poll()
    assert progress.env_steps == 1000
    assert progress.trial is not None
    assert progress.trial.number == 2


def test_only_listed_checkpoints_of_full_length_are_whole(tmp_path: Path) -> None:
    folder = TrialPaths(tmp_path)
    folder.checkpoints.mkdir()
    for steps, length in ((100, 7), (200, 7), (300, 7), (400, 3), (500, 7)):
        folder.checkpoint(steps).write_bytes(b"x" * length)
        if steps != 500:
            line = {"file": f"agent_{steps}.pt", "kind": "resume", "env_steps": steps, "bytes": 7}
            fs.append_line(folder.checkpoint_log, line)
    fs.append_line(folder.checkpoint_log, {"file": "agent_100.pt", "kind": "resume", "deleted": True})
    assert whole_resume_points(folder) == [folder.checkpoint(200), folder.checkpoint(300)]
