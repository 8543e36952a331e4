"""Studies on a PostgreSQL server: what works on it, where its address comes from, and what is refused in what words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa

from tests.support.builders import TOY_COMMAND, cpu_slots, study_spec
from tests.support.faults import command, refused
from tests.support.postgres import LOCKED, PostgresServer
from tests.support.stored_study import store_study
from vbot_campaign.errors import SpecError, StorageError, StudyNotFoundError
from vbot_campaign.exporters.mirrors import MirrorExporter, export_all
from vbot_campaign.exporters.verify import verify
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.settings import storage_address
from vbot_campaign.study.archive import write_archive
from vbot_campaign.study.backup import AutoBackup, is_database
from vbot_campaign.study.plans import create_plan, load_plan_record, plan_names, update_plan
from vbot_campaign.study.postgres import one_instant
from vbot_campaign.study.reading import read_names, read_snapshot
from vbot_campaign.study.restore import restore
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import CampaignStudy, close_readers, load_snapshot, study_names
from vbot_campaign.supervisor import resume_study, run_study

pytestmark = pytest.mark.postgres
URL = "postgresql+psycopg://ada:hunter2@box/campaign"


@pytest.fixture
def paths(tmp_path, database_url):
    return CampaignPaths(tmp_path / "runs", database_url)


@pytest.fixture(autouse=True)
def quick_toys(monkeypatch):
    monkeypatch.setenv("TOY_PLAN", "{}")
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")


def options(paths, **more):
    observers = (MirrorExporter(paths, "toy"), AutoBackup(paths))
    return {"worker_command": TOY_COMMAND, "slots": cpu_slots(), "poll_s": 0.02, "observers": observers, **more}


# --- what works on it -----------------------------------------------------------------------------------------------


def test_a_study_runs_to_its_end_and_leaves_no_file_database(paths):
    outcome = run_study(paths, study_spec(), **options(paths))
    assert outcome.state == "finished"
    assert [trial.state.value for trial in outcome.snapshot.trials] == ["complete"] * 4
    assert verify(paths, "toy") == []
    assert not paths.database.exists()
    assert not paths.backups.exists(), "a server has back-ups of its own"
    assert read_snapshot(paths, "toy") == load_snapshot(paths, "toy")
    resumed = resume_study(paths, "toy", **options(paths))
    assert resumed.snapshot.trials == outcome.snapshot.trials


def test_the_same_study_in_a_file_and_on_a_server_is_the_same_but_for_its_times(paths, tmp_path):
    run_study(paths, study_spec(), **options(paths, slots=cpu_slots(1)))
    file = CampaignPaths(tmp_path / "file")
    run_study(file, study_spec(), **options(file, slots=cpu_slots(1)))
    for mine, theirs in zip(load_snapshot(paths, "toy").trials, load_snapshot(file, "toy").trials, strict=True):
        for name in ("number", "state", "parameters", "score", "parts", "reports", "env_steps", "evaluation", "reason"):
            assert getattr(mine, name) == getattr(theirs, name), name
        assert [c.kind for c in mine.checkpoints] == [c.kind for c in theirs.checkpoints]


def test_what_is_stored_is_read_back_as_from_a_file(paths, tmp_path):
    file = CampaignPaths(tmp_path / "file")
    for where in (file, paths):
        store_study(where)
    mine, theirs = load_snapshot(paths, "walk"), load_snapshot(file, "walk")
    assert [trial.parameters for trial in mine.trials] == [trial.parameters for trial in theirs.trials]
    assert [trial.reports for trial in mine.trials] == [trial.reports for trial in theirs.trials]
    assert [trial.state for trial in mine.trials] == [trial.state for trial in theirs.trials]
    assert mine.spec == theirs.spec
    assert study_names(paths) == read_names(paths) == ["walk"]


def test_values_that_only_a_file_is_lenient_about(paths):
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, study_spec())
    study.ask()
    ledger = study.ledger
    attempt = ledger.open_attempt(0, slot="cpu:0", first_env_step=0)
    ledger.update_trial(0, parts={"success_rate": float("nan")}, env_steps=5_000_000_000)
    ledger.close_attempt(0, attempt.number, reason="it printed \0 and died", exit_code=0xC0000005, died=True)
    entry = ledger.entry(0)
    assert entry.parts is not None
    assert entry.parts["success_rate"] != entry.parts["success_rate"]
    assert entry.env_steps == 5_000_000_000
    assert entry.attempts[0].reason == "it printed \ufffd and died"
    assert entry.attempts[0].exit_code == 0xC0000005
    assert entry.attempts[0].started.tzinfo is not None
    storage.close()


def test_a_backup_is_restored_to_a_file_and_to_a_server(paths, postgres_server: PostgresServer, tmp_path, capfd):
    store_study(paths)
    export_all(paths, "walk")
    archive = write_archive(paths, "walk")
    file = CampaignPaths(tmp_path / "file")
    assert restore(file, archive).studies == ("walk",)
    assert load_snapshot(file, "walk") == load_snapshot(paths, "walk")
    with postgres_server.database() as url:
        server = CampaignPaths(tmp_path / "server", url)
        restore(server, archive)
        restore(server, archive, force=True)
        assert load_snapshot(server, "walk") == load_snapshot(paths, "walk")
        (replaced,) = server.backups.glob("replaced_*_walk.db")
        assert is_database(replaced)
        error = refused(capfd, "--runs", server.root, "--storage", url, "restore", replaced)
        assert "is a whole database in a file" in error
        assert f"vbot-campaign storage copy {replaced} URL" in error
        close_readers()


def test_a_backup_shows_one_instant_although_others_write(paths):
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, study_spec())
    reader = open_storage(paths, read_only=True)
    with one_instant(reader.engine):
        study.ask()
        study.set_status("running", "")
        seen = CampaignStudy.open(reader, "toy").snapshot()
        assert seen.trials == ()
        assert seen.state == "created"
    assert len(CampaignStudy.open(reader, "toy").snapshot().trials) == 1
    reader.close()
    storage.close()


def test_campaigns_are_stored_there_too(paths):
    assert plan_names(paths) == []
    create_plan(paths, "curriculum", {"plan": "curriculum"}, {"stage": 0})
    update_plan(paths, "curriculum", state={"stage": 1})
    assert load_plan_record(paths, "curriculum").state == {"stage": 1}


def test_optuna_reads_the_study_and_a_reader_writes_nothing(paths, database_url):
    store_study(paths)
    theirs = optuna.storages.RDBStorage(database_url)
    assert optuna.load_study(study_name="walk", storage=theirs).best_value == 0.6
    theirs.remove_session()
    theirs.engine.dispose()
    reader = open_storage(paths, read_only=True)
    with pytest.raises(optuna.exceptions.StorageInternalError):
        reader.optuna.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "x")
    with pytest.raises(sa.exc.InternalError, match="read-only"):
        CampaignStudy.open(reader, "walk").ledger.update_trial(0, reason="x")
    reader.close()


def test_commands_look_at_the_server_and_not_at_a_file_that_lies_in_the_same_folder(paths, database_url, capfd):
    store_study(CampaignPaths(paths.root))
    runs = ("--runs", paths.root)
    answer = command(capfd, *runs, "--storage", database_url, "status", "walk")
    assert answer.code == 2
    assert "no studies there yet" in answer.error
    shutil.rmtree(paths.study("walk").root)
    store_study(paths)
    export_all(paths, "walk")
    shown = command(capfd, *runs, "--storage", database_url, "status", "walk", "--json")
    assert json.loads(shown.output)["study"] == "walk"
    for line in ("list", "show walk 0", "verify walk", "export walk", "summary walk", "best walk", "history", "doctor"):
        answer = command(capfd, *runs, "--storage", database_url, *line.split())
        assert answer.code == 0, (line, answer)
    note = command(capfd, *runs, "--storage", database_url, "note", "walk", "0", "good gait")
    assert note.code == 0, note
    assert "good gait" in command(capfd, *runs, "--storage", database_url, "show", "walk", "0").output
    assert "good gait" not in command(capfd, *runs, "show", "walk", "0").output


def test_two_programs_that_start_at_once_make_the_tables_once(database_url, tmp_path):
    code = "import sys; from vbot_campaign.study.storage import open_storage; open_storage(sys.argv[1]).close()"
    started = [
        subprocess.Popen([sys.executable, "-c", code, database_url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in started:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


# --- where the address comes from -----------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path, monkeypatch):
    file = tmp_path / "settings.yaml"
    monkeypatch.setenv("VBOT_CAMPAIGN_SETTINGS", str(file))

    def write(text, mode=0o600):
        file.write_text(text)
        file.chmod(mode)
        return file

    return write


def test_the_option_goes_before_the_variable_and_that_before_the_file(settings, monkeypatch):
    settings("storage: postgresql://file/campaign\n")
    assert storage_address() == "postgresql+psycopg://file/campaign"
    monkeypatch.setenv("VBOT_CAMPAIGN_STORAGE", "postgresql://variable/campaign")
    assert storage_address() == "postgresql+psycopg://variable/campaign"
    assert storage_address("postgresql://option/campaign") == "postgresql+psycopg://option/campaign"
    assert storage_address("file") is None
    monkeypatch.setenv("VBOT_CAMPAIGN_STORAGE", "file")
    assert storage_address() is None, "a way back to the file in the runs folder"


def test_without_any_the_database_is_the_file_in_the_runs_folder(settings, monkeypatch, tmp_path):
    settings("# nothing yet\n")
    assert storage_address() is None
    monkeypatch.delenv("VBOT_CAMPAIGN_SETTINGS")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert storage_address() is None


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("storege: x", 0o600, "storege: unknown key. Did you mean 'storage'? Valid: storage, launcher, ray_address."),
        ("storage: 5432", 0o600, "storage: is not a text"),
        ("storage: box/campaign", 0o600, "storage: is not the address of a database. Write postgresql+psycopg://"),
        (f"storage: {URL}", 0o644, "holds a password and others may read it. Make it yours alone: chmod 600"),
    ],
)
def test_a_settings_file_that_cannot_be_used(settings, text, mode, message):
    file = settings(f"{text}\n", mode)
    with pytest.raises(SpecError) as raised:
        storage_address()
    assert message in str(raised.value)
    assert str(file) in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_settings_file_that_is_named_and_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("VBOT_CAMPAIGN_SETTINGS", str(tmp_path / "none.yaml"))
    with pytest.raises(SpecError, match=r"none\.yaml: no such file; \$VBOT_CAMPAIGN_SETTINGS names it"):
        storage_address()


def test_a_study_file_says_nothing_of_the_database(capfd, tmp_path):
    text = (Path(__file__).parents[2] / "studies" / "quickstart.yaml").read_text()
    file = tmp_path / "mine.yaml"
    file.write_text(f"{text}\nstorage: {URL}\n")
    error = refused(capfd, "check", file)
    assert "storage: belongs to the machine and not in this file" in error
    assert "--storage URL" in error
    assert "hunter2" not in error


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///runs/campaign.db", "names an SQLite file. That is where studies lie anyway, in the runs folder"),
        ("mysql://ada:hunter2@box/campaign", "mysql is not supported, only PostgreSQL is"),
        ("postgresql+psycopg2://ada:hunter2@box/campaign", "another driver than psycopg is not supported"),
        ("hunter2", "is not the address of a database"),
        ("postgresql://ada:hunter2@box", "postgresql+psycopg://ada:***@box names no database; end it with /NAME"),
        ("postgresql://ada:hunter2@box:port/campaign", "ada:***@box:port/campaign is not an address"),
    ],
)
def test_an_address_of_another_kind_is_refused(capfd, tmp_path, url, message):
    error = refused(capfd, "--runs", tmp_path / "runs", "--storage", url, "list")
    assert message in error
    assert "--storage: " in error
    assert "hunter2" not in error


# --- when it cannot be used -----------------------------------------------------------------------------------------


def test_without_the_driver_the_command_to_install_it_is_named(tmp_path):
    (tmp_path / "psycopg.py").write_text("raise ModuleNotFoundError(\"No module named 'psycopg'\", name='psycopg')\n")
    code = "from vbot_campaign.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--storage", "postgresql://box/campaign", "list"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"},
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "pip install 'psycopg[binary]>=3.2'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_does_not_answer(capfd, tmp_path):
    url = "postgresql://ada:hunter2@127.0.0.1:1/campaign"
    error = refused(capfd, "--runs", tmp_path / "runs", "--storage", url, "list")
    assert "postgresql+psycopg://ada:***@127.0.0.1:1/campaign: " in error
    assert "Connection refused. Is the server running, are host and port right" in error
    assert "hunter2" not in error


def test_a_wrong_password_and_the_right_one(postgres_server: PostgresServer, database_url):
    name = database_url.rpartition("/")[2]
    right = postgres_server.url_with_password(name, "correct horse")
    wrong = postgres_server.url(name, user=f"{LOCKED}:hunter2")
    with pytest.raises(StorageError) as raised:
        open_storage(wrong)
    assert "password authentication failed" in str(raised.value)
    assert "User or password is wrong; libpq also takes the password from ~/.pgpass" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    open_storage(right).close()


def test_a_database_that_is_missing_and_one_that_is_empty(postgres_server: PostgresServer, database_url, tmp_path):
    with pytest.raises(
        StorageError, match=r'database "nowhere" does not exist. Make it on the server: createdb nowhere'
    ):
        open_storage(postgres_server.url("nowhere"))
    empty = CampaignPaths(tmp_path / "runs", database_url)
    assert study_names(empty) == []
    with pytest.raises(StudyNotFoundError, match=r"no studies there yet. Start one with `vbot-campaign run FILE`"):
        load_snapshot(empty, "walk")


def test_tables_of_a_newer_version_are_left_alone(paths, postgres_server: PostgresServer):
    open_storage(paths).close()
    postgres_server.execute(paths.storage.rpartition("/")[2], "UPDATE campaign_schema SET version = 99")
    for read_only in (False, True):
        with pytest.raises(StorageError, match="newer vbot-campaign"):
            open_storage(paths, read_only=read_only)
