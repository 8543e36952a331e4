"""Back-ups: made while a supervisor runs, checked, restored elsewhere, and refused when they are not what they seem."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import tarfile
import threading
import time
from datetime import UTC, datetime, timedelta

import optuna
import pytest

from tests.support.builders import TOY_COMMAND, cpu_slots, study_spec
from tests.support.faults import command, fill, refused, small_disk, write_lock
from tests.support.snapshots import make_spec
from tests.support.stored_study import store_study
from vbot_campaign import fs
from vbot_campaign.errors import StorageError
from vbot_campaign.exporters.mirrors import MirrorExporter, export_all
from vbot_campaign.exporters.verify import verify
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import backup as backup_module
from vbot_campaign.study.archive import check_archive, write_archive
from vbot_campaign.study.backup import AutoBackup, automatic_backups, check_database, make_automatic_backup
from vbot_campaign.study.restore import restore
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import CampaignStudy, load_snapshot, study_names
from vbot_campaign.supervisor import request_study_stop, resume_study, run_study


@pytest.fixture
def paths(tmp_path):
    return CampaignPaths(tmp_path / "runs")


@pytest.fixture
def walk(paths):
    """A finished study with its mirrors."""
    store_study(paths)
    export_all(paths, "walk")
    return paths


def options(paths, **more):
    observers = (MirrorExporter(paths, "toy"),)
    return {"worker_command": TOY_COMMAND, "slots": cpu_slots(), "poll_s": 0.02, "observers": observers, **more}


# --- by hand --------------------------------------------------------------------------------------------------------


def test_a_finished_study_comes_back_as_it_was(walk, tmp_path, capfd):
    answer = command(capfd, "--runs", walk.root, "backup", "walk")
    (file,) = walk.backups.glob("walk_*.tar")
    assert answer.code == 0, answer
    assert f"wrote {file}" in answer.output
    assert f"vbot-campaign restore {file}" in answer.output
    elsewhere = CampaignPaths(tmp_path / "elsewhere")
    answer = command(capfd, "--runs", elsewhere.root, "restore", file)
    assert answer.code == 0, answer
    assert "restored study walk. Go on: vbot-campaign resume walk" in answer.output
    assert verify(elsewhere, "walk") == []
    assert load_snapshot(elsewhere, "walk") == load_snapshot(walk, "walk")
    before = {p.relative_to(walk.study("walk").root): p.read_bytes() for p in walk.study("walk").root.rglob("*.yaml")}
    assert before == {p: (elsewhere.study("walk").root / p).read_bytes() for p in before}
    assert not [p for p in elsewhere.root.iterdir() if p.name.startswith(".restore")]


def test_a_backup_while_a_supervisor_runs_is_restored_and_goes_on(paths, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_ITERATION_S", "0.1")  # trial 3 has more than a second left when the backup begins
    monkeypatch.setenv("TOY_PLAN", "{}")
    wanted, files, failures = threading.Event(), [], []

    def back_up():
        wanted.wait(240)
        try:
            files.append(write_archive(paths, "toy", tmp_path / "toy.tar"))
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=back_up)
    thread.start()

    def listen(decision):
        # A second of its training has passed, so both running trials have checkpoints.
        if decision.action == "reported" and decision.trial == 3 and decision.env_step >= 15_000:
            wanted.set()

    straight = run_study(paths, study_spec(budget={"trials": 5}), **options(paths, progress=listen))
    thread.join()
    assert failures == []
    elsewhere = CampaignPaths(tmp_path / "elsewhere")
    restore(elsewhere, files[0])
    export_all(elsewhere, "toy")
    restored = load_snapshot(elsewhere, "toy")
    assert restored.state == "stopped"
    assert restored.reason.startswith("restored from the backup of 20")
    assert any(not trial.state.is_finished for trial in restored.trials)
    assert verify(elsewhere, "toy") == []
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    resumed = resume_study(elsewhere, "toy", **options(elsewhere))
    assert verify(elsewhere, "toy") == []
    assert [t.score for t in resumed.snapshot.trials] == [t.score for t in straight.snapshot.trials]


def test_an_unfinished_trial_goes_on_from_its_checkpoint(paths, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_ITERATION_S", "0.02")
    monkeypatch.setenv(
        "TOY_PLAN", '{"0": {"1": "doze"}, "1": {"1": "doze"}}'
    )  # in their middle, until they are stopped
    reached = set()

    def stop_in_the_middle(decision):
        if decision.action == "reported" and decision.env_step == 15_000:
            reached.add(decision.trial)
            if reached == {0, 1}:
                request_study_stop(paths, "toy")

    stopped = run_study(paths, study_spec(), **options(paths, progress=stop_in_the_middle))
    unfinished = [trial.number for trial in stopped.snapshot.trials if not trial.state.is_finished]
    assert unfinished == [0, 1]
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    elsewhere = CampaignPaths(tmp_path / "elsewhere")
    restore(elsewhere, write_archive(paths, "toy", tmp_path / "toy.tar"))
    export_all(elsewhere, "toy")
    assert verify(elsewhere, "toy") == []
    resumed = resume_study(elsewhere, "toy", **options(elsewhere))
    assert [trial.state.value for trial in resumed.snapshot.trials] == ["complete"] * 4
    for number in unfinished:
        assert resumed.snapshot.trials[number].attempts[-1].first_env_step > 0
    assert verify(elsewhere, "toy") == []


def test_a_study_that_is_there_is_kept_unless_forced(walk, tmp_path, capfd):
    file = write_archive(walk, "walk", tmp_path / "walk.tar")
    error = refused(capfd, "--runs", walk.root, "restore", file)
    assert "study 'walk' is in" in error
    assert "--force" in error
    (walk.study("walk").root / "note.txt").write_text("mine")
    answer = command(capfd, "--runs", walk.root, "restore", file, "--force")
    assert answer.code == 0, answer
    assert verify(walk, "walk") == []
    (kept,) = walk.backups.glob("replaced_*_walk")
    assert (kept / "note.txt").read_text() == "mine"
    assert len(automatic_backups(walk)) == 1, "the database is saved first"


def test_a_study_joins_others_in_their_database(walk, tmp_path):
    other = CampaignPaths(tmp_path / "other")
    storage = open_storage(other)
    CampaignStudy.create(storage, make_spec(study="crawl")).set_status("finished", "nothing to do")
    storage.close()
    restore(other, write_archive(walk, "walk", tmp_path / "walk.tar"))
    export_all(other, "walk")
    assert study_names(other) == ["crawl", "walk"]
    assert verify(other, "walk") == []
    assert load_snapshot(other, "crawl").state == "finished"


def test_a_study_that_is_running_is_not_replaced(walk, tmp_path, capfd):
    file = write_archive(walk, "walk", tmp_path / "walk.tar")
    with fs.hold_lock(walk.study("walk").supervisor_lock, what="walk"):
        for what in (file, make_automatic_backup(walk)):
            error = refused(capfd, "--runs", walk.root, "restore", what, "--force")
            assert "a supervisor is at work" in error


def test_a_file_is_never_overwritten_and_a_missing_study_is_named(walk, tmp_path, capfd):
    (tmp_path / "mine.tar").write_text("mine")
    assert "is there already" in refused(capfd, "--runs", walk.root, "backup", "walk", "--out", tmp_path / "mine.tar")
    assert "Did you mean 'walk'?" in refused(capfd, "--runs", walk.root, "backup", "wakl")
    assert "no such file" in refused(capfd, "--runs", walk.root, "restore", tmp_path / "lost.tar")
    assert "is no backup" in refused(capfd, "--runs", walk.root, "restore", tmp_path / "mine.tar")


def test_a_full_disk_leaves_no_half_of_a_backup(walk, tmp_path, capfd):
    with small_disk(tmp_path / "disk", 1000) as disk:
        fill(disk, leave=200_000)
        error = refused(capfd, "--runs", walk.root, "backup", "walk", "--out", disk / "walk.tar")
        assert "No space left on device" in error or "Free some space" in error
        assert [path.name for path in disk.iterdir()] == ["filler"]


# --- what is in the file --------------------------------------------------------------------------------------------


def rewrite(source, target, change):
    """Copy an archive member by member; ``change(name, content)`` returns what to write, or None to leave it out."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old.getmembers():
            changed = change(member.name, old.extractfile(member).read())
            if changed is not None:
                member.size = len(changed)
                new.addfile(member, io.BytesIO(changed))
    return target


