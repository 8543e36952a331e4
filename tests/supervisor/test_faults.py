"""Workers that fail in every way there is: what becomes of their trials, and what is written down of it."""

from __future__ import annotations

import re
import subprocess
import threading
import time

import pytest

from tests.support.builders import cpu_slots
from tests.support.toy_pace import hurrying
from tests.support.toy_study import (
    actions,
    alert_lines,
    alerts,
    decisions,
    live_workers,
    resume,
    run,
    states,
    wait_until,
)
from vbot_campaign import fs
from vbot_campaign.paths import TrialPaths
from vbot_campaign.study.owner import Owner
from vbot_campaign.study.snapshot import TrialState
from vbot_campaign.study.study import load_snapshot
from vbot_campaign.supervisor import request_study_stop

COMPLETE, PRUNED, FAILED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED
ONE = {"trials": 1}
SILENT = re.compile(r"no env step for \d+ s")


def workers(**settings):
    return {"num_envs": 100, "slots": 2, **settings}


def folder_of(paths, trial):
    return TrialPaths(paths.study("toy").root / trial.folder)


def test_a_worker_that_dies_is_followed_by_another_from_its_checkpoint(paths, toy):
    toy({"1": {"1": "kill"}})
    outcome = run(paths)
    assert states(outcome) == [COMPLETE] * 4
    first, second = outcome.snapshot.trials[1].attempts
    assert (first.reason, first.exit_code, first.last_env_step) == ("killed by SIGKILL", -9, 16_000)
    assert (second.number, second.first_env_step, second.last_env_step) == (2, 15_000, 30_000)
    assert list(outcome.snapshot.trials[1].reports) == list(range(3000, 30_001, 3000))
    assert {"died", "completed"} <= set(actions(paths, 1))


def test_a_trial_that_keeps_dying_is_given_up(paths, toy):
    toy({"1": {"*": "exit 7"}})
    outcome = run(paths, workers={"num_envs": 100, "slots": 2, "max_attempts": 2})
    assert states(outcome) == [COMPLETE, FAILED, COMPLETE, COMPLETE]
    assert outcome.snapshot.trials[1].reason == "2 attempts died, the last: exit code 7 without a result"
    assert outcome.snapshot.trials[1].score is None


def test_a_training_that_diverges_fails_alone_with_its_iteration(paths, toy):
    toy({"1": {"1": "diverged"}, "2": {"1": "diverged"}})
    outcome = run(paths)
    assert states(outcome) == [COMPLETE, FAILED, FAILED, COMPLETE]
    trial = outcome.snapshot.trials[1]
    assert trial.reason == "diverged in iteration 16: as planned"
    assert (trial.score, len(trial.attempts), list(trial.parameters)) == (None, 1, ["ppo.learning_rate"])


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("failed", "failed: as planned"),
        ("invalid", "invalid: as planned"),
        ("scoreless", "finished without a score"),
        ("exit at start 1", "exit code 1 without a result: ModuleNotFoundError: No module named 'robots'"),
    ],
)
def test_two_failures_in_a_row_stop_the_study(paths, toy, behaviour, words):
    toy({"*": {"*": behaviour}})
    outcome = run(paths, {"slots": cpu_slots(1)}, budget={"trials": 3})
    assert (outcome.state, outcome.failed, outcome.exit_code) == ("stopped", True, 1)
    assert outcome.reason == f"2 trials in a row failed in the same way, the last: trial 1: {words}"
    assert states(outcome) == [FAILED, FAILED]
    toy()
    assert states(resume(paths))[2:] == [COMPLETE], "once the bug is mended it goes on"


def test_a_pruned_worker_that_does_not_stop_is_killed_and_its_trial_is_pruned(paths, toy):
    toy({"0": {"1": "hang"}})
    outcome = run(
        paths, {"grace_s": 0.3}, budget={"trials": 1}, pruner={"name": "threshold", "lower": 0.9, "warmup": 0.2}
    )
    assert states(outcome) == [PRUNED]
    assert actions(paths, 0)[-2:] == ["killed", "pruned"]


def test_failures_of_different_kinds_do_not_stop_the_study(paths, toy):
    toy({"0": {"1": "failed"}, "1": {"1": "invalid"}, "2": {"1": "failed"}, "3": {"1": "exit at start 1"}})
    outcome = run(paths, {"slots": cpu_slots(1)})
    assert (outcome.state, outcome.failed) == ("finished", False)
    assert states(outcome) == [FAILED] * 4


# --- memory -----------------------------------------------------------------------------------------------------


