"""Our tables brought to the version that the program knows: from nothing, from each earlier one, from half of one."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.support.stored_study import store_study
from vbot_campaign.errors import StorageError
from vbot_campaign.exporters.mirrors import export_all
from vbot_campaign.exporters.verify import verify
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import tables
from vbot_campaign.study.backup import automatic_backups
from vbot_campaign.study.migrations import VERSION_TABLE
from vbot_campaign.study.plans import create_plan, plan_names
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import close_readers, load_snapshot

NEW_SINCE = {1: ("campaign_plans",), 2: ("campaign_queue",), 3: ("campaign_supervisors", "campaign_claims")}
"""Tables that a database of an earlier version does not have."""


@pytest.fixture(params=["file", pytest.param("server", marks=pytest.mark.postgres)])
def paths(request, tmp_path):
    url = request.getfixturevalue("database_url") if request.param == "server" else None
    return CampaignPaths(tmp_path / "runs", url)


def execute(paths, *statements):
    storage = open_storage(paths)
    engine = storage.engine
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    storage.close()


def as_made_by(paths, version):
    """Turn a database into what an earlier version of the program would have left, which knew nothing of alembic."""
    dropped = [f"DROP TABLE {name}" for later in NEW_SINCE if later >= version for name in NEW_SINCE[later]]
    execute(paths, *dropped, "DROP TABLE campaign_revision", f"UPDATE campaign_schema SET version = {version}")  # noqa: S608


def versions(paths):
    storage = open_storage(paths, read_only=True)
    try:
        with storage.engine.connect() as connection:
            ours = connection.scalar(sa.text("SELECT version_num FROM campaign_revision"))
            schema = connection.execute(sa.text("SELECT version FROM campaign_schema")).scalars().all()
            theirs = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all()
            return ours, schema, theirs, storage.rdb.get_head_version()
    finally:
        storage.close()


def test_the_steps_lead_to_the_tables_that_the_program_uses(paths):
    storage = open_storage(paths)

    def is_ours(item, name, kind, reflected, compare_to):
        return kind != "table" or (name.startswith("campaign_") and name != VERSION_TABLE)

    with storage.engine.connect() as connection:
        options = {"compare_type": True, "include_object": is_ours}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), tables.Base.metadata) == []
    storage.close()


def test_our_version_and_that_of_optuna_never_meet(paths):
    open_storage(paths).close()
    ours, schema, theirs, head = versions(paths)
    assert (ours, schema) == (str(tables.SCHEMA_VERSION), [tables.SCHEMA_VERSION])
    assert theirs == [head]


@pytest.mark.parametrize("version", NEW_SINCE)
def test_a_database_of_an_earlier_version_keeps_its_studies_and_gets_what_is_new(paths, version):
    store_study(paths)
    export_all(paths, "walk")
    before = load_snapshot(paths, "walk")
    close_readers()
    as_made_by(paths, version)
    assert load_snapshot(paths, "walk") == before, "looking changes nothing"
    close_readers()
    open_storage(paths).close()
    assert versions(paths)[:2] == (str(tables.SCHEMA_VERSION), [tables.SCHEMA_VERSION])
    assert load_snapshot(paths, "walk") == before
    assert verify(paths, "walk") == []
    create_plan(paths, "curriculum", {}, {})
    assert plan_names(paths) == ["curriculum"]
    close_readers()


def test_a_file_is_saved_before_it_is_changed(tmp_path):
    paths = CampaignPaths(tmp_path / "runs")
    store_study(paths)
    as_made_by(paths, 1)
    open_storage(paths).close()
    (saved,) = automatic_backups(paths)
    with contextlib.closing(sqlite3.connect(saved)) as connection:
        assert connection.execute("SELECT version FROM campaign_schema").fetchone() == (1,)


def test_tables_whose_making_was_cut_off_are_finished(paths):
    open_storage(paths).close()
    execute(
        paths,
        "DROP TABLE campaign_revision",
        "DELETE FROM campaign_schema",
        "DROP TABLE campaign_checkpoints",
        "DROP INDEX ix_campaign_sessions_study",
    )
    store_study(paths)
    assert len(load_snapshot(paths, "walk").trials) == 3
    close_readers()


def test_a_step_that_fails_leaves_all_as_it_was(paths, monkeypatch):
    open_storage(paths).close()
    as_made_by(paths, 1)
    upgrade = command.upgrade

    def fail(*arguments):
        upgrade(*arguments)
        raise sa.exc.OperationalError("the disk is full", None, Exception("the disk is full"))

    monkeypatch.setattr(command, "upgrade", fail)
    with pytest.raises(StorageError, match="the disk is full"):
        open_storage(paths)
    monkeypatch.undo()
    engine = sa.create_engine(paths.database_url)
    names = sa.inspect(engine).get_table_names()
    assert "campaign_plans" not in names
    assert VERSION_TABLE not in names
    engine.dispose()
    open_storage(paths).close()
    assert plan_names(paths) == []
    close_readers()
