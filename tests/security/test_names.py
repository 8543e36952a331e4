"""Names of studies, folders and files cannot leave the runs folder."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import torch

from tests.support.faults import command, refused
from tests.support.stored_study import store_study
from tests.support.study_text import write_study
from vbot_campaign.errors import SpecError
from vbot_campaign.paths import CampaignPaths, StudyPaths, name_problem
from vbot_campaign.study.study import close_readers
from vbot_campaign.study.tables import is_inside

OUTSIDE = [
    "../../x",
    "/etc",
    "..",
    ".",
    ".hidden",
    "a/b",
    "a\\b",
    "C:x",
    "",
    "x" * 65,
    "a\nb",
    "walk\n",
    "a\0b",
    "née",
    "-rf",
]
WINDOWS = ["con", "NUL", "aux.yaml", "Com1", "lpt9.txt", "walk."]


@pytest.mark.parametrize("name", [*OUTSIDE, *WINDOWS, "a..b"], ids=ascii)
def test_a_name_that_could_lead_out_is_no_name(name, tmp_path):
    assert "cannot be a name" in str(name_problem(name))
    with pytest.raises(SpecError, match="cannot be a name"):
        CampaignPaths(tmp_path).study(name)
    with pytest.raises(SpecError, match="cannot be a name"):
        StudyPaths(tmp_path).imported(name)


@pytest.mark.parametrize("name", ["walk", "section001_far", "7", "A.b-c_d", "console", "x" * 64])
def test_plain_names_are_names(name):
    assert name_problem(name) is None


@pytest.mark.parametrize("name", ["../../x", "..", "/tmp/x", "a/b", ".git", "con", "x" * 300])
def test_a_study_file_with_such_a_name_is_refused_with_its_line(name, tmp_path, capfd):
    file = write_study(tmp_path, ("study: tiny", f"study: {name!r}"))
    error = refused(capfd, "--runs", tmp_path / "runs", "run", file)
    assert error.startswith(f"error: {file}:1: study: ")
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A runs folder with a study, and a folder beside it that nobody may reach by a name."""
    monkeypatch.chdir(tmp_path)
    store_study(CampaignPaths(tmp_path / "runs"))
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "note.txt").write_text("mine")
    yield tmp_path
    close_readers()


@pytest.mark.parametrize(
    "line",
    [
        "resume ../secret",
        "status ../secret",
        "status --json ../secret",
        "stop ../secret",
        "verify ../secret",
        "export ../secret",
        "backup ../secret",
        "tensorboard ../secret",
        "checkpoints import policy.pt --study ../secret",
    ],
)
def test_a_command_with_such_a_name_is_refused_and_touches_nothing(world, capfd, line):
    torch.save({"x": torch.zeros(1)}, world / "policy.pt")
    before = sorted(world.rglob("*"))
    error = refused(capfd, "--runs", world / "runs", *line.split())
    assert "../secret" in error
    assert "cannot be a name" in error or "not found" in error
    side = ("campaign.db-shm", "campaign.db-wal")
    assert [p for p in sorted(world.rglob("*")) if p.name not in side] == [p for p in before if p.name not in side]


@pytest.mark.parametrize(
    "path", ["../secret", "/etc", "trials/../../secret", "trials//x", "", "a\\..\\b", "C:/x", "./x"]
)
def test_a_path_that_leads_out_is_not_inside(path):
    assert not is_inside(path)
    assert is_inside("trials/0001_20260131T120000Z_PPO/checkpoints/best_agent.pt")


@pytest.mark.parametrize(("table", "column"), [("campaign_trials", "folder"), ("campaign_checkpoints", "path")])
@pytest.mark.parametrize("line", ["status walk", "verify walk", "backup walk"])
def test_a_path_in_the_database_cannot_lead_out(world, capfd, table, column, line):
    with sqlite3.connect(world / "runs" / "campaign.db") as connection:
        connection.execute(f"UPDATE {table} SET {column} = '../../secret' WHERE trial = 0")  # noqa: S608
    connection.close()
    error = refused(capfd, "--runs", world / "runs", *line.split())
    assert "the database names '../../secret', which is outside of its study's folder." in error


def test_an_imported_policy_keeps_to_the_folder_of_its_study(world, capfd):
    file = Path("a b.pt")
    torch.save({"x": torch.zeros(1)}, file)
    answer = command(capfd, "--runs", world / "runs", "checkpoints", "import", file, "--study", "walk")
    assert answer.code == 2
    assert "'a b' cannot be a name" in answer.error
