"""The doctor's answers on this machine, and on machines that are not well."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.stored_study import store_study
from vbot_campaign.paths import RUNS_VARIABLE, CampaignPaths
from vbot_campaign.supervisor.gpus import GpuReading
from vbot_campaign.watch import doctor, doctor_machine, doctor_runs, doctor_software
from vbot_campaign.watch.doctor import Check, Level


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    return CampaignPaths(tmp_path / "runs")


def one(checks: Iterable[Check]) -> Check:
    (check,) = checks
    return check


def run_doctor(paths: CampaignPaths, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vbot_campaign.cli", "doctor", *options],
        env={**os.environ, RUNS_VARIABLE: str(paths.root)},
        capture_output=True,
        text=True,
        timeout=400,
    )


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_this_machine_is_fit(paths: CampaignPaths) -> None:
    done = run_doctor(paths, "--json")
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert (found["schema_version"], found["fit"]) == (1, True)
    levels = {check["name"]: check["level"] for check in found["checks"]}
    assert {"Python", "packages", "torch", "cores", "mujoco", "renderer", "disk speed", "database"} <= set(levels)
    assert {levels[name] for name in ("Python", "torch", "mujoco", "file system", "database")} == {"ok"}
    assert all(check["advice"] or check["level"] == "ok" for check in found["checks"])
    assert not paths.root.exists()  # it only looks


@pytest.mark.slow
def test_a_damaged_database_is_exit_code_1_and_says_what_to_do(paths: CampaignPaths) -> None:
    paths.root.mkdir(parents=True)
    paths.database.write_bytes(b"no database" * 1000)
    done = run_doctor(paths)
    assert done.returncode == 1
    assert "Not fit to run studies: database." in done.stdout
    assert "-> Stop all studies" in done.stdout
    assert all(len(line) <= 80 or "/" in line for line in done.stdout.splitlines())
    assert "Traceback" not in done.stderr


def test_a_question_that_breaks_does_not_end_the_examination() -> None:
    def broken() -> Iterator[Check]:
        yield Check("disk", Level.OK, "fine")
        raise OSError("no such device")

    check = one(doctor.answers("disk", broken))
    assert (check.level, check.found) == (Level.WARN, "cannot be examined: OSError: no such device")


def test_answers_are_lines_of_80_columns_and_a_verdict() -> None:
    bad = Check("database", Level.FAIL, "malformed " * 20, "put back a copy " * 10)
    lines = doctor.render_check(bad).splitlines()
    assert lines[0].startswith("fail database      malformed")
    assert max(len(line) for line in lines) <= 80
    assert any(line.strip().startswith("-> put back") for line in lines)
    warn = Check("ports", Level.WARN, "8080 is in use")
    assert doctor.render_verdict([bad, warn]) == "Not fit to run studies: database. Worth a look: ports."
    assert doctor.render_verdict([warn]) == "Fit to run studies. Worth a look: ports."


# --- software ---------------------------------------------------------------------------------------------------------


def test_packages_that_are_missing_or_older_are_named() -> None:
    assert doctor_software.mismatch("rich", Requirement("rich>=13"), None) == "rich is missing"
    assert doctor_software.mismatch("rich", Requirement("rich>=13"), "12.0") == "rich is 12.0, needed is >=13"
    assert doctor_software.mismatch("torch", Requirement("torch>=2.9"), "2.13.0+cpu") is None
    assert doctor_software.older_than("rich", "15.0.0", "14.9") == "rich 14.9 (tested 15.0.0)"
    assert doctor_software.older_than("torch", "2.13.0", "2.13.0+cu130") is None


def test_what_is_needed_is_what_the_project_requires(tmp_path: Path) -> None:
    needed = doctor_software.needed()
    assert {"optuna", "torch", "mujoco"} <= set(needed)
    assert "motrixsim" not in needed  # an extra
    assert set(doctor_software.pinned_versions(doctor_software.CONSTRAINTS)) == set(needed)
    assert doctor_software.pinned_versions(tmp_path / "none.txt") == {}


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("import os; os.abort()", "killed by signal 6"),
        ("raise SystemExit(3)", "exit code 3"),
        ("import time; time.sleep(60)", "no answer within 2 s"),
    ],
)
def test_what_crashes_or_hangs_does_so_in_its_own_process(code: str, problem: str) -> None:
    done = doctor_software.Probe.run(code, timeout_s=2.0 if "sleep" in code else 60.0)
    assert (done.output, done.problem) == (None, problem)


def test_a_renderer_that_cannot_draw_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    check = one(doctor_software.renderer())
    assert check.level is Level.WARN
    assert check.found.startswith("cannot draw: disable: ")
    assert "libosmesa6" in check.advice


# --- the machine ------------------------------------------------------------------------------------------------------


def gpu(**overrides: object) -> GpuReading:
    values = {
        "index": 0,
        "uuid": "GPU-1",
        "name": "H100",
        "memory_used_mb": 1000.0,
        "memory_total_mb": 80_000.0,
        "utilisation": 0.5,
        "temperature_c": 60.0,
        "throttled": None,
    }
    return GpuReading(**{**values, **overrides})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reading", "level", "words"),
    [
        (gpu(), Level.OK, "H100, 1.0 of 80.0 GB in use, 50% busy, 60 C"),
        (gpu(utilisation=None, temperature_c=None), Level.OK, "H100, 1.0 of 80.0 GB in use"),
        (gpu(memory_used_mb=50_000.0), Level.WARN, "50.0 of 80.0 GB"),
        (gpu(temperature_c=91.0), Level.WARN, "91 C"),
        (gpu(throttled="too hot"), Level.WARN, "too hot"),
    ],
)
def test_a_gpu_is_judged_by_its_reading(reading: GpuReading, level: Level, words: str) -> None:
    check = next(iter(doctor_machine.gpus([reading])))
    assert (check.name, check.level) == ("GPU 0", level)
    assert words in check.found


def test_without_a_gpu_trials_run_on_the_cpu() -> None:
    assert one(doctor_machine.gpus([])).level is Level.OK


def test_a_clock_that_is_set_while_it_is_watched_is_a_warning() -> None:
    def times(*values: float) -> Iterator[float]:
        yield from values
        yield values[-1]

    def watch(wall_passed: float) -> Check:
        wall, steady = times(1e9, 1e9 + wall_passed), times(5.0, 5.5)
        return one(doctor_machine.clock(lambda: next(wall), lambda: next(steady), lambda _: None))

    assert watch(0.5).level is Level.OK
    assert watch(30.0).level is Level.WARN
    assert watch(-2.0).level is Level.WARN


def test_a_port_in_use_is_said() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        check = one(doctor_machine.ports([("dashboard", port)]))
    assert (check.level, check.found) == (Level.WARN, f"in use: {port} (dashboard)")
    assert one(doctor_machine.ports([("dashboard", port)])).level is Level.OK


# --- the runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "allowed", "level"),
    [("ext4", False, Level.OK), ("9p", False, Level.WARN), ("nfs4", False, Level.FAIL), ("nfs4", True, Level.WARN)],
)
def test_a_network_file_system_is_refused(
    paths: CampaignPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, allowed: bool, level: Level
) -> None:
    monkeypatch.setenv(doctor_runs.ALLOW_VARIABLE, "1" if allowed else "0")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"disk / {kind} rw 0 0\n", encoding="utf-8")
    check = one(doctor_runs.file_system(paths, mounts))
    assert check.level is level
    assert f"on {kind} (mounted at /)" in check.found


def test_the_disk_is_tried_where_the_runs_will_be_and_left_as_it_was(paths: CampaignPaths) -> None:
    check = one(doctor_runs.speed(paths))
    assert check.found.startswith("fsync takes ")
    assert list(paths.root.parent.iterdir()) == []
    assert one(doctor_runs.space(paths)).found.endswith("GB free")


def test_a_whole_database_is_counted_and_a_newer_one_refused(paths: CampaignPaths) -> None:
    assert one(doctor_runs.database(paths)).found == "none yet; the first study makes it"
    store_study(paths)
    check = one(doctor_runs.database(paths))
    assert check.level is Level.OK
    assert check.found.startswith("1 study, ")
    with sqlite3.connect(paths.database) as connection:
        connection.execute("UPDATE campaign_schema SET version = 99")
    connection.close()
    check = one(doctor_runs.database(paths))
    assert check.level is Level.FAIL
    assert "newer vbot-campaign" in check.found
