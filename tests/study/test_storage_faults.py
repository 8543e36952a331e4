"""What can be wrong with the database's file and disk, each with a real file and the message that a person sees."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from tests.support.builders import TOY_COMMAND, cpu_slots, study_spec
from tests.support.faults import (
    command,
    fill,
    public_folder,
    refused,
    small_disk,
    without_root,
    write_lock,
    write_lock_for,
)
from tests.support.stored_study import store_study
from vbot_campaign import fs
from vbot_campaign.errors import StorageError, StudyBusyError
from vbot_campaign.exporters.mirrors import MirrorExporter, export_all
from vbot_campaign.exporters.verify import verify
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import sqlite as sqlite_module
from vbot_campaign.study.backup import make_automatic_backup
from vbot_campaign.study.ledger import Lease
from vbot_campaign.study.owner import Owner, process_alive, process_started
from vbot_campaign.study.storage import finish_making, open_storage, storage_errors
from vbot_campaign.study.study import CampaignStudy, close_readers, load_snapshot, study_names
from vbot_campaign.study.tables import SCHEMA_VERSION
from vbot_campaign.supervisor import resume_study, run_study
from vbot_campaign.watch.dashboard import open_dashboard

DRIVER = """
import json, sys
from pathlib import Path
from tests.support.builders import TOY_COMMAND, cpu_slots, study_spec
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.supervisor import run_study
run_study(CampaignPaths(Path(sys.argv[1])), study_spec(**json.loads(sys.argv[2])), worker_command=TOY_COMMAND,
          slots=cpu_slots(), poll_s=0.02, grace_s=20.0)
