"""Budgets of a study that runs: hours, GPU-hours, shares, and totals that are raised."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.builders import cpu_slots
from tests.support.toy_study import (
    actions,
    checkpoint_lines,
    kill,
    live_workers,
    resume,
    run,
    start,
    states,
    wait_until,
)
from vbot_campaign.errors import SpecError, StudyBusyError, StudyError
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.training import ThreadSettings
from vbot_campaign.study import load_snapshot
from vbot_campaign.study.ledger import Ledger
from vbot_campaign.study.snapshot import TrialState
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.usage import total_gpu_hours
from vbot_campaign.supervisor import plan_resume, raise_budget
from vbot_campaign.supervisor.slots import Slot

SECOND = 1.0 / 3600


def gpu_slots(count=2):
    """Return slots that are GPUs by name."""
    return tuple(Slot(f"gpu:{i}", "cpu", "", ThreadSettings()) for i in range(count))


def used_gpu_hours(snapshot):
    return total_gpu_hours(snapshot.spec.workers, snapshot.trials, datetime.now(UTC))


def test_a_trial_that_the_hours_cut_off_goes_on_when_they_are_raised(paths, toy, hold):
    options = {"slots": cpu_slots(1), "clock": lambda: 6.0 if "reported" in actions(paths) else 0.0}
    stopped = run(paths, options, budget={"trials": 2, "hours": 5 * SECOND})
    assert states(stopped) == [TrialState.WAITING]
    reached = stopped.snapshot.trials[0].env_steps
    assert reached > 0
    assert raise_budget(paths, "toy", {"hours": "+1"}) == ["budget of hours: 0.00138889 -> 1.00139"]
    assert raise_budget(paths, "toy", {"trials": "3", "hours": "8"}) == [
        "budget of trials: 2 -> 3",
        "budget of hours: 1.00139 -> 8",
    ]
    assert "left of the budget: 2 new trials, 8.00 h" in plan_resume(paths, "toy").lines
    hold.release()
    done = resume(paths)
    assert states(done) == [TrialState.COMPLETE] * 3
    assert done.snapshot.trials[0].attempts[1].first_env_step == reached, "from the checkpoint at the end of the budget"
    assert done.snapshot.hours_used > 5 * SECOND


def test_a_budget_is_not_raised_under_a_running_supervisor_nor_lowered(paths, toy, hold):
    supervisor = start(paths, {"budget": {"trials": 2}})
    wait_until(lambda: checkpoint_lines(paths))
    with pytest.raises(StudyBusyError, match="is run by the supervisor"):
        raise_budget(paths, "toy", {"trials": "+2"})
    kill(supervisor)
    hold.release()
    with pytest.raises(SpecError, match="--trials 1: is less than the stored 2 trials"):
        raise_budget(paths, "toy", {"trials": "1"})
    assert raise_budget(paths, "toy", {"trials": "2"}) == []
    assert states(resume(paths)) == [TrialState.COMPLETE] * 2


def test_gpu_hours_are_those_of_all_attempts_on_gpus_and_end_the_study(paths, toy, hold, monkeypatch):
    def is_later():
        return all("reported" in actions(paths, trial) for trial in (0, 1))

    class Later(datetime):
        """An hour passes when both trials are under way."""

        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=is_later())

    monkeypatch.setattr("vbot_campaign.supervisor.supervisor.datetime", Later)
    monkeypatch.setattr("vbot_campaign.study.ledger.datetime", Later)
    clock = {"clock": lambda: time.monotonic() + 3600.0 * is_later()}
    outcome = run(paths, {"slots": gpu_slots(), **clock}, budget={"trials": 20, "gpu_hours": 1.5})
    assert outcome.reason == "budget of GPU-hours used (1.5 h)"
    assert outcome.state == "stopped"
    used = used_gpu_hours(outcome.snapshot)
    assert used >= 2.0
    assert outcome.snapshot.hours_used < used, "two GPUs use more than the clock shows"
    assert resume(paths, slots=gpu_slots()).reason == outcome.reason, "they count over all resumes"
    hold.release()
    raise_budget(paths, "toy", {"gpu_hours": "+1", "trials": "20"})
    goes_on = resume(paths, slots=gpu_slots())
    assert states(goes_on) == [TrialState.COMPLETE] * 20


def test_gpu_hours_do_not_end_a_study_on_cpus(paths, toy):
    toy()
    outcome = run(paths, budget={"trials": 2, "gpu_hours": 1e-9})
    assert states(outcome) == [TrialState.COMPLETE] * 2
    assert used_gpu_hours(outcome.snapshot) == 0


def test_a_study_of_gpu_hours_alone_is_refused_without_a_gpu(paths, toy):
    toy()
    with pytest.raises(StudyError, match="has a budget of GPU-hours alone, and this machine has no GPU"):
        run(paths, budget={"gpu_hours": 4.0})


def test_the_search_ends_with_its_share(paths, toy):
    toy()
    budget = {"env_steps": 150_000, "shares": {"search": 0.6, "confirm": 0.2, "extend": 0.2}}
    outcome = run(paths, budget=budget)
    assert outcome.reason == "the search's share of env steps used (90,000 of 150,000)"
    assert 90_000 <= outcome.snapshot.env_steps_used < 150_000


def test_the_hours_between_the_end_of_a_killed_attempt_and_its_discovery_are_nobodys(paths, toy, hold):
    supervisor = start(paths, {"budget": {"trials": 1}})
    wait_until(lambda: checkpoint_lines(paths) and live_workers(paths))
    kill(supervisor)
    [worker] = live_workers(paths)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: not live_workers(paths))
    took = put_back(paths, timedelta(hours=3))
    hold.release()
    first = resume(paths).snapshot.trials[0].attempts[0]
    assert first.ended is not None
    assert abs((first.ended - first.started).total_seconds() - took) < 60, "three hours would be 10,800 s"


def put_back(paths, by):
    """Let the first attempt and the last sign of it have been earlier; return the seconds between the two."""
    trial = load_snapshot(paths, "toy").trials[0]
    folder = TrialPaths(paths.study("toy").root / str(trial.folder))
    signs = [file for file in (folder.metrics, folder.log) if file.exists()]
    last = max(file.stat().st_mtime for file in signs)
    for file in signs:
        then = file.stat().st_mtime - by.total_seconds()
        os.utime(file, (then, then))
    started = trial.attempts[0].started
    storage = open_storage(paths)
    Ledger(storage, "toy").update_attempt(0, 1, started=started - by)
    storage.close()
    return last - started.timestamp()