def test_the_manifest_has_every_file_and_its_hash(walk, tmp_path):
    file = write_archive(walk, "walk", tmp_path / "walk.tar")
    manifest = check_archive(file)
    assert manifest.study == "walk"
    names = set(manifest.members)
    assert {"campaign.db", "study/registry.yaml", "study/index.yaml", "study/configs/trial_0000.yaml"} <= names
    assert any(name.endswith("best_agent.pt") for name in names)
    with tarfile.open(file) as tar:
        assert tar.getnames()[-1] == "manifest.json"
        assert len(tar.getnames()) == len(names) + 1


@pytest.mark.parametrize("part", ["campaign.db", "best_agent.pt", "registry.yaml"])
def test_one_flipped_bit_is_found_before_anything_is_changed(walk, tmp_path, part):
    def flip(name, content):
        return content[:-1] + bytes([content[-1] ^ 1]) if name.endswith(part) else content

    file = rewrite(write_archive(walk, "walk", tmp_path / "a.tar"), tmp_path / "b.tar", flip)
    with pytest.raises(StorageError, match=r"is damaged .*is not what was written\. Nothing was restored"):
        restore(CampaignPaths(tmp_path / "elsewhere"), file)
    assert not (tmp_path / "elsewhere").exists()


def test_a_cut_file_and_a_missing_member_are_found(walk, tmp_path):
    file = write_archive(walk, "walk", tmp_path / "a.tar")
    cut = tmp_path / "cut.tar"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    without = rewrite(file, tmp_path / "without.tar", lambda name, content: content if "index" not in name else None)
    for broken in (cut, without):
        with pytest.raises(StorageError, match=r"is damaged|is no backup"):
            restore(CampaignPaths(tmp_path / "elsewhere"), broken)


