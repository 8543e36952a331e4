"""Supervisors of a shared study of toy trials, each in a process and a runs folder of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from vbot_campaign import fs
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import load_snapshot

_DRIVER = """
import sys
from pathlib import Path
from tests.support.builders import TOY_COMMAND, cpu_slots
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.supervisor import resume_study
outcome = resume_study(CampaignPaths(Path(sys.argv[1]), sys.argv[2]), "toy", worker_command=TOY_COMMAND,
    slots=cpu_slots(1), poll_s=0.05, grace_s=20.0, shared=True, lease_s=float(sys.argv[3]))
sys.exit(outcome.exit_code)
"""


def start(paths: CampaignPaths, lease_s: float = 6.0, *, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start a supervisor that joins the study ``toy`` with one slot.

    Args:
        paths: Its runs folder, and the database.
        lease_s: How long others leave its trials to it.
        before: What its command line begins with.
    """
    return subprocess.Popen(
        [*before, sys.executable, "-c", _DRIVER, str(paths.root), str(paths.storage), str(lease_s)],
        env={**os.environ, "PYTHONPATH": os.getcwd()},  # noqa: PTH109
    )


def decisions(paths: CampaignPaths, action: str) -> list[dict[str, Any]]:
    """Return the decisions of one kind of the supervisor in a runs folder."""
    return [line for line in fs.read_lines(paths.study("toy").decisions) if line["action"] == action]


def wait_until(condition: Callable[[], Any], timeout_s: float = 240.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def held_by(paths: CampaignPaths, pid: int) -> list[int]:
    """Return the trials that the database leaves to the supervisor with a process number, less one being written to."""
    storage = open_storage(paths, read_only=True)
    with storage.engine.connect().execution_options(postgresql_readonly=False) as connection:
        query = (
            "SELECT c.trial FROM campaign_claims c JOIN campaign_supervisors s ON c.session = s.session "
            "WHERE c.trial >= 0 AND s.pid = %(pid)s FOR UPDATE OF c SKIP LOCKED"
        )
        held = [trial for (trial,) in connection.exec_driver_sql(query, {"pid": pid})]
    storage.close()
    return held


def stop_in_a_trial(
    seen: CampaignPaths, own: CampaignPaths, process: subprocess.Popen[bytes], *, with_checkpoint: bool = False
) -> int:
    """Leave a supervisor stopped in the middle of a trial, and of no write; return the trial's number.

    In the middle of a write it would keep the trial from the others for half a minute more.

    Args:
        seen: The study, as it can be seen from here.
        own: Runs folder of the supervisor.
        process: The supervisor, which has one slot.
        with_checkpoint: Only where the trial has one to go on from.
    """
    while True:
        assert process.poll() is None, "it ended before it could be stopped in a trial"
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)  # what it has sent is written by then
        for held in held_by(seen, process.pid):
            trial = load_snapshot(seen, "toy").trials[held]
            started = any(line["trial"] == held for line in decisions(own, "started"))
            saved = any(checkpoint.kind == "resume" for checkpoint in trial.checkpoints)
            if started and not trial.state.is_finished and (saved or not with_checkpoint):
                return held
        process.send_signal(signal.SIGCONT)
        time.sleep(0.2)


def kill_family(process: subprocess.Popen[Any]) -> None:
    """Kill a process and all that it has started, as when a machine goes off."""
    root = psutil.Process(process.pid)
    root.suspend()  # so that it starts no worker between the look and the kill
    # It comes last: as long as it is there, no number of a process that it has started is given to another one.
    for victim in (*root.children(recursive=True), root):
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()


def kill_all(process: subprocess.Popen[Any]) -> None:
    """Kill a supervisor that still runs, and its workers."""
    kill_family(process)
    assert process.wait(240) == -signal.SIGKILL
