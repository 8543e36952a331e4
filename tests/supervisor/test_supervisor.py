"""Whole studies with real processes: the toy worker trains nothing but stops and resumes like a real one."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support.builders import LEARNING_RATE, cpu_slots, study_spec
from tests.support.toy_pace import checkpoints_at
from tests.support.toy_study import (
    actions,
    live_workers,
    resume,
    run,
    start,
    states,
    wait_until,
)
from vbot_campaign import fs
from vbot_campaign.errors import StudyBusyError, StudyError, StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.training import ThreadSettings
from vbot_campaign.study.snapshot import TrialState
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import CampaignStudy, load_snapshot
from vbot_campaign.supervisor import plan_resume, request_study_stop
from vbot_campaign.supervisor.slots import Slot

COMPLETE, PRUNED = TrialState.COMPLETE, TrialState.PRUNED


# --- a study from beginning to end ------------------------------------------------------------------------------


def test_a_study_runs_to_its_end(paths, toy):
    began = time.monotonic()
    outcome = run(paths)
    assert (outcome.state, outcome.reason, outcome.failed) == ("finished", "all trials have ended", False)
    assert states(outcome) == [COMPLETE] * 4
    best = outcome.snapshot.best
    assert (best.number, best.score) == (0, 1.0), "the prior has the best learning rate of all"
    assert list(best.reports) == list(range(3000, 30_001, 3000))
    assert best.parts["success_rate"] == 1.0
    assert best.env_steps == 30_000
    assert [(c.kind, c.env_steps) for c in best.checkpoints] == [
        ("resume", 25_000),
        ("resume", 30_000),
        ("best", 30_000),
    ]
    assert all((paths.study("toy").root / c.path).exists() for c in best.checkpoints)
    assert actions(paths, 0) == ["asked", "started", *["reported"] * 10, "completed"]
    assert outcome.snapshot.supervisor is None
    assert outcome.snapshot.env_steps_used == 120_000
    assert 0 < outcome.snapshot.hours_used * 3600 <= time.monotonic() - began
    assert load_snapshot(paths, "toy").state == "finished"


def test_the_trial_folder_says_what_to_train(paths, toy):
    outcome = run(paths, budget={"trials": 1})
    trial = outcome.snapshot.trials[0]
    folder = paths.study("toy").root / trial.folder
    spec = fs.read_json(folder / "trial.json")
    assert folder.name.startswith("0000_")
    assert (spec["study"], spec["trial"], spec["attempt"], spec["slot"]) == ("toy", 0, 1, "cpu:0")
    assert spec["token"] == trial.attempts[0].token
    assert spec["parameters"] == {"ppo.learning_rate": 3e-4}
    assert spec["training"]["ppo"]["learning_rate"] == 3e-4
    assert spec["training"]["env_steps"] == 30_000


def test_losers_are_pruned_and_keep_their_last_score(paths, toy, monkeypatch):
    monkeypatch.setenv("TOY_PATIENT", "1")
    # At half of the trial a training that ends at 0.5 or less stands at 0.25 or less.
    outcome = run(paths, budget={"trials": 6}, pruner={"name": "threshold", "lower": 0.27, "warmup": 0.5})
    pruned = [trial for trial in outcome.snapshot.trials if trial.state is PRUNED]
    assert outcome.state == "finished"
    assert outcome.snapshot.trials[0].state is COMPLETE
    assert pruned
    for trial in pruned:
        assert trial.reason.startswith("threshold pruner: score 0.")
        assert trial.score == list(trial.reports.values())[-1]
        assert trial.env_steps < 30_000
        assert "pruning" in actions(paths, trial.number)


def test_a_dry_run_stops_nothing_and_notes_what_it_would_have(paths, toy, monkeypatch):
    monkeypatch.setenv("TOY_PATIENT", "1")
    pruner = {"name": "threshold", "lower": 0.27, "warmup": 0.5, "dry_run": True}
    outcome = run(paths, budget={"trials": 6}, pruner=pruner)
    assert states(outcome) == [COMPLETE] * 6
    noted = [trial for trial in outcome.snapshot.trials if trial.would_prune is not None]
    assert noted
    assert outcome.snapshot.trials[0] not in noted
    for trial in noted:
        found = trial.would_prune
        assert found.env_step >= 15_000
        assert trial.reports[found.env_step] < 0.27
        assert found.reason.startswith("threshold pruner: score 0.")
        assert actions(paths, trial.number).count("would_prune") == 1


def test_a_raised_budget_goes_on_where_the_study_ended(paths, toy):
    run(paths, budget={"trials": 2})
    outcome = run(paths, budget={"trials": 3})
    assert states(outcome) == [COMPLETE] * 3
    assert resume(paths).state == "finished"
    assert actions(paths).count("asked") == 3


def test_refused_combinations_cost_no_trial_and_leave_no_gap(paths, toy):
    outcome = run(paths, constraints=[{"skip_if": "ppo.learning_rate < 2e-4"}])
    assert [trial.number for trial in outcome.snapshot.trials] == [0, 1, 2, 3]
    assert all(trial.parameters["ppo.learning_rate"] >= 2e-4 for trial in outcome.snapshot.trials)
    assert outcome.snapshot.skipped > 0


def test_constraints_that_refuse_everything_stop_the_study_with_the_reason(paths, toy):
    outcome = run(paths, constraints=[{"skip_if": "ppo.learning_rate > 0"}])
    assert (outcome.state, outcome.failed) == ("stopped", True)
    assert "100 points in a row were refused" in outcome.reason


def test_an_exhausted_grid_finishes_the_study(paths, toy):
    rates = {"type": "choice", "values": [1e-4, 3e-4, 9e-4]}
    outcome = run(
        paths, budget={"trials": 50}, sampler={"name": "grid"}, search_space={"ppo": {"learning_rate": rates}}
    )
    assert outcome.state == "finished"
    assert sorted(t.parameters["ppo.learning_rate"] for t in outcome.snapshot.trials) == [1e-4, 3e-4, 9e-4]


def test_the_seed_repeats_a_study_also_through_a_stop(paths, toy, tmp_path):
    search = {"ppo": {"learning_rate": LEARNING_RATE, "learning_epochs": {"type": "int", "low": 2, "high": 9}}}
    spec = {
        "sampler": {"name": "tpe", "startup_trials": 1, "seed": 3},
        "search_space": search,
        "workers": {"num_envs": 100, "slots": 1},
    }
    one = {"slots": cpu_slots(1)}
    straight = run(paths, one, budget={"trials": 4}, **spec)
    other = CampaignPaths(tmp_path / "other")
    run(other, one, budget={"trials": 2}, **spec)
    in_two = run(other, one, budget={"trials": 4}, **spec)
    points = [[trial.parameters for trial in outcome.snapshot.trials] for outcome in (straight, in_two)]
    assert points[0] == points[1]
    assert len({str(point) for point in points[0]}) == 4


def test_thread_counts_stay_those_of_the_first_attempt(paths, toy):
    toy({"0": {"1": "kill"}})
    wide = Slot("cpu:0", "cpu", "", ThreadSettings(torch=3, physics=3))
    run(paths, {"slots": [wide]}, budget={"trials": 1, "hours": 1e-9})
    outcome = run(paths, {"slots": [wide]}, budget={"trials": 1})
    (folder,) = paths.study("toy").trials.iterdir()
    assert fs.read_json(folder / "trial.json")["threads"] == {"torch": 3, "physics": 3}
    assert len(outcome.snapshot.trials[0].attempts) == 2


# --- stopping and resuming --------------------------------------------------------------------------------------


def test_hours_that_run_out_stop_the_trials_with_a_checkpoint(paths, toy):
    toy(iteration_s=0.7)  # a trial of 21 s; both are at work by then, on a busy machine too
    outcome = run(paths, budget={"trials": 4, "hours": 15.0 / 3600})
    assert (outcome.state, outcome.failed) == ("stopped", False)
    assert outcome.reason == "budget of hours used (0.00416667 h)"
    assert states(outcome) == [TrialState.WAITING] * 2
    assert all(trial.checkpoints for trial in outcome.snapshot.trials)
    assert resume(paths).state == "stopped"
    toy()
    outcome = run(paths, budget={"trials": 4, "hours": 1.0})
    assert states(outcome) == [COMPLETE] * 4
    assert outcome.snapshot.trials[0].attempts[1].first_env_step > 0
    assert outcome.snapshot.hours_used > 15.0 / 3600, "hours count on"


def test_everything_killed_in_the_middle_is_resumed_as_the_same_trials(paths, toy, hold):
    hold.at(10)
    supervisor = start(paths, {"budget": {"trials": 5}})
    wait_until(lambda: checkpoints_at(paths, 10_000))
    supervisor.kill()
    supervisor.communicate()
    victims = live_workers(paths)
    assert len(victims) == 2
    for attempt in victims:
        os.kill(attempt.pid, signal.SIGKILL)
    wait_until(lambda: not live_workers(paths))

    before = load_snapshot(paths, "toy")
    assert (before.state, before.supervisor) == ("stopped", None)
    plan = plan_resume(paths, "toy")
    assert not plan.finished
    assert plan.lines[0] == "study toy: 0 complete, 0 pruned, 0 failed, 2 unfinished"
    assert plan.lines[1].startswith("trial 0: interrupted at env step ")
    assert "; continues at" in plan.lines[1]
    assert plan.lines[-1] == "left of the budget: 3 new trials"

    hold.release()
    outcome = resume(paths)
    assert [trial.number for trial in outcome.snapshot.trials] == [0, 1, 2, 3, 4]
    assert states(outcome) == [COMPLETE] * 5
    for trial in outcome.snapshot.trials[:2]:
        assert [attempt.ended is not None for attempt in trial.attempts] == [True, True]
        assert trial.attempts[1].first_env_step >= 10_000
        assert list(trial.reports) == list(range(3000, 30_001, 3000))
    assert [trial.parameters for trial in outcome.snapshot.trials[:2]] == [t.parameters for t in before.trials]
    assert len(list(paths.study("toy").trials.iterdir())) == 5
    assert plan_resume(paths, "toy").finished


def test_a_verdict_of_the_pruner_survives_a_crash(paths, toy):
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, study_spec(budget={"trials": 1}))
    study.ask()
    study.report(0, 3000, 0.25)
    study.ledger.open_attempt(0, slot="cpu:0", first_env_step=0)
    study.ledger.update_trial(0, folder="trials/0000", prune_reason="median pruner")
    storage.close()
    outcome = resume(paths)
    assert states(outcome) == [PRUNED]
    assert outcome.snapshot.trials[0].score == 0.25


def test_a_trial_that_was_asked_and_never_started_is_started(paths, toy):
    storage = open_storage(paths)
    CampaignStudy.create(storage, study_spec(budget={"trials": 1})).ask()
    storage.close()
    assert plan_resume(paths, "toy").lines[1] == "trial 0: was asked and never started; will start"
    assert states(resume(paths)) == [COMPLETE]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_with_checkpoints(paths, toy, hold, number):
    supervisor = start(paths, {"budget": {"trials": 4}})
    wait_until(lambda: all("reported" in actions(paths, trial) for trial in (0, 1)))
    supervisor.send_signal(number)
    out, err = supervisor.communicate(timeout=240)
    assert (supervisor.returncode, err) == (0, "")
    assert out == f"stopped | stopped by {number.name}\n"
    snapshot = load_snapshot(paths, "toy")
    assert snapshot.state == "stopped"
    for trial in snapshot.trials:
        assert (trial.state, trial.attempts[0].exit_code) == (TrialState.WAITING, 0)
        # The toy notes a signal after its iteration, with a checkpoint right there.
        assert trial.checkpoints[-1].env_steps == trial.env_steps
    assert not live_workers(paths)


def test_the_second_signal_kills(paths, toy):
    toy({"*": {"*": "hang"}})
    supervisor = start(paths, {"budget": {"trials": 2}})
    wait_until(lambda: actions(paths).count("reported") >= 10)
    supervisor.send_signal(signal.SIGINT)
    wait_until(lambda: "stopping" in actions(paths))
    time.sleep(0.1)
    assert supervisor.poll() is None, "a worker that hangs has its time to stop"
    supervisor.send_signal(signal.SIGINT)
    _, err = supervisor.communicate(timeout=240)
    assert (supervisor.returncode, err) == (0, "")
    assert not live_workers(paths)
    toy()
    assert states(resume(paths)) == [COMPLETE] * 2


def test_a_study_is_stopped_from_another_process(paths, toy, hold):
    with pytest.raises(StudyNotFoundError):
        request_study_stop(paths, "toy")
    supervisor = start(paths, {"budget": {"trials": 4}})
    wait_until(lambda: "reported" in actions(paths))
    assert f"asked its supervisor (pid {supervisor.pid} on" in request_study_stop(paths, "toy")
    out, _ = supervisor.communicate(timeout=240)
    assert out == "stopped | stopped on request\n"
    with pytest.raises(StudyError, match=r"study 'toy' is not running \(it is stopped: stopped on request\)"):
        request_study_stop(paths, "toy")
    assert not paths.study("toy").stop_request.exists()


def test_a_second_supervisor_is_refused_and_changes_nothing(paths, toy, hold):
    supervisor = start(paths, {"budget": {"trials": 2}})
    wait_until(lambda: "reported" in actions(paths))
    with pytest.raises(StudyBusyError, match=rf"with pid {supervisor.pid} on \S+ since 20\S+Z"):
        resume(paths)
    with pytest.raises(StudyBusyError, match=f"with pid {supervisor.pid} on"):
        run(paths, budget={"trials": 50})
    with pytest.raises(StudyBusyError):
        plan_resume(paths, "toy")
    assert load_snapshot(paths, "toy").supervisor["pid"] == supervisor.pid
    hold.release()
    out, _ = supervisor.communicate(timeout=240)
    assert out == "finished | all trials have ended\n"
    assert load_snapshot(paths, "toy").spec.budget.trials == 2


def test_resuming_an_unknown_study_makes_no_database(paths):
    with pytest.raises(StudyNotFoundError, match="study 'toy': not found"):
        resume(paths)
    assert not paths.root.exists()


# --- who watches ------------------------------------------------------------------------------------------------


class Seen:
    """Keeps what it is shown."""

    def __init__(self):
        self.snapshots = []

    def update(self, snapshot):
        self.snapshots.append(snapshot)


class Broken:
    """An exporter on a full disk."""

    def update(self, snapshot):
        raise OSError("no space left")


def test_observers_see_changes_and_the_end_and_cannot_stop_a_study(paths, toy, monkeypatch):
    monkeypatch.setattr("vbot_campaign.supervisor.supervisor.OBSERVE_S", 0.1)
    seen = Seen()
    heard = []
    outcome = run(paths, {"observers": [Broken(), seen], "progress": heard.append})
    assert outcome.state == "finished"
    assert len(seen.snapshots) > 2
    assert seen.snapshots[0].state == "running"
    assert seen.snapshots[0].slots == ("cpu:0", "cpu:1")
    assert seen.snapshots[-1] == outcome.snapshot
    assert outcome.snapshot.state == "finished"
    assert [d.action for d in heard] == actions(paths)
    assert "observer_failed" in actions(paths)


def test_when_the_supervisor_itself_fails_no_worker_stays_behind(paths, toy, monkeypatch):
    toy(iteration_s=0.05)

    def fail(*args):
        raise RuntimeError("a bug")

    monkeypatch.setattr("vbot_campaign.study.study.CampaignStudy.report", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run(paths)
    assert not live_workers(paths)
    monkeypatch.undo()
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    assert states(resume(paths)) == [COMPLETE] * 4