"""


@pytest.fixture
def paths(tmp_path):
    return CampaignPaths(tmp_path / "runs")


@pytest.fixture
def iteration_s(monkeypatch):
    def plan(seconds):
        monkeypatch.setenv("TOY_PLAN", "{}")
        monkeypatch.setenv("TOY_ITERATION_S", str(seconds))

    plan(0.001)
    return plan


def options(**more):
    return {"worker_command": TOY_COMMAND, "slots": cpu_slots(), "poll_s": 0.02, "grace_s": 20.0, **more}


def run(paths, spec=None, **more):
    mirrors = MirrorExporter(paths, "toy")
    return run_study(paths, spec or study_spec(), **options(observers=(mirrors,), **more))


def resume(paths):
    return resume_study(paths, "toy", **options(observers=(MirrorExporter(paths, "toy"),)))


def wait_until(condition, timeout_s=240.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


# --- locks ----------------------------------------------------------------------------------------------------------


def test_a_held_write_lock_is_waited_for_and_then_named(paths, monkeypatch, capfd):
    store_study(paths)
    monkeypatch.setattr(sqlite_module, "BUSY_TIMEOUT_S", 0.5)
    storage = open_storage(paths)
    study = CampaignStudy.open(storage, "walk")
    with write_lock(paths.database):
        began = time.monotonic()
        with pytest.raises(StorageError) as raised, storage_errors(storage.url):
            study.set_status("running", "")
        assert time.monotonic() - began >= 0.5
    assert str(raised.value) == (
        f"{paths.database}: database is locked. Another program has held the database for 0.5 s; close it and resume."
    )
    study.set_status("stopped", "")  # and when it is free again, the same connection goes on
    storage.close()
    with write_lock(paths.database):
        error = refused(capfd, "--runs", paths.root, "resume", "toy")
    assert "not found" in error, "looking needs no lock"


def test_a_short_lock_is_survived_by_a_running_supervisor(paths, iteration_s):
    iteration_s(0.02)
    with write_lock_for(paths.database, 2.0) as begin:

        def listen(decision):
            if decision.action == "started" and decision.trial == 1:
                begin.set()

        outcome = run(paths, progress=listen)
    assert outcome.state == "finished"
    assert [len(trial.attempts) for trial in outcome.snapshot.trials] == [1, 1, 1, 1]
    assert verify(paths, "toy") == []


def test_a_dashboard_polls_while_a_supervisor_writes(paths, iteration_s):
    iteration_s(0.01)
    open_storage(paths).close()
    dashboard = open_dashboard(paths, port=0)
    server = threading.Thread(target=dashboard.serve_forever)
    server.start()
    done, answers = threading.Event(), []

    def poll():
        while not done.is_set() or len(answers) < 8:  # on a busy machine the study may end before the fourth look
            for page in ("api/studies", "api/studies/1?after=0"):
                try:
                    with urllib.request.urlopen(f"{dashboard.address.url}{page}", timeout=240) as answer:  # noqa: S310
                        answers.append((page, answer.status, len(json.load(answer))))
                except urllib.error.HTTPError as error:
                    answers.append((page, error.code, 0))
                    error.close()

    reader = threading.Thread(target=poll)
    reader.start()
    try:
        outcome = run(paths)
    finally:
        done.set()
        reader.join()
        dashboard.shutdown()
        server.join()
        dashboard.close()
    assert outcome.state == "finished"
    studies = [status for page, status, _ in answers if page == "api/studies"]
    assert len(studies) > 3
    assert set(studies) == {200}
    assert {status for _, status, _ in answers} <= {200, 404}, "the study's page is 404 until the study is made"


def test_two_supervisors_of_two_studies_share_a_database(paths, iteration_s):
    first = start(paths, {"study": "first"})
    second = start(paths, {"study": "second"})
    for process in (first, second):
        assert process.wait(120) == 0, process.stderr.read()
        process.stderr.close()
    for name in ("first", "second"):
        assert load_snapshot(paths, name).state == "finished"


# --- rights and space -----------------------------------------------------------------------------------------------


def test_a_database_that_may_not_be_written(capfd):
    with public_folder() as root:
        paths = CampaignPaths(root)
        store_study(paths)
        paths.database.chmod(0o444)
        root.chmod(0o755)
        with without_root():
            error = refused(capfd, "--runs", root, "resume", "walk")
    assert "campaign.db: attempt to write a readonly database." in error
    assert "The file or its folder may not be written; make both writable for you" in error


def test_a_folder_that_may_not_be_written(capfd):
    shipped = Path(__file__).parents[2] / "studies" / "quickstart.yaml"
    with public_folder() as root:
        quickstart = root / "quickstart.yaml"  # where anybody may read it
        quickstart.write_text(shipped.read_text())
        (root / "file").write_text("where a folder should be")
        refused(capfd, "--runs", root / "file" / "runs", "run", quickstart)  # loads what only root may read
        root.chmod(0o555)
        with without_root():
            error = refused(capfd, "--runs", root / "runs", "run", quickstart)
    assert "Permission denied" in error
    assert "writable" in error


def test_a_full_disk_is_named_and_when_it_is_free_again_the_study_goes_on(tmp_path, iteration_s):
    with small_disk(tmp_path / "disk", 4000) as disk:
        paths = CampaignPaths(disk)
        storage = open_storage(paths)
        # Without the guard that pauses a study long before its disk is full.
        spec = study_spec(workers={"num_envs": 100, "slots": 2, "min_free_gb": 0})
        study = CampaignStudy.create(storage, spec)
        fill(disk)
        with pytest.raises(StorageError) as raised:
            write_until_it_fails(storage, study)
        message = str(raised.value)
        assert "disk is full" in message or "disk I/O error" in message
        assert "Free some space on that disk and resume" in message
        storage.close()
        (disk / "filler").unlink()
        outcome = run(paths, spec)
        assert outcome.state == "finished", outcome.reason
        assert verify(paths, "toy") == []


def write_until_it_fails(storage, study):
    with storage_errors(storage.url):
        for number in range(10_000):
            study.set_status("running", f"{number} " * 20)


# --- other versions -------------------------------------------------------------------------------------------------


def change(paths, statement):
    with sqlite3.connect(paths.database) as connection:
        connection.execute(statement)
    connection.close()


def test_tables_of_a_newer_version_of_this_program(paths, capfd):
    store_study(paths)
    change(paths, "UPDATE campaign_schema SET version = 99")
    for line in ("resume walk", "status walk", "backup walk"):
        error = refused(capfd, "--runs", paths.root, *line.split())
        known = f"this program knows {SCHEMA_VERSION}"
        assert f"newer vbot-campaign (tables of version 99, {known}). Install the newer program." in error


def test_tables_of_a_newer_optuna(paths, capfd):
    store_study(paths)
    change(paths, "UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    error = refused(capfd, "--runs", paths.root, "resume", "walk")
    assert "no longer compatible with the table schema" in error
    assert "Another version of Optuna made its tables; install that one, or a newer one." in error


# --- damage ---------------------------------------------------------------------------------------------------------


def start(paths, overrides):
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(paths.root), json.dumps(overrides)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_all(process):
    root = psutil.Process(process.pid)
    root.suspend()  # so that it starts no worker between the look and the kill
    children = root.children(recursive=True)
    for victim in (root, *children):
        victim.kill()
    psutil.wait_procs(children, timeout=240)
    assert process.wait(240) == -signal.SIGKILL
    process.stderr.close()


def decisions(paths, action):
    return [line for line in fs.read_lines(paths.study("toy").decisions) if line["action"] == action]


@pytest.mark.parametrize("kept", [0.9, 0.6])
def test_a_truncated_write_ahead_log_costs_nothing_but_time(paths, iteration_s, monkeypatch, kept):
    iteration_s(0.02)
    monkeypatch.setenv("TOY_PLAN", '{"3": {"1": "doze"}}')  # the study cannot end before it is killed
    process = start(paths, {"budget": {"trials": 5}})
    wait_until(lambda: len(decisions(paths, "completed")) >= 2 and len(decisions(paths, "started")) >= 4)
    kill_all(process)
    log = paths.database.with_name("campaign.db-wal")
    size = log.stat().st_size
    os.truncate(log, int(size * kept) + 7)
    iteration_s(0.001)
    outcome = resume(paths)
    assert outcome.state == "finished"
    assert [trial.state.value for trial in outcome.snapshot.trials] == ["complete"] * 5
    assert verify(paths, "toy") == []


def test_a_damaged_database_names_the_newest_backup_and_comes_back(paths, capfd):
    store_study(paths)
    export_all(paths, "walk")
    now = datetime.now(UTC)
    make_automatic_backup(paths, now - timedelta(hours=1))
    newest = make_automatic_backup(paths, now)
    before = load_snapshot(paths, "walk")
    close_readers()
    damage(paths.database)
    error = refused(capfd, "--runs", paths.root, "resume", "walk")
    assert "malformed" in error or "not a database" in error
    assert f"Put it back with `vbot-campaign restore {newest}` and resume" in error
    answer = command(capfd, "--runs", paths.root, "restore", newest)
    assert answer.code == 0, answer
    assert "restored study walk" in answer.output
    assert load_snapshot(paths, "walk") == before
    assert verify(paths, "walk") == []
    kept = list(paths.backups.glob("replaced_*_campaign.db"))
    assert len(kept) == 1, "the damaged one is kept"


def damage(database):
    with database.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        for page in range(0, size, 4096):
            file.seek(page + 100 if page == 0 else page)
            file.write(b"\xff" * 2000)


# --- who runs it ----------------------------------------------------------------------------------------------------


def test_a_second_supervisor_is_told_who_runs_the_study(paths, iteration_s, monkeypatch):
    iteration_s(0.05)
    monkeypatch.setenv("TOY_PLAN", '{"0": {"1": "doze"}}')  # it still runs when the second one asks
    first = start(paths, {})
    wait_until(lambda: len(decisions(paths, "started")) >= 1)
    with pytest.raises(StudyBusyError) as raised:
        run(paths)
    owner = rf"with pid {first.pid} on {re.escape(socket.gethostname())} since \d{{4}}-\d\d-\d\dT"
    assert re.search(owner, str(raised.value))
    kill_all(first)
    iteration_s(0.001)
    assert resume(paths).state == "finished", "the lease of the dead one is taken over at once"


def foreign_lease(paths, seconds):
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, study_spec())
    elsewhere = replace(Owner.here(), host="box-7", pid=4711)
    session = study.ledger.begin_session(elsewhere, ["gpu:0"], seconds)
    storage.close()
    return session


def test_a_lease_of_another_host_is_honoured_until_it_runs_out(paths, iteration_s):
    session = foreign_lease(paths, 3600.0)
    for again in (run, resume):
        with pytest.raises(StudyBusyError, match=r"the supervisor with pid 4711 on box-7 since \d{4}-"):
            again(paths)
    storage = open_storage(paths)
    CampaignStudy.open(storage, "toy").ledger.beat(session, 1.0, lease_s=-1.0)
    storage.close()
    assert resume(paths).state == "finished"


def test_a_lease_of_this_host_does_not_depend_on_the_wall_clock():
    past, future = datetime(1970, 1, 2, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    assert Lease(Owner.here(), past, past).is_held(), "the clock was set back, or forward: the process is alive"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    owner = replace(Owner.here(), pid=gone.pid, pid_started=process_started(gone.pid))
    gone.wait()
    assert not Lease(owner, past, future).is_held()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know a start only by the wall clock")
def test_setting_the_clock_does_not_turn_a_live_process_into_a_dead_one(monkeypatch):
    started = process_started(os.getpid())
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: psutil.boot_time() + 3600.0)
    assert process_started(os.getpid()) == started
    assert process_alive(os.getpid(), started)
    assert not process_alive(os.getpid(), started + 1.0), "a later process of that number"


def test_a_database_whose_making_was_cut_off_is_finished(paths):
    paths.root.mkdir(parents=True, exist_ok=True)
    open_storage(paths).close()
    with contextlib.closing(sqlite3.connect(paths.database)) as connection:
        connection.execute("DROP TABLE alembic_version")  # what Optuna makes last
        connection.commit()
    with pytest.raises(StorageError, match="readonly"):
        study_names(paths)
    close_readers()
    finish_making(paths)
    assert study_names(paths) == []
    close_readers()
