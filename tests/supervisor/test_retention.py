"""What goes when a study's checkpoints take too much room, and what never does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.snapshots import (
    START,
    make_checkpoint,
    make_failed,
    make_pruned,
    make_running,
    make_snapshot,
    make_trial,
)
from tests.support.stored_study import store_study
from vbot_campaign import fs
from vbot_campaign.cli import app
from vbot_campaign.errors import StudyBusyError
from vbot_campaign.exporters.mirrors import MirrorExporter, export_all
from vbot_campaign.exporters.verify import verify
from vbot_campaign.paths import RUNS_VARIABLE, CampaignPaths, TrialPaths
from vbot_campaign.study import CampaignStudy, load_snapshot, open_storage
from vbot_campaign.study.snapshot import CheckpointView, StudySnapshot, TrialView
from vbot_campaign.study.study import close_readers
from vbot_campaign.supervisor.prune import prune_checkpoints
from vbot_campaign.supervisor.retention import GB, choose, enforce_disk_budget


def file(trial: int, name: str, kind: str, size: int = 10, *, minutes: int = 0) -> CheckpointView:
    path = f"trials/{trial:04d}_20260131T120000Z_PPO/checkpoints/{name}"
    created = START + timedelta(minutes=minutes)
    return make_checkpoint(trial, path=path, kind=kind, bytes=size, created=created)


def with_files(make: Any, number: int, *files: CheckpointView, **more: Any) -> TrialView:
    return make(number, checkpoints=tuple(files), **more)


def standard() -> StudySnapshot:
    """Five trials with files of ten bytes: two complete ones, one each pruned, failed and running."""
    trials = []
    for number, make, score in [
        (0, make_trial, 0.6),
        (1, make_trial, 0.9),
        (2, make_pruned, 0.2),
        (3, make_failed, None),
    ]:
        points = [file(number, f"agent_{step}.pt", "resume", minutes=step) for step in (1, 2)]
        best = file(number, "best_agent.pt", "best")
        trials.append(with_files(make, number, *points, best, score=score))
    trials[1] = with_files(make_trial, 1, *trials[1].checkpoints, file(1, "best_7.pt", "top"), score=0.9)
    running = with_files(make_running, 4, file(4, "agent_1.pt", "resume"), file(4, "best_agent.pt", "best"))
    return make_snapshot(trials=(*trials, running))


def names(removals: Any) -> list[str]:
    return [f"{r.trial.number}/{r.checkpoint.path.rpartition('/')[2]}" for r in removals]


ORDER = [
    "3/agent_1.pt", "3/agent_2.pt", "2/agent_1.pt", "2/agent_2.pt", "0/agent_1.pt", "0/agent_2.pt", "1/agent_1.pt",
    "1/agent_2.pt", "1/best_7.pt", "3/best_agent.pt", "2/best_agent.pt", "0/best_agent.pt",
]  # fmt: skip


@pytest.mark.parametrize(("budget", "count"), [(150, 0), (149, 1), (141, 1), (140, 1), (139, 2), (60, 9), (0, 12)])
def test_points_go_before_policies_and_bad_ones_before_good_ones(budget: int, count: int) -> None:
    # 15 files are 150 bytes. The running trial keeps its two, and the study its best policy.
    assert names(choose(standard(), frozenset(), budget_bytes=budget)) == ORDER[:count]


def test_milestones_never_go() -> None:
    snapshot = standard()
    milestone = snapshot.trials[3].checkpoints[0].path
    assert names(choose(snapshot, frozenset({milestone}), budget_bytes=0)) == ORDER[1:]


def test_the_best_trials_last_point_stays_where_no_policy_was_chosen() -> None:
    trial = with_files(make_trial, 0, file(0, "agent_1.pt", "resume"))
    assert choose(make_snapshot(trials=(trial,)), frozenset(), budget_bytes=0) == []


@pytest.mark.parametrize(("keep_last", "files"), [(1, [f"{n}/agent_1.pt" for n in (0, 1, 2, 3)]), (2, [])])
def test_ended_trials_keep_their_last_points(keep_last: int, files: list[str]) -> None:
    assert names(choose(standard(), frozenset(), budget_bytes=1e9, keep_last=keep_last)) == files


# --- on a real study ------------------------------------------------------------------------------------------------


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    """A finished study with one best policy and four points, 40 bytes each, and its mirrors."""
    paths = CampaignPaths(tmp_path / "runs")
    store_study(paths)
    storage = open_storage(paths)
    study = CampaignStudy.open(storage, "walk")
    for trial in study.snapshot().trials:
        folder = TrialPaths(paths.study("walk").root / str(trial.folder))
        for step in (100, 200) if trial.number < 2 else ():
            _write_point(study, paths, folder, trial.number, step)
    storage.close()
    export_all(paths, "walk")
    assert verify(paths, "walk") == []
    return paths


def _write_point(study: CampaignStudy, paths: CampaignPaths, folder: TrialPaths, trial: int, step: int) -> None:
    path = folder.checkpoint(step)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 40)
    line = {"file": path.name, "env_steps": step, "iteration": 1, "sha256": fs.sha256(path), "bytes": 40}
    line |= {"kind": "resume", "score": None, "parts": None, "time": "2026-01-31T12:05:00Z"}
    fs.append_line(folder.checkpoint_log, line)
    relative = path.relative_to(paths.study("walk").root).as_posix()
    study.ledger.record_checkpoint(trial, relative, line)


def files_of(paths: CampaignPaths) -> list[str]:
    root = paths.study("walk").root
    return sorted(f"{path.parts[-3][:4]}/{path.name}" for path in root.rglob("checkpoints/*.pt"))


def test_prune_shows_what_would_go_and_then_does_it(paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUNS_VARIABLE, str(paths.root))
    before = files_of(paths)
    words = ["checkpoints", "prune", "walk", "--keep-last", "1"]
    shown = CliRunner().invoke(app, [*words, "--dry-run"], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "2 files would be removed" in shown.stdout
    assert shown.stdout.count("agent_100.pt") == 2
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert files_of(paths) == before

    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "2 files removed" in done.stdout
    assert files_of(paths) == [name for name in before if "agent_100" not in name]
    assert verify(paths, "walk") == []
    again = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "nothing to remove" in again.stdout


def test_the_supervisor_enforces_the_budget_and_its_mirrors_follow(
    paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(paths)
    study = CampaignStudy.open(storage, "walk")
    exporter = MirrorExporter(paths, "walk")
    exporter.update(study.snapshot())
    assert enforce_disk_budget(study, paths.study("walk")) == []
    size = sum(c.bytes for trial in study.snapshot().trials for c in trial.checkpoints)
    tight = study.spec.checkpoints.model_copy(update={"disk_budget_gb": (size - 100) / GB})
    monkeypatch.setattr(study, "spec", study.spec.model_copy(update={"checkpoints": tight}))
    removed = enforce_disk_budget(study, paths.study("walk"))
    assert names(removed) == ["1/agent_100.pt", "1/agent_200.pt", "0/agent_100.pt"]
    assert enforce_disk_budget(study, paths.study("walk")) == []
    exporter.update(study.snapshot())
    storage.close()
    close_readers()
    assert verify(paths, "walk") == []


def test_a_folder_that_someone_works_in_is_left_alone(paths: CampaignPaths) -> None:
    trial = load_snapshot(paths, "walk").trials[0]
    with fs.hold_lock(TrialPaths(paths.study("walk").root / str(trial.folder)).lock, what="the trial"):
        assert names(prune_checkpoints(paths, "walk", keep_last=0).removals) == ["1/agent_100.pt", "1/agent_200.pt"]
    assert verify_checkpoints(paths) == []


def verify_checkpoints(paths: CampaignPaths) -> list[str]:
    return [str(difference) for difference in verify(paths, "walk") if difference.kind == "checkpoint"]


def test_a_removal_that_was_cut_off_is_finished_later(paths: CampaignPaths) -> None:
    trial = load_snapshot(paths, "walk").trials[1]
    folder = TrialPaths(paths.study("walk").root / str(trial.folder))
    fs.append_line(folder.checkpoint_log, {"file": "agent_100.pt", "deleted": True})
    folder.checkpoint(100).unlink()  # killed before the database was told
    prune_checkpoints(paths, "walk", keep_last=1)
    assert verify_checkpoints(paths) == []


def test_it_refuses_beside_a_live_supervisor(paths: CampaignPaths) -> None:
    with (
        fs.hold_lock(paths.study("walk").supervisor_lock, what="study walk"),
        pytest.raises(StudyBusyError, match="study 'walk' is run by"),
    ):
        prune_checkpoints(paths, "walk", keep_last=0)
    assert "0000/agent_100.pt" in files_of(paths)
