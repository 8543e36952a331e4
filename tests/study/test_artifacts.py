"""Files of trials in the dashboard's store: linked, listed once, gone when the disk needs its space."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, download_artifact, get_all_artifact_meta

from tests.support.snapshots import EVALUATION, PARTS, make_spec
from tests.support.stored_study import store_study
from vbot_campaign import fs
from vbot_campaign.exporters.dashboard import export_dashboard
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study import CampaignStudy, load_snapshot, open_storage
from vbot_campaign.study.archive import write_archive
from vbot_campaign.study.artifacts import LOG_TAIL_BYTES, artifact_id, of_copied_trials, upload_artifacts
from vbot_campaign.study.restore import restore
from vbot_campaign.study.study import close_readers
from vbot_campaign.supervisor.prune import prune_checkpoints

FILES = {"best_agent.pt": b"policy", "paths.png": b"plot", "rollout.gif": b"film", "trial.json": b"{}"}


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[CampaignPaths]:
    yield CampaignPaths(tmp_path / "runs")
    close_readers()


@pytest.fixture
def running(paths: CampaignPaths) -> Iterator[tuple[CampaignStudy, TrialPaths]]:
    """A study whose trial 0 has trained and is not told yet, and its folder."""
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, make_spec())
    study.ask()
    folder = TrialPaths(paths.study("walk").trials / "0000_20260131T120000Z_PPO")
    folder.checkpoints.mkdir(parents=True)
    for name, content in FILES.items():
        (folder.best_checkpoint if name.endswith(".pt") else folder.root / name).write_bytes(content)
    folder.log.write_text("trained\n")
    yield study, folder
    storage.close()


def upload(paths: CampaignPaths, study: CampaignStudy, folder: TrialPaths) -> None:
    upload_artifacts(study.storage, paths, "walk", 0, folder)


def listed(study: CampaignStudy) -> list[str]:
    """Return the names that Optuna lists for trial 0."""
    loaded = optuna.load_study(study_name="walk", storage=study.storage.optuna)
    return sorted(meta.filename for meta in get_all_artifact_meta(loaded.trials[0], storage=study.storage.optuna))


def shown(paths: CampaignPaths, trial: int) -> list[dict[str, Any]]:
    """Return what optuna-dashboard would show beside a trial."""
    from optuna_dashboard._serializer import serialize_frozen_trial

    storage = open_storage(paths, read_only=True)
    study_id = storage.optuna.get_study_id_from_name("walk")
    attrs = storage.optuna.get_study_system_attrs(study_id)
    row = storage.optuna.get_all_trials(study_id)[trial]
    storage.close()
    return list(serialize_frozen_trial(study_id, row, attrs)["artifacts"])


def test_a_trials_files_are_listed_and_linked(
    paths: CampaignPaths, running: tuple[CampaignStudy, TrialPaths], tmp_path: Path
) -> None:
    study, folder = running
    upload(paths, study, folder)
    study.complete(0, 0.6, PARTS, EVALUATION)

    assert listed(study) == sorted([*FILES, "worker.log"])
    best = artifact_id("walk", 0, "best_agent.pt")
    assert folder.best_checkpoint.samefile(paths.artifacts / best)
    # Whoever has the store can take a file out in Optuna's own way.
    store = FileSystemArtifactStore(paths.artifacts)
    download_artifact(artifact_store=store, artifact_id=best, file_path=str(tmp_path / "mine.pt"))
    assert (tmp_path / "mine.pt").read_bytes() == b"policy"
    types = {artifact["filename"]: artifact["mimetype"] for artifact in shown(paths, 0)}
    assert (types["rollout.gif"], types["worker.log"]) == ("image/gif", "text/plain")


def test_what_was_cut_off_is_done_again_without_doubles(
    paths: CampaignPaths, running: tuple[CampaignStudy, TrialPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, folder = running
    with monkeypatch.context() as patch:
        patch.setattr(study.storage.optuna, "set_trial_system_attr", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            upload(paths, study, folder)
    assert listed(study) == []
    upload(paths, study, folder)
    upload(paths, study, folder)
    study.complete(0, 0.6, PARTS, EVALUATION)
    export_dashboard(paths, "walk")

    assert listed(study) == sorted([*FILES, "worker.log"])
    assert len(shown(paths, 0)) == len(list(paths.artifacts.iterdir())) == 5


def test_a_file_that_was_made_again_takes_the_place_of_the_old(
    paths: CampaignPaths, running: tuple[CampaignStudy, TrialPaths]
) -> None:
    study, folder = running
    upload(paths, study, folder)
    fs.write_text(folder.rollout, "another film")
    upload(paths, study, folder)
    assert (paths.artifacts / artifact_id("walk", 0, "rollout.gif")).read_text() == "another film"


def test_without_links_files_are_copied_once(
    paths: CampaignPaths, running: tuple[CampaignStudy, TrialPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", no_links)
    study, folder = running
    upload(paths, study, folder)
    copy = paths.artifacts / artifact_id("walk", 0, "best_agent.pt")
    first = copy.stat()
    upload(paths, study, folder)
    assert copy.read_bytes() == b"policy"
    assert (copy.stat().st_ino, copy.stat().st_nlink) == (first.st_ino, 1)


def test_of_the_log_the_end_is_kept_in_whole_lines(
    paths: CampaignPaths, running: tuple[CampaignStudy, TrialPaths]
) -> None:
    study, folder = running
    folder.log.write_text("".join(f"line {i:06d}\n" for i in range(20_000)))
    upload(paths, study, folder)
    lines = (paths.artifacts / artifact_id("walk", 0, "worker.log")).read_text().splitlines()
    assert lines[-1] == "line 019999"
    assert lines[0].startswith("line ")
    assert len(lines) == LOG_TAIL_BYTES // 12


def test_trials_of_the_past_are_listed_with_the_study(paths: CampaignPaths) -> None:
    store_study(paths)

    assert export_dashboard(paths, "walk") == 3

    assert {artifact["filename"] for artifact in shown(paths, 0)} == {"best_agent.pt", "trial.json"}
    assert [artifact["filename"] for artifact in shown(paths, 1)] == ["trial.json"]


def test_a_policy_that_is_removed_for_space_leaves_the_store_too(paths: CampaignPaths) -> None:
    store_study(paths)
    storage = open_storage(paths)
    study = CampaignStudy.open(storage, "walk")
    folder = TrialPaths(paths.study("walk").root / str(study.trial(1).folder))
    folder.best_checkpoint.write_bytes(b"x" * 1000)
    line = {"file": "best_agent.pt", "env_steps": 1, "sha256": fs.sha256(folder.best_checkpoint), "bytes": 1000,
            "kind": "resume", "time": "2026-01-31T12:06:00Z", "score": 0.2, "parts": None}  # fmt: skip
    fs.append_line(folder.checkpoint_log, line)
    path = f"{study.trial(1).folder}/checkpoints/best_agent.pt"
    study.ledger.record_checkpoint(1, path, line)
    storage.close()
    close_readers()
    export_dashboard(paths, "walk")
    linked = paths.artifacts / artifact_id("walk", 1, "best_agent.pt")
    assert linked.stat().st_nlink == 2

    prune_checkpoints(paths, "walk", keep_last=0)

    assert not linked.exists()
    assert (paths.artifacts / artifact_id("walk", 0, "best_agent.pt")).exists()


def test_a_restored_study_has_its_files_and_notes_at_the_right_trials(paths: CampaignPaths, tmp_path: Path) -> None:
    from optuna_dashboard import get_note, save_note

    store_study(paths)
    export_dashboard(paths, "walk")
    storage = open_storage(paths)
    study = optuna.load_study(study_name="walk", storage=storage.optuna)
    save_note(optuna.Trial(study, study.trials[1]._trial_id), "limps")
    storage.close()
    close_readers()
    archive = write_archive(paths, "walk", tmp_path / "walk.tar")
    elsewhere = CampaignPaths(tmp_path / "elsewhere")
    storage = open_storage(elsewhere)
    other = CampaignStudy.create(storage, make_spec(study="other"))
    for _ in range(2):
        other.ask()
    storage.close()

    restore(elsewhere, archive)
    export_dashboard(elsewhere, "walk")

    storage = open_storage(elsewhere, read_only=True)
    study = optuna.load_study(study_name="walk", storage=storage.optuna)
    assert study.trials[1]._trial_id == 4
    assert get_note(optuna.Trial(study, 4)) == "limps"
    storage.close()
    assert {artifact["filename"] for artifact in shown(elsewhere, 0)} == {"best_agent.pt", "trial.json"}
    assert (elsewhere.artifacts / artifact_id("walk", 0, "best_agent.pt")).exists()
    assert load_snapshot(elsewhere, "walk").trials[0].score == 0.6


@pytest.mark.parametrize(
    ("key", "copied"),
    [
        ("dashboard:3:note_ver", "dashboard:8:note_ver"),
        ("dashboard:3:note_str:0", "dashboard:8:note_str:0"),
        ("dashboard:artifacts:3:1f-2e", "dashboard:artifacts:8:1f-2e"),
        ("dashboard:note_str:3", "dashboard:note_str:3"),
        ("dashboard:plot_data:scores:3", "dashboard:plot_data:scores:3"),
        ("artifacts:3", "artifacts:3"),
        ("dashboard:9:note_ver", "dashboard:9:note_ver"),
        ("study:3:x", "study:3:x"),
    ],
)
def test_attributes_that_name_a_trial_name_its_copy(key: str, copied: str) -> None:
    assert of_copied_trials(key, {3: 8}) == copied


def test_listed_records_are_what_optuna_reads(paths: CampaignPaths, running: tuple[CampaignStudy, TrialPaths]) -> None:
    study, folder = running
    upload(paths, study, folder)
    trial_id = study.storage.optuna.get_all_trials(1)[0]._trial_id
    records = study.storage.optuna.get_trial_system_attrs(trial_id)
    found = {key: json.loads(value) for key, value in records.items() if key.startswith("artifacts:")}
    assert len(found) == 5
    assert all(key == f"artifacts:{record['artifact_id']}" for key, record in found.items())
