"""Two machines, as far as the network can tell, at one study: one is cut off for a while, one is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections import Counter

import pytest

from tests.support.builders import study_spec
from tests.support.postgres import running_server
from tests.support.sharing import decisions, held_by, kill_all, start, wait_until
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.snapshot import TrialState
from vbot_campaign.study.study import close_readers, load_snapshot
from vbot_campaign.supervisor import create_study

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # it waits far more than it computes, on a busy machine for long
    pytest.mark.skipif(shutil.which("ip") is None, reason="needs the program ip (iproute2)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces"),
]
TRIALS = 40
LEFT = 12
"""Trials that are left at most when the second machine goes off."""
CUT_S = 30.0
LEASE_S = 10.0


def ip(*arguments):
    return subprocess.run(["ip", *map(str, arguments)], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def machine(number):
    """Make a network of its own with one link to here; yield its name and the address that it has of here."""
    name, link = f"vbot{os.getpid()}_{number}", f"vb{os.getpid() % 100_000}_{number}"
    here, there = f"10.213.{number}.1", f"10.213.{number}.2"
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
    try:
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("addr", "add", f"{here}/24", "dev", link)
        ip("link", "set", link, "up")
        ip("-n", name, "addr", "add", f"{there}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield name, link, here
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
        subprocess.run(["ip", "link", "del", link], capture_output=True)


def cut_while_it_trains(link, seen, supervisor, process):
    """Cut a link while the supervisor behind it trains a trial, and leave it stopped; return the trial's number.

    Args:
        link: The link.
        seen: The study, as it can be seen from here.
        supervisor: Runs folder of the supervisor.
        process: Its process.
    """
    while True:
        assert process.poll() is None, "it ended before it could be cut off"
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)  # what it has sent is written by then
        held = held_by(seen, process.pid)
        if held and any(line["trial"] == held[0] for line in decisions(supervisor, "started")):
            ip("link", "set", link, "down")
            return held[0]
        process.send_signal(signal.SIGCONT)
        time.sleep(0.2)


def told(*supervisors):
    return Counter(line["trial"] for paths in supervisors for line in decisions(paths, "completed"))


def test_forty_trials_end_once_though_one_link_is_cut_and_one_machine_goes_off(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_PLAN", "{}")
    monkeypatch.setenv("TOY_ITERATION_S", "0.05")
    with running_server("*") as server, server.database() as url, machine(1) as one, machine(2) as two:
        paths = CampaignPaths(tmp_path / "made", url)
        create_study(paths, study_spec(budget={"trials": TRIALS}))
        name = url.rpartition("/")[2]
        cut, off = (CampaignPaths(tmp_path / m[0], server.url(name, host=m[2])) for m in (one, two))
        first, second = (start(p, LEASE_S, before=("ip", "netns", "exec", m[0])) for p, m in ((cut, one), (off, two)))
        try:
            wait_until(lambda: decisions(cut, "started") and decisions(off, "started"))

            # For half a minute the first is cut off. The second takes its trial over and tells it.
            held = cut_while_it_trains(one[1], paths, cut, first)
            first.send_signal(signal.SIGCONT)
            since = time.monotonic()
            wait_until(lambda: told(off)[held])
            time.sleep(max(0.0, since + CUT_S - time.monotonic()))
            taken = load_snapshot(paths, "toy").trials[held]
            begun = len(decisions(cut, "started"))
            ip("link", "set", one[1], "up")
            wait_until(lambda: len(decisions(cut, "started")) > begun)
            wait_until(lambda: told(cut, off).total() >= TRIALS - LEFT, timeout_s=600.0)

            # Then the second machine goes off in the middle of a trial, without a word to the server.
            orphan = cut_while_it_trains(two[1], paths, off, second)
            kill_all(second)
            assert told(cut, off).total() < TRIALS
            assert first.wait(400) == 0
        finally:
            for supervisor in (first, second):
                supervisor.kill()
                supervisor.wait(10)
        snapshot = load_snapshot(paths, "toy")
        assert [trial.state for trial in snapshot.trials] == [TrialState.COMPLETE] * TRIALS
        assert told(cut, off) == Counter(range(TRIALS)), "each trial was told once, by one"
        for trial in snapshot.trials:
            assert [attempt.number for attempt in trial.attempts] == list(range(1, len(trial.attempts) + 1))
            assert all(attempt.ended is not None for attempt in trial.attempts)
            assert sorted(trial.reports) == [3000 * point for point in range(1, 11)]

        assert held in {line["trial"] for line in decisions(cut, "lost")}
        assert snapshot.trials[held] == taken, "of all that the first had to write of it, nothing was accepted"
        assert "cannot be reached" in decisions(cut, "database")[0]["reason"]
        assert orphan in {line["trial"] for line in decisions(cut, "completed")}
        assert len(snapshot.trials[orphan].attempts) == 2
        close_readers()
