"""Passwords of databases are never shown, and files get no more rights than the user's umask gives."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from tests.support.builders import TOY_COMMAND, cpu_slots, study_spec
from tests.support.postgres import PostgresServer
from vbot_campaign import fs
from vbot_campaign.errors import StorageError
from vbot_campaign.exporters.dashboard import export_dashboard
from vbot_campaign.exporters.mirrors import MirrorExporter
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.settings import STORAGE_VARIABLE
from vbot_campaign.spec.training import ThreadSettings
from vbot_campaign.storage_url import masked
from vbot_campaign.study.archive import write_archive
from vbot_campaign.study.backup import make_automatic_backup
from vbot_campaign.study.storage import open_storage, storage_errors, without_password
from vbot_campaign.study.study import close_readers
from vbot_campaign.supervisor import run_study
from vbot_campaign.supervisor.slots import worker_environment

SECRET = "hunter2hunter2"
URLS = [
    "postgresql://ada:{}@127.0.0.1:1/campaign",
    "mysql://ada:{}@127.0.0.1:1/campaign",
    "postgresql://127.0.0.1:1/campaign?user=ada&password={}",
    "nosuchdatabase://ada:{}@box/campaign",
]


@pytest.mark.parametrize("secret", [SECRET, "p%40ss%2Fword"])
@pytest.mark.parametrize("url", URLS)
def test_the_password_of_a_database_is_in_no_message(url, secret, caplog, capfd):
    full = url.format(secret)
    plain = secret.replace("%40", "@").replace("%2F", "/")
    with pytest.raises(StorageError) as raised:
        open_storage(full)
    shown = "".join(traceback.format_exception(raised.value)) + caplog.text + "".join(capfd.readouterr())
    for form in (secret, plain):
        assert form not in str(raised.value)
        assert form not in without_password(full)
        assert form not in shown.replace(repr(full), "")
    assert "campaign" in str(raised.value)


def test_a_drivers_own_words_are_masked_too():
    url = "postgresql://ada:hunter2@box/campaign"
    with pytest.raises(StorageError) as raised, storage_errors(url, (OSError,)):
        raise OSError(f"cannot connect with {url}")
    assert str(raised.value).startswith("postgresql://ada:***@box/campaign: cannot connect with")
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.postgres
def test_the_password_is_in_no_file_and_no_answer(postgres_server, database_url, tmp_path, monkeypatch, capfd):
    url = _with_password(postgres_server, database_url)
    monkeypatch.setenv("TOY_PLAN", "{}")
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    paths = CampaignPaths(tmp_path / "runs", url)
    options = {"worker_command": TOY_COMMAND, "slots": cpu_slots(1), "poll_s": 0.02}
    run_study(paths, study_spec(budget={"trials": 1}), **options, observers=(MirrorExporter(paths, "toy"),))
    write_archive(paths, "toy")
    export_dashboard(paths, "toy")
    close_readers()
    environment = {**os.environ, STORAGE_VARIABLE: url}
    lines = (
        "status toy --json",
        "list",
        "verify toy",
        "show toy 0",
        "report toy",
        "doctor --json",
        "resume toy",
        "show toy 9",
    )
    for line in lines:
        asked = [sys.executable, "-m", "vbot_campaign.cli", "--runs", paths.root, *line.split()]
        done = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode in (0, 1, 2), done
        assert SECRET not in done.stdout + done.stderr
    assert SECRET not in repr(paths)
    files = [path for path in paths.root.rglob("*") if path.is_file()]
    assert len(files) > 15
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


@pytest.mark.postgres
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_password_is_in_no_process_list_and_nothing_inherits_it(postgres_server, database_url, tmp_path):
    url = _with_password(postgres_server, database_url)
    open_storage(url).close()
    options = ["--runs", str(tmp_path / "runs"), "-v", "--storage", url]
    command = [sys.executable, "-u", "-m", "vbot_campaign.cli", *options, "dashboard", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert "http://127.0.0.1:" in process.stdout.readline()
        shown = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert SECRET not in shown
        assert "--storage\0postgresql+psycopg://locked:***@" in shown
    finally:
        process.terminate()
        process.wait(240)
        process.stdout.close()
    inherited = worker_environment(cpu_slots(1)[0], ThreadSettings(), {STORAGE_VARIABLE: url, "HOME": "/home/ada"})
    assert SECRET not in str(inherited)
    assert inherited["HOME"] == "/home/ada"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:hunter2@box:5432/campaign", "postgresql://ada:***@box:5432/campaign"),
        ("postgresql://ada:hun/t:e@r2@box/campaign", "postgresql://ada:***@box/campaign"),
        (
            "postgresql://box/campaign?user=ada&password=hunter2&x=1",
            "postgresql://box/campaign?user=ada&password=***&x=1",
        ),
        ("postgresql://ada@box/campaign", "postgresql://ada@box/campaign"),
    ],
)
def test_an_address_is_shown_without_its_password(url, shown):
    assert masked(url) == shown


def _with_password(server: PostgresServer, url: str) -> str:
    return server.url_with_password(url.rpartition("/")[2], SECRET)


def test_what_is_no_address_is_not_repeated():
    assert without_password("hunter2") == "the database"


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o000])
def test_files_follow_the_umask_and_locks_are_never_open_to_all(umask, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_PLAN", "{}")
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    before = os.umask(umask)
    try:
        paths = CampaignPaths(tmp_path / "runs")
        run_study(
            paths,
            study_spec(budget={"trials": 1}),
            worker_command=TOY_COMMAND,
            slots=cpu_slots(1),
            poll_s=0.02,
            observers=(MirrorExporter(paths, "toy"),),
        )
        write_archive(paths, "toy")
        make_automatic_backup(paths)
    finally:
        os.umask(before)
    files = [path for path in paths.root.rglob("*") if path.is_file()]
    assert len(files) > 15
    for path in files:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & umask == 0, f"{path} has mode {mode:o}"
        assert mode & 0o600 == 0o600
    locks = [path for path in files if "lock" in path.name]
    assert {path.name for path in locks} >= {".supervisor.lock", ".worker.lock", "campaign.db-lock"}
    for path in locks:
        assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0, path
    if umask == 0o022:
        assert stat.S_IMODE(paths.study("toy").registry.stat().st_mode) == 0o644, "others may read the mirrors"


def test_a_replaced_file_is_readable_as_the_umask_says(tmp_path: Path):
    before = os.umask(0o027)
    try:
        fs.write_text(tmp_path / "x", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
