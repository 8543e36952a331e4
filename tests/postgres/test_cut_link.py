"""Two machines, as far as the network can tell, at one study; the link of one of them is cut for a while."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections import Counter

import pytest

from tests.support.builders import study_spec
from tests.support.postgres import running_server
from tests.support.sharing import decisions, start, wait_until
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.snapshot import TrialState
from vbot_campaign.study.study import close_readers, load_snapshot
from vbot_campaign.supervisor import create_study

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ip") is None, reason="needs the program ip (iproute2)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces"),
]
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


def test_a_link_that_is_cut_for_half_a_minute(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_PLAN", "{}")
    monkeypatch.setenv("TOY_ITERATION_S", "0.2")
    with running_server("*") as server, server.database() as url, machine(1) as one, machine(2) as two:
        paths = CampaignPaths(tmp_path / "made", url)
        create_study(paths, study_spec(budget={"trials": 8}))
        name = url.rpartition("/")[2]
        cut, whole = (CampaignPaths(tmp_path / m[0], server.url(name, host=m[2])) for m in (one, two))
        supervisors = [start(p, LEASE_S, before=("ip", "netns", "exec", m[0])) for p, m in ((cut, one), (whole, two))]
        try:
            wait_until(lambda: decisions(cut, "started") and decisions(whole, "started"))
            held = decisions(cut, "started")[-1]["trial"]
            ip("link", "set", one[1], "down")
            time.sleep(CUT_S)
            wait_until(lambda: any(line["trial"] == held for line in decisions(whole, "started")))
            ip("link", "set", one[1], "up")
            for supervisor in supervisors:
                assert supervisor.wait(400) == 0
        finally:
            for supervisor in supervisors:
                supervisor.kill()
                supervisor.wait(10)
        snapshot = load_snapshot(paths, "toy")
        assert [trial.state for trial in snapshot.trials] == [TrialState.COMPLETE] * 8
        told = Counter(line["trial"] for p in (cut, whole) for line in decisions(p, "completed"))
        assert told == Counter(range(8)), "each trial was told once, by one"
        assert held in {line["trial"] for line in decisions(cut, "lost")}
        assert held not in {line["trial"] for line in decisions(cut, "completed")}
        assert "cannot be reached" in decisions(cut, "database")[0]["reason"]
        assert not decisions(whole, "database")
        close_readers()
