"""Two machines, as far as the network can tell, at one study: one is cut off for a while, one is lost."""

from __future__ import annotations

import signal
import time
from collections import Counter

import pytest

from tests.support.builders import study_spec
from tests.support.network import CAN_MAKE_NETWORKS, machine
from tests.support.postgres import running_server
from tests.support.sharing import decisions, kill_all, start, stop_in_a_trial, wait_until
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.snapshot import TrialState
from vbot_campaign.study.study import close_readers, load_snapshot
from vbot_campaign.supervisor import create_study

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # it waits far more than it computes, on a busy machine for long
    *CAN_MAKE_NETWORKS,
]
TRIALS = 40
LEFT = 12
"""Trials that are left at most when the second machine goes off."""
CUT_S = 30.0
LEASE_S = 10.0


def told(*supervisors):
    return Counter(line["trial"] for paths in supervisors for line in decisions(paths, "completed"))


def test_forty_trials_end_once_though_one_link_is_cut_and_one_machine_goes_off(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_PLAN", "{}")
    monkeypatch.setenv("TOY_ITERATION_S", "0.05")
    with running_server("*") as server, server.database() as url, machine(1) as one, machine(2) as two:
        paths = CampaignPaths(tmp_path / "made", url)
        create_study(paths, study_spec(budget={"trials": TRIALS}))
        name = url.rpartition("/")[2]
        cut, off = (CampaignPaths(tmp_path / m.name, server.url(name, host=m.peer)) for m in (one, two))
        first, second = (start(p, LEASE_S, before=m.inside) for p, m in ((cut, one), (off, two)))
        try:
            wait_until(lambda: decisions(cut, "started") and decisions(off, "started"))

            # For half a minute the first is cut off. The second takes its trial over and tells it.
            held = stop_in_a_trial(paths, cut, first)
            one.cut()
            first.send_signal(signal.SIGCONT)
            since = time.monotonic()
            wait_until(lambda: told(off)[held])
            time.sleep(max(0.0, since + CUT_S - time.monotonic()))
            taken = load_snapshot(paths, "toy").trials[held]
            begun = len(decisions(cut, "started"))
            one.restore()
            wait_until(lambda: len(decisions(cut, "started")) > begun)
            wait_until(lambda: told(cut, off).total() >= TRIALS - LEFT, timeout_s=600.0)

            # Then the second machine goes off in the middle of a trial, without a word to the server.
            orphan = stop_in_a_trial(paths, off, second)
            two.cut()
            kill_all(second)
            assert told(cut, off).total() < TRIALS
            assert first.wait(400) == 0
        finally:
            for supervisor in (first, second):
                supervisor.kill()
                supervisor.wait(240)
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
