"""Supervisors that die alone: their workers train on, and the next supervisor takes them over as they are."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support.builders import cpu_slots
from tests.support.campaign import ITERATION, Campaign, assert_grows, finish
from tests.support.toy_pace import checkpoints_at, hurrying
from tests.support.toy_study import (
    actions,
    alerts,
    decisions,
    kill,
    live_workers,
    resume,
    start,
    states,
    wait_until,
)
from vbot_campaign import fs
from vbot_campaign.errors import StudyBusyError
from vbot_campaign.paths import TrialPaths
from vbot_campaign.study.snapshot import TrialState
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import CampaignStudy, load_snapshot
from vbot_campaign.supervisor import plan_resume, recovery
from vbot_campaign.supervisor.slots import Slot

COMPLETE, PRUNED = TrialState.COMPLETE, TrialState.PRUNED
THRESHOLD = {"name": "threshold", "lower": 0.9, "warmup": 0.2}


def orphans(paths, **overrides):
    """Start a study, kill its supervisor while both its workers are held at a checkpoint, and return these."""
    supervisor = start(paths, {"budget": {"trials": 2}, **overrides})
    wait_until(lambda: checkpoints_at(paths, 5000))
    kill(supervisor)
    workers = live_workers(paths)
    assert len(workers) == 2
    return workers


def pids(trials):
    return [attempt.pid for trial in trials for attempt in trial.attempts]


def adoptions(campaign):
    return [line for line in fs.read_lines(campaign.study.decisions) if line["action"] == "adopted"]


def progress(paths, trial):
    folder = TrialPaths(paths.study("toy").root / trial.folder)
    return [line["env_steps"] for line in fs.read_lines(folder.metrics) if line["kind"] == "progress"]


@pytest.mark.parametrize("downtime_s", [0, pytest.param(60, marks=pytest.mark.slow)], ids=["0 s", "60 s"])
def test_live_workers_are_adopted_and_nothing_is_trained_twice(paths, toy, hold, downtime_s):
    workers = orphans(paths)
    hold.at(20)  # they train on meanwhile
    time.sleep(downtime_s)
    lines = plan_resume(paths, "toy").lines
    assert f"trial 0: its worker (pid {workers[0].pid}) is alive; will be adopted" in lines
    outcome = resume(paths, progress=hold.until("adopted", 2))
    assert (outcome.state, states(outcome)) == ("finished", [COMPLETE] * 2)
    assert pids(outcome.snapshot.trials) == [worker.pid for worker in workers]
    for trial in outcome.snapshot.trials:
        assert progress(paths, trial) == list(range(1000, 30_001, 1000))
        assert list(trial.reports) == list(range(3000, 30_001, 3000))
        (attempt,) = trial.attempts
        assert (attempt.reason, attempt.exit_code) == ("trained and evaluated", None)
        assert (attempt.last_env_step, attempt.memory_peak_mb) == (30_000, 70.0)
        assert actions(paths, trial.number).count("adopted") == 1
        assert actions(paths, trial.number).count("completed") == 1


@pytest.mark.slow
@pytest.mark.parametrize("downtime_s", [0, 20], ids=["0 s", "20 s"])
def test_real_workers_are_adopted_and_nothing_is_trained_twice(tmp_path, downtime_s):
    campaign = Campaign(tmp_path)
    # As long as it takes on any machine; at the end it is stopped.
    file = campaign.write(
        budget={"trials": 2}, env_steps_per_trial=10**8, workers={"num_envs": 32, "slots": 2}, report_points=200
    )
    supervisor = campaign.start("run", file, "--no-audit")
    campaign.wait_for(supervisor, lambda: min(campaign.iteration(0), campaign.iteration(1)) >= 10)
    supervisor.kill()
    finish(supervisor, -signal.SIGKILL)
    before = campaign.snapshot().trials
    time.sleep(downtime_s)
    reached = [campaign.iteration(trial.number) for trial in before]
    supervisor = campaign.start("resume", "tiny")
    campaign.wait_for(supervisor, lambda: len(adoptions(campaign)) == 2)
    campaign.wait_for(
        supervisor, lambda: all(campaign.iteration(number) >= reached[number] + 20 for number in range(2))
    )
    assert pids(campaign.snapshot().trials) == pids(before)
    campaign.call("stop", "tiny")
    assert finish(supervisor).count("will be adopted") == 2
    after = campaign.snapshot().trials
    assert pids(after) == pids(before)
    for trial in after:
        folder = campaign.trial_folder(trial.number)
        assert_grows(folder)
        assert trial.env_steps == ITERATION * campaign.iteration(trial.number)
        assert trial.attempts[0].last_env_step == trial.env_steps == trial.checkpoints[-1].env_steps


def test_workers_end_at_their_own_budget_when_no_supervisor_returns(paths, toy, hold):
    workers = orphans(paths)
    hold.release()
    wait_until(lambda: not live_workers(paths))
    outcome = resume(paths)
    assert states(outcome) == [COMPLETE] * 2
    assert pids(outcome.snapshot.trials) == [worker.pid for worker in workers]
    assert all(len(trial.reports) == 10 for trial in outcome.snapshot.trials)


def test_one_lives_and_one_is_dead(paths, toy, hold):
    first, second = orphans(paths)
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: len(live_workers(paths)) == 1)
    alive, dead = plan_resume(paths, "toy").lines[2], plan_resume(paths, "toy").lines[1]
    assert alive == f"trial 1: its worker (pid {second.pid}) is alive; will be adopted"
    assert dead.startswith("trial 0: interrupted at env step")
    outcome = resume(paths, progress=hold.until("adopted"))
    assert states(outcome) == [COMPLETE] * 2
    trial, adopted = outcome.snapshot.trials
    assert [attempt.reason for attempt in trial.attempts] == ["its supervisor died", "trained and evaluated"]
    assert trial.attempts[1].first_env_step >= 5000
    assert [attempt.pid for attempt in adopted.attempts] == [second.pid]


def test_supervisors_that_die_one_after_the_other_change_nothing(paths, toy, hold):
    workers = orphans(paths)
    second = start(paths, None)
    wait_until(lambda: actions(paths).count("adopted") == 2)
    kill(second)
    outcome = resume(paths, progress=hold.until("adopted", 2))
    assert actions(paths).count("adopted") == 4
    assert states(outcome) == [COMPLETE] * 2
    assert pids(outcome.snapshot.trials) == [worker.pid for worker in workers]


def test_the_pruner_hears_what_was_reported_meanwhile(paths, toy, hold):
    # Nothing is pruned before half of the training, and by then no supervisor is there.
    workers = orphans(paths, pruner={**THRESHOLD, "warmup": 0.5})
    hold.at(17)
    wait_until(lambda: min(len(progress(paths, trial)) for trial in load_snapshot(paths, "toy").trials) >= 17)
    outcome = resume(paths)
    assert states(outcome) == [PRUNED] * 2
    assert pids(outcome.snapshot.trials) == [worker.pid for worker in workers]
    assert all(trial.env_steps < 30_000 for trial in outcome.snapshot.trials)


def test_a_verdict_that_was_not_delivered_is_delivered(paths, toy, hold):
    orphans(paths)
    storage = open_storage(paths)
    CampaignStudy.open(storage, "toy").ledger.update_trial(1, prune_reason="median pruner")
    storage.close()
    outcome = resume(paths, progress=hold.until("adopted", 2))
    assert states(outcome) == [COMPLETE, PRUNED]
    assert outcome.snapshot.trials[1].reason == "median pruner"


def test_adopted_workers_are_stopped_with_a_checkpoint_by_a_signal(paths, toy, hold):
    workers = orphans(paths)
    supervisor = start(paths, None)
    wait_until(lambda: actions(paths).count("adopted") == 2)
    supervisor.send_signal(signal.SIGINT)
    out, _ = supervisor.communicate(timeout=240)
    assert out == "stopped | stopped by SIGINT\n"
    assert not live_workers(paths)
    snapshot = load_snapshot(paths, "toy")
    assert pids(snapshot.trials) == [worker.pid for worker in workers]
    for trial in snapshot.trials:
        assert trial.state is TrialState.WAITING
        assert trial.checkpoints[-1].env_steps == trial.env_steps
    hold.release()
    assert states(resume(paths)) == [COMPLETE] * 2


def test_an_adopted_worker_that_freezes_is_killed_and_followed_by_another(paths, toy, hold):
    first, _ = orphans(paths)
    os.kill(first.pid, signal.SIGSTOP)
    clock = hurrying(paths, lambda: "completed" in actions(paths, 1))
    outcome = resume(paths, progress=hold.until("adopted", 2), clock=clock, grace_s=1.0)
    assert states(outcome) == [COMPLETE] * 2
    attempts = outcome.snapshot.trials[0].attempts
    assert [attempt.exit_code for attempt in attempts] == [None, 0]
    assert attempts[0].reason.startswith("no env step for ")
    assert len(alerts(paths)) == 1


def test_adopted_workers_keep_their_slots_and_no_slot_is_used_twice(paths, toy, hold):
    workers = orphans(paths, budget={"trials": 3})
    assert sorted(worker.slot for worker in workers) == ["cpu:0", "cpu:1"]
    one = Slot("cpu:1", "cpu", "", cpu_slots(1)[0].threads)
    assert states(resume(paths, slots=[one], progress=hold.until("adopted", 2))) == [COMPLETE] * 3
    story = [(d["action"], d["slot"]) for d in decisions(paths) if d["action"] in ("adopted", "started")]
    assert sorted(story[2:4]) == [("adopted", "cpu:0"), ("adopted", "cpu:1")]
    assert story[4:] == [("started", "cpu:1")]
    ended = [d["time"] for d in decisions(paths) if d["action"] == "completed" and d["trial"] in (0, 1)]
    assert decisions(paths)[-1]["action"] == "finished"
    assert len(ended) == 2


def test_a_worker_whose_number_was_never_written_down_is_adopted_too(paths, toy, hold):
    workers = orphans(paths)
    # As if the supervisor had died between the start of the process and the record of its number.
    storage = open_storage(paths)
    CampaignStudy.open(storage, "toy").ledger.update_attempt(0, 1, pid=None, pid_started=None)
    storage.close()
    outcome = resume(paths, progress=hold.until("adopted", 2))
    assert states(outcome) == [COMPLETE] * 2
    assert pids(outcome.snapshot.trials) == [worker.pid for worker in workers]


def test_a_stranger_in_a_trial_folder_is_asked_to_stop_and_then_named(paths, toy, hold, monkeypatch):
    first, second = orphans(paths)
    for worker in (first, second):
        os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: not live_workers(paths))
    monkeypatch.setattr(recovery, "STRANGER_GRACE_S", 0.5)
    folder = TrialPaths(next(paths.study("toy").trials.glob("0001_*")))
    with (
        fs.hold_lock(folder.lock, what="the trial"),
        pytest.raises(StudyBusyError, match="trial 1: a process that is not in the database holds"),
    ):
        resume(paths)
    assert fs.read_json(folder.stop_request)["token"] == second.token
    hold.release()
    assert states(resume(paths)) == [COMPLETE] * 2
