"""The database file: how it is opened, who else reads it, and what is refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import optuna
import pytest
import sqlalchemy as sa

from tests.support.builders import study_spec
from vbot_campaign.errors import StorageError, StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import CampaignStudy


@pytest.fixture
def paths(tmp_path):
    return CampaignPaths(tmp_path / "runs")


def test_the_database_is_made_with_write_ahead_log_and_foreign_keys(paths):
    storage = open_storage(paths)
    with storage.engine.connect() as connection:
        pragmas = {name: connection.scalar(sa.text(f"PRAGMA {name}")) for name in ("journal_mode", "foreign_keys")}
        pragmas["busy_timeout"] = connection.scalar(sa.text("PRAGMA busy_timeout"))
        pragmas["synchronous"] = connection.scalar(sa.text("PRAGMA synchronous"))
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 30_000, "synchronous": 1}
    storage.close()
    open_storage(paths).close()  # and opening it again changes nothing


def test_optuna_and_its_command_line_read_the_study(paths):
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, study_spec(study="section001"))
    study.ask()
    study.report(0, 3000, 0.25)
    study.complete(0, 0.75, {"success_rate": 0.75}, None)
    loaded = optuna.load_study(study_name="section001", storage=paths.database_url)
    assert loaded.best_value == 0.75
    assert loaded.trials[0].intermediate_values == {3000: 0.25}
    code = "import sys; from optuna.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "studies", "--storage", paths.database_url]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
    assert "section001" in shown.stdout
    storage.close()


def test_a_reader_changes_nothing_and_needs_a_database(paths):
    with pytest.raises(StudyNotFoundError, match="no database there yet"):
        open_storage(paths, read_only=True)
    assert not paths.root.exists()
    open_storage(paths).close()
    reader = open_storage(paths, read_only=True)
    with pytest.raises(optuna.exceptions.StorageInternalError):
        reader.optuna.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "x")
    reader.close()


def test_a_file_that_is_no_database_is_named(paths):
    paths.root.mkdir()
    paths.database.write_text("# this is a shopping list, long enough to be read as a header of a file\n" * 20)
    with pytest.raises(StorageError, match=r"campaign\.db: file is not a database\. Move the file away"):
        open_storage(paths)


def test_a_folder_that_cannot_be_written_is_named(paths):
    paths.root.parent.mkdir(exist_ok=True)
    paths.root.write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"campaign\.db: .*Check that the folder exists on a local disk"):
        open_storage(paths)


def test_tables_of_a_newer_version_are_left_alone(paths):
    open_storage(paths).close()
    with sqlite3.connect(paths.database) as connection:
        connection.execute("UPDATE campaign_schema SET version = 99")
    connection.close()
    with pytest.raises(StorageError, match=r"newer vbot-campaign \(tables of version 99, this program knows \d+\)"):
        open_storage(paths)


def test_a_database_of_optuna_alone_is_not_read_as_ours(paths):
    paths.root.mkdir()
    optuna.create_study(study_name="theirs", storage=paths.database_url)
    with pytest.raises(StorageError, match="no campaign tables"):
        open_storage(paths, read_only=True)