def test_out_of_memory_goes_on_with_fewer_environments_and_is_no_death(paths, toy):
    toy({"0": {"1": "out_of_memory"}})
    outcome = run(paths, budget=ONE, workers=workers(max_attempts=1))
    (trial,) = outcome.snapshot.trials
    first, second = trial.attempts
    assert (trial.state, trial.num_envs) == (COMPLETE, 64)
    assert first.reason == "out of memory: as planned; goes on with 64 environments instead of 100"
    assert (first.exit_code, first.last_env_step) == (11, 16_000)
    # 640 env steps an iteration from the checkpoint at 15000 on; the 24th reaches the budget.
    assert (second.first_env_step, second.last_env_step) == (15_000, 15_000 + 24 * 640)
    assert list(trial.reports) == list(range(3000, 30_001, 3000))
    given = fs.read_json(folder_of(paths, trial).spec)
    assert given["training"]["num_envs"] == 64
    assert "out_of_memory" in actions(paths, 0)
    assert load_snapshot(paths, "toy").trials[0].num_envs == 64


def test_a_kill_by_the_kernel_for_want_of_memory_counts_as_out_of_memory(paths, toy, monkeypatch, tmp_path):
    toy({"0": {"1": "oom kill"}})
    (tmp_path / "vmstat").write_text("oom_kill 0\n")
    monkeypatch.setenv("TOY_OOM_COUNTER", str(tmp_path / "vmstat"))
    monkeypatch.setattr("vbot_campaign.supervisor.memory.PROC", tmp_path)
    (trial,) = run(paths, budget=ONE, workers=workers(max_attempts=1)).snapshot.trials
    first, second = trial.attempts
    assert first.reason == "out of memory: killed by SIGKILL; goes on with 64 environments instead of 100"
    assert (first.exit_code, second.first_env_step, trial.state) == (-9, 15_000, COMPLETE)


def test_a_trial_that_is_too_large_even_with_64_environments_fails(paths, toy):
    toy({"0": {"*": "out_of_memory"}})
    outcome = run(paths, budget={"trials": 2}, workers=workers(num_envs=200))
    trial = outcome.snapshot.trials[0]
    assert [a.reason for a in trial.attempts] == [
        "out of memory: as planned; goes on with 100 environments instead of 200",
        "out of memory: as planned; goes on with 64 environments instead of 100",
        "out of memory even with 64 environments: as planned",
    ]
    assert (trial.state, trial.reason, trial.score) == (FAILED, trial.attempts[-1].reason, None)
    assert states(outcome) == [FAILED, COMPLETE]


# --- workers that hang ------------------------------------------------------------------------------------------


def with_clock(paths, **supervisor):
    """Return options of a supervisor for which the time flies once the first trial has come to its middle."""

    def stands_still():
        return any(len(fs.read_lines(log)) >= 16 for log in paths.study("toy").trials.glob("0000_*/metrics.jsonl"))

    return {"clock": hurrying(paths, stands_still), **supervisor}


def test_a_worker_without_a_new_env_step_is_ended_and_followed_by_another(paths, toy):
    toy({"0": {"1": "doze"}})
    outcome = run(paths, with_clock(paths), budget=ONE)
    (trial,) = outcome.snapshot.trials
    first, second = trial.attempts
    assert trial.state is COMPLETE
    assert SILENT.fullmatch(first.reason)
    # It woke up at the SIGTERM and wrote a checkpoint: nothing is trained again.
    assert (first.exit_code, first.last_env_step, second.first_env_step) == (0, 16_000, 16_000)
    assert actions(paths, 0)[7:11] == ["alert", "stopping", "died", "started"]
    (alert,) = alerts(paths)
    assert alert == (
        f"{first.reason}: the worker is ended and another goes on from the last checkpoint, "
        "its stacks are in worker.log"
    )
    line = alert_lines(paths)[0]
    assert (line["level"], line["cause"], line["trial"], line["attempt"]) == ("error", "hang", 0, 1)
    assert "_misbehave" in folder_of(paths, trial).log.read_text(), "where it hung"


def test_one_long_round_of_the_supervisor_is_no_hang_of_a_worker(paths, toy, hold):
    looks = []

    def clock():
        # Once the worker stands still, one round takes ten seconds; some rounds later it may go on.
        if "reported" in actions(paths):
            looks.append(1)
        if len(looks) > 40:
            hold.release()
        return time.monotonic() + 10.0 * (len(looks) > 20)

    (trial,) = run(paths, {"clock": clock}, budget=ONE, workers=workers(watchdog_s=9.0)).snapshot.trials
    assert (trial.state, len(trial.attempts)) == (COMPLETE, 1)
    assert alerts(paths) == []


def test_a_frozen_worker_is_killed_and_followed_by_another(paths, toy):
    toy({"0": {"1": "freeze"}})
    (trial,) = run(paths, with_clock(paths, grace_s=1.0), budget=ONE).snapshot.trials
    first, second = trial.attempts
    assert (trial.state, first.exit_code) == (COMPLETE, -9)
    assert SILENT.fullmatch(first.reason)
    assert second.first_env_step == 15_000
    assert actions(paths, 0)[7:12] == ["alert", "stopping", "killed", "died", "started"]


def test_a_worker_that_hangs_again_and_again_is_given_up(paths, toy):
    toy({"0": {"*": "doze"}})
    outcome = run(paths, with_clock(paths), budget=ONE, workers=workers(max_attempts=1))
    assert states(outcome) == [FAILED]
    assert outcome.snapshot.trials[0].reason.startswith("1 attempts died, the last: no env step for ")


