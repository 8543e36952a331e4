"""The faults themselves, where it takes no study to see that they bite."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from vbot_campaign import fs
from vbot_campaign.chaos import campaign as chaos_campaign
from vbot_campaign.chaos import faults
from vbot_campaign.chaos.campaign import ToyCampaign
from vbot_campaign.chaos.faults import MissedError, can_strike, strike
from vbot_campaign.chaos.schedule import Kind, Moment, PlannedRound


def planned(kind: Kind, choice: float = 0.5) -> PlannedRound:
    return PlannedRound(1, kind, Moment.ANY, gap=0.1, seconds=1.0, choice=choice)


def unfinished_trial(campaign: ToyCampaign) -> Path:
    """Return the folder of the last trial, as it was before the worker wrote its result."""
    (folder,) = campaign.paths.trials.glob("0001_*")
    (folder / "result.json").unlink()
    return folder


@pytest.mark.parametrize("choice", [0.0, 0.5, 0.999])
def test_a_torn_line_is_the_last_one_and_only_that(copied: ToyCampaign, choice: float) -> None:
    folder = unfinished_trial(copied)
    before = (folder / "metrics.jsonl").read_bytes()
    strike(copied, planned(Kind.METRICS_TORN, choice))
    after = (folder / "metrics.jsonl").read_bytes()
    assert before.startswith(after)
    assert not after.endswith(b"\n")
    assert fs.read_lines(folder / "metrics.jsonl") == [json.loads(line) for line in before.splitlines()[:-1]]


@pytest.mark.parametrize("choice", [0.0, 0.999])
def test_a_truncated_checkpoint_is_the_newest(copied: ToyCampaign, choice: float) -> None:
    folder = unfinished_trial(copied)
    sizes = {path.name: path.stat().st_size for path in (folder / "checkpoints").glob("agent_*.pt")}
    strike(copied, planned(Kind.CHECKPOINT_TRUNCATED, choice))
    newest = max(sizes, key=lambda name: int(name.removeprefix("agent_").removesuffix(".pt")))
    now = {path.name: path.stat().st_size for path in (folder / "checkpoints").glob("agent_*.pt")}
    assert now[newest] < sizes[newest]
    assert {name: size for name, size in now.items() if name != newest}.items() <= sizes.items()
    assert copied.progress.trial is not None
    assert copied.progress.trial.newest_destroyed


@pytest.mark.parametrize("kind", [Kind.METRICS_TORN, Kind.CHECKPOINT_TRUNCATED])
def test_a_trial_that_ended_is_not_damaged(copied: ToyCampaign, kind: Kind) -> None:
    with pytest.raises(MissedError):
        strike(copied, planned(kind))


def test_mirrors_are_removed_one_or_all(copied: ToyCampaign) -> None:
    assert len(faults._mirrors(copied)) == 3 + 2 * 2
    strike(copied, planned(Kind.MIRROR_REMOVED))
    assert len(faults._mirrors(copied)) == 6
    strike(copied, planned(Kind.MIRRORS_REMOVED))
    assert faults._mirrors(copied) == []


def test_the_database_is_locked_for_others_and_then_free(tmp_path: Path) -> None:
    path = tmp_path / "campaign.db"
    sqlite3.connect(path).execute("CREATE TABLE t (x)").connection.close()
    command = [sys.executable, "-m", "vbot_campaign.chaos.lock_holder", str(path), "5.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        connection = sqlite3.connect(path, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            connection.execute("INSERT INTO t VALUES (1)")
    connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    assert holder.returncode == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of another process")
def test_a_full_disk_stops_a_log_from_growing_and_can_be_emptied(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "import sys\n"
        "for line in sys.stdin:\n"
        f"    try: print(open({str(log)!r}, 'ab', buffering=0).write(b'x' * 1000), flush=True)\n"
        "    except OSError as error: print(error.strerror, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def written() -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    with process:
        assert written() == "1000"
        faults._limit_files(psutil.Process(process.pid), faults.FULL_DISK_BYTES)
        assert [written(), written()] == ["24", "File too large"], "1024 bytes in all"
        faults._limit_files(psutil.Process(process.pid), psutil.RLIM_INFINITY)
        assert written() == "1000"
        process.kill()


def test_what_has_gone_cannot_be_hit(copied: ToyCampaign) -> None:
    copied.progress.poll()
    for kind in Kind:
        assert not can_strike(copied, kind), "no supervisor is there"
    with pytest.raises(MissedError):
        strike(copied, planned(Kind.WORKER_KILLED))


def test_killing_ends_what_works_in_the_folder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos_campaign, "GONE_S", 600.0)  # longer than it may take, and may be slow all the same
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    sleeper = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    inside, outside = (subprocess.Popen(sleeper, cwd=folder, stdout=subprocess.PIPE) for folder in (here, there))
    with inside, outside:
        for process in (inside, outside):
            assert process.stdout is not None
            process.stdout.readline()
        started = time.monotonic()
        ToyCampaign(here).kill_all()
        assert time.monotonic() - started < 300
        assert inside.wait(timeout=240) < 0
        assert outside.poll() is None
        outside.kill()