# --- automatic ones -------------------------------------------------------------------------------------------------


def test_every_hour_a_copy_is_made_and_three_are_kept(walk, monkeypatch):
    now, copies = [0.0], []

    def make(paths):
        copies.append(now[0])
        return real(paths, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=now[0]))

    real = backup_module.make_automatic_backup
    monkeypatch.setattr(backup_module, "make_automatic_backup", make)
    snapshot = load_snapshot(walk, "walk")
    with AutoBackup(walk, clock=lambda: now[0]) as backups:
        for minute in range(0, 5 * 60, 20):
            now[0] = 60.0 * minute
            for file in automatic_backups(walk):
                made = datetime.strptime(file.stem, "campaign_%Y%m%dT%H%M%SZ").hour * 3600.0
                os.utime(file, (time.time() - (now[0] - made),) * 2)
            backups.update(snapshot)
            backups.wait()
    assert copies == [0.0, 3600.0, 7200.0, 10_800.0, 14_400.0]
    kept = automatic_backups(walk)
    assert [file.name for file in kept] == [f"campaign_20260101T0{hour}0000Z.db" for hour in (2, 3, 4)]
    for file in kept:
        check_database(file)
        assert sorted(path.name for path in file.parent.iterdir()) == [f.name for f in kept], "no log beside it"


def test_a_young_copy_of_another_supervisor_puts_the_next_one_off(walk):
    first = make_automatic_backup(walk)
    with AutoBackup(walk) as backups:
        backups.update(load_snapshot(walk, "walk"))
    assert automatic_backups(walk) == [first]


def test_a_copy_is_made_while_another_program_writes(walk):
    with write_lock(walk.database):
        file = make_automatic_backup(walk)
    check_database(file)
    with sqlite3.connect(file) as connection:
        names = [name for (name,) in connection.execute("SELECT study_name FROM studies")]
    connection.close()
    assert names == ["walk"]


def test_a_copy_that_fails_is_said_once_and_ends_nothing(walk):
    walk.backups.parent.mkdir(exist_ok=True)
    walk.backups.write_text("a file where the folder should be")
    snapshot = load_snapshot(walk, "walk")
    with AutoBackup(walk) as backups:
        backups.update(snapshot)
        backups.wait()
        with pytest.raises(StorageError, match="backups"):
            backups.update(snapshot)
        backups.update(snapshot)


def test_a_supervisor_makes_them_and_survives_a_failure(paths, monkeypatch):
    monkeypatch.setenv("TOY_ITERATION_S", "0.02")
    with AutoBackup(paths) as backups:
        outcome = run_study(paths, study_spec(), **options(paths, observers=(backups,)))
    assert outcome.state == "finished"
    (file,) = automatic_backups(paths)
    check_database(file)
    shutil.rmtree(paths.backups)
    paths.backups.write_text("a file where the folder should be")
    monkeypatch.setenv("TOY_ITERATION_S", "0.15")
    with AutoBackup(paths) as backups:
        outcome = run_study(paths, study_spec(budget={"trials": 8}), **options(paths, observers=(backups,)))
    assert outcome.state == "finished"
    failures = [line for line in fs.read_lines(paths.study("toy").decisions) if line["action"] == "observer_failed"]
    assert "backups" in failures[0]["reason"]


def test_a_damaged_database_never_becomes_a_backup(walk):
    good = make_automatic_backup(walk, datetime(2026, 1, 1, tzinfo=UTC))
    with walk.database.open("r+b") as file:
        for page in range(2, file.seek(0, 2) // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 1000)
    with pytest.raises(StorageError, match="no back-up could be made"):
        make_automatic_backup(walk)
    assert automatic_backups(walk) == [good]
    assert sorted(path.name for path in good.parent.iterdir()) == [good.name]


def test_the_database_is_saved_before_tables_are_added_to_it(paths):
    paths.root.mkdir()
    optuna.create_study(study_name="theirs", storage=paths.database_url)
    open_storage(paths).close()
    (file,) = automatic_backups(paths)
    with sqlite3.connect(file) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert "studies" in names
    assert not {name for name in names if name.startswith("campaign_")}
    open_storage(paths).close()
    assert automatic_backups(paths) == [file], "only when something is added"


def test_a_sound_database_is_not_replaced_by_an_older_one_unless_forced(walk, capfd):
    file = make_automatic_backup(walk)
    assert "is there and sound" in refused(capfd, "--runs", walk.root, "restore", file)
    answer = command(capfd, "--runs", walk.root, "restore", file, "--force")
    assert answer.code == 0, answer
    assert "what was there is kept as" in answer.output
    assert verify(walk, "walk") == []


def test_a_text_as_manifest_is_refused(walk, tmp_path):
    file = write_archive(walk, "walk", tmp_path / "a.tar")
    for number, text in enumerate((b"not json", b"[]", b"{}", json.dumps({"v": 1, "members": 3}).encode())):
        broken = rewrite(
            file,
            tmp_path / f"{number}.tar",
            lambda name, content, text=text: text if name == "manifest.json" else content,
        )
        with pytest.raises(StorageError, match=r"manifest\.json cannot be read"):
            check_archive(broken)