# --- workers that are stopped by someone else -------------------------------------------------------------------


def test_a_worker_that_someone_else_stops_goes_on_and_is_no_death(paths, toy):
    toy({"0": {"1": "sigterm"}})
    (trial,) = run(paths, budget=ONE, workers=workers(max_attempts=1)).snapshot.trials
    first, second = trial.attempts
    assert (trial.state, first.reason, first.exit_code) == (COMPLETE, "stopped from outside: SIGTERM", 0)
    assert first.last_env_step == second.first_env_step == 16_000, "it wrote a checkpoint first"


def test_one_that_is_always_stopped_before_it_gets_anywhere_is_given_up(paths, toy):
    toy({"0": {"*": "sigterm at start"}})
    (trial,) = run(paths, budget=ONE, workers=workers(max_attempts=2)).snapshot.trials
    assert trial.state is FAILED
    assert trial.reason == "2 attempts died, the last: stopped from outside before its next checkpoint: SIGTERM"


def test_a_worker_that_finds_itself_fenced_is_no_death(paths, toy):
    toy({"0": {"1": "fenced"}})
    (trial,) = run(paths, budget=ONE, workers=workers(max_attempts=1)).snapshot.trials
    assert (trial.state, trial.attempts[0].exit_code, len(trial.attempts)) == (COMPLETE, 4, 2)


# --- what is written down ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "code", "last", "reason"),
    [
        ("", 0, 30_000, "trained and evaluated"),
        ("kill", -9, 16_000, "killed by SIGKILL"),
        ("exit 7", 7, 16_000, "exit code 7 without a result"),
        ("sigterm", 0, 16_000, "stopped from outside: SIGTERM"),
        ("fenced", 4, 16_000, "exit code 4 without a result"),
        ("diverged", 10, 16_000, "diverged in iteration 16: as planned"),
        ("out_of_memory", 11, 16_000, "out of memory: as planned; goes on with 64 environments instead of 100"),
        ("invalid", 2, 16_000, "invalid: as planned"),
        ("failed", 1, 16_000, "failed: as planned"),
        ("exit at start 1", 1, 0, "exit code 1 without a result: ModuleNotFoundError: No module named 'robots'"),
    ],
)
def test_every_end_of_an_attempt_is_written_down(paths, toy, behaviour, code, last, reason):
    # One that exits at once lives long enough for a look at its memory.
    toy({"0": {"1": behaviour}}, iteration_s=0.5 if "at start" in behaviour else 0.001)
    attempt = run(paths, {"slots": cpu_slots(1)}, budget=ONE).snapshot.trials[0].attempts[0]
    assert (attempt.host, attempt.slot, attempt.number) == (Owner.here().host, "cpu:0", 1)
    assert attempt.pid > 1
    assert attempt.pid_started > 0
    assert attempt.started <= attempt.ended
    assert (attempt.exit_code, attempt.reason) == (code, reason)
    assert (attempt.first_env_step, attempt.last_env_step) == (0, last)
    # The toy tells of 41 MB after its first iteration and of one more after each.
    assert attempt.memory_peak_mb == 40 + last / 1000 if last else attempt.memory_peak_mb > 1


# --- disks that are full ----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(paths):
    """Put the runs folder on a file system of 16 MB."""
    paths.root.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", paths.root], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield paths
    subprocess.run(["umount", "--lazy", paths.root], check=True)


def test_a_disk_without_room_holds_new_attempts_back_until_there_is_some(small_disk, toy):
    toy(iteration_s=0.01)
    ballast = small_disk.root / "ballast"
    ballast.write_bytes(bytes(9_000_000))

    def make_room():
        wait_until(lambda: alerts(small_disk))
        time.sleep(0.5)
        ballast.unlink()

    helper = threading.Thread(target=make_room)
    helper.start()
    outcome = run(small_disk, budget=ONE, workers=workers(min_free_gb=0.01))
    helper.join()
    assert (outcome.state, states(outcome)) == ("finished", [COMPLETE])
    first, second = alerts(small_disk)
    assert first.endswith("GB are free in the runs folder, less than workers.min_free_gb (0.01): no attempt is started")
    assert second.endswith("GB are free in the runs folder: attempts are started again")
    assert [d["action"] for d in decisions(small_disk)][:3] == ["alert", "alert", "asked"]
    levels = [(line["level"], line["cause"]) for line in alert_lines(small_disk)]
    assert levels == [("warning", "low_disk"), ("info", "low_disk"), ("info", "finished")]


def test_a_study_that_waits_for_room_says_so_once_and_can_be_stopped(paths, toy):
    def stop():
        wait_until(lambda: alerts(paths))
        time.sleep(0.5)
        request_study_stop(paths, "toy")

    helper = threading.Thread(target=stop)
    helper.start()
    outcome = run(paths, workers=workers(min_free_gb=1e9))
    helper.join()
    assert (outcome.state, outcome.reason, states(outcome)) == ("stopped", "stopped on request", [])
    assert len(alerts(paths)) == 1
    assert not live_workers(paths)
