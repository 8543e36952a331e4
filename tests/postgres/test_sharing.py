"""Several supervisors at one study: whose the trials are, who takes over whose, and what is written by none."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.support.builders import TOY_COMMAND, cpu_slots, study_spec
from tests.support.campaign import Campaign, finish
from tests.support.faults import refused
from tests.support.sharing import decisions, kill_all, start, stop_in_a_trial, wait_until
from vbot_campaign import fs
from vbot_campaign.errors import StudyBusyError, StudyError, TrialLostError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.owner import Owner
from vbot_campaign.study.snapshot import TrialState
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import CampaignStudy, close_readers, load_snapshot
from vbot_campaign.study.tenure import MAKING
from vbot_campaign.supervisor import create_study, plan_resume, request_study_stop, resume_study, run_study

pytestmark = pytest.mark.postgres


@pytest.fixture
def paths(tmp_path, database_url):
    return CampaignPaths(tmp_path / "first", database_url)


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.setenv("TOY_PLAN", "{}")
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    return lambda seconds: monkeypatch.setenv("TOY_ITERATION_S", str(seconds))


@pytest.fixture
def two(paths):
    """The same study, opened by two supervisors; the second one is of another machine as far as it says."""
    storages = [open_storage(paths) for _ in range(2)]
    first = CampaignStudy.create(storages[0], study_spec())
    second = CampaignStudy.open(storages[1], "toy")
    yield first, second
    for storage in storages:
        storage.close()


ELSEWHERE = replace(Owner.here(), host="box-7", pid=4711)


def begin(study, owner, lease_s=600.0, shared=True):
    return study.ledger.begin_session(owner, ["cpu:0"], lease_s, shared=shared)


def ask(study, lease_s=600.0):
    """Make a trial and claim it, as a supervisor does."""
    tenure = study.ledger.tenure
    with tenure.making(lease_s) as mine:
        assert mine
        number = study.ask().number
        tenure.know([number])
        assert tenure.take(lease_s, number) is not None
    return number


# --- claims ---------------------------------------------------------------------------------------------------------


def test_a_trial_has_one_owner_until_it_is_given_back(two):
    first, second = two
    one, other = begin(first, Owner.here()), begin(second, ELSEWHERE)
    number = ask(first)
    assert second.ledger.tenure.take(600.0) is None
    assert second.ledger.tenure.take(600.0, number) is None
    assert first.ledger.beat(one, 1.0, 600.0) == {number}
    first.ledger.end_session(one, 2.0)
    assert second.ledger.tenure.take(600.0).trial == number
    assert second.ledger.beat(other, 1.0, 600.0) == {number}
    second.complete(number, 0.5, None, None)
    assert second.ledger.beat(other, 1.0, 600.0) == frozenset(), "who has ended needs no owner"


def test_only_one_makes_trials_at_a_time(two):
    first, second = two
    begin(first, Owner.here())
    begin(second, ELSEWHERE)
    with first.ledger.tenure.making(600.0) as mine, second.ledger.tenure.making(600.0) as yours:
        assert (mine, yours) == (True, False)
    with second.ledger.tenure.making(600.0) as yours:
        assert yours


def test_after_its_lease_a_trial_is_anybodys_and_no_late_write_is_accepted(two):
    first, second = two
    one, _ = begin(first, Owner.here(), 0.2), begin(second, ELSEWHERE)
    number = ask(first, 0.2)
    attempt = first.ledger.open_attempt(number, slot="cpu:0", first_env_step=0)
    assert first.report(number, 3000, 0.1)
    time.sleep(0.3)
    first.set_num_envs(number, 50)  # nobody minded, so it is still its own
    assert second.ledger.tenure.take(600.0).trial == number
    late = [
        lambda: first.report(number, 6000, 0.2),
        lambda: first.set_num_envs(number, 25),
        lambda: first.ledger.update_trial(number, env_steps=6000),
        lambda: first.ledger.open_attempt(number, slot="cpu:0", first_env_step=3000),
        lambda: first.ledger.close_attempt(number, attempt.number, reason="x", exit_code=0, died=False),
        lambda: first.ledger.record_checkpoint(number, "trials/x/checkpoints/y.pt", CHECKPOINT),
        lambda: first.complete(number, 0.9, None, None),
        lambda: first.fail(number, "late"),
    ]
    for write in late:
        with pytest.raises(TrialLostError, match=f"trial {number} was taken over by another supervisor"):
            write()
    assert first.ledger.beat(one, 1.0, 600.0) == frozenset()
    entry = second.ledger.entry(number)
    assert (entry.env_steps, len(entry.attempts), entry.checkpoints) == (0, 1, [])
    trial = second.trial(number)
    assert (trial.reports, trial.num_envs, trial.state) == ({3000: 0.1}, 50, TrialState.RUNNING)
    second.complete(number, 0.5, None, None)
    with pytest.raises(TrialLostError):
        first.ledger.update_trial(number, env_steps=9000)


CHECKPOINT = {"env_steps": 1, "kind": "resume", "sha256": "0", "bytes": 1, "time": "2026-01-31T12:00:00Z"}


def test_whoever_made_trials_and_was_replaced_makes_none(two):
    first, second = two
    begin(first, Owner.here())
    begin(second, ELSEWHERE)
    with first.ledger.tenure.making(0.0):
        assert second.ledger.tenure.take(600.0, MAKING) is not None
        with pytest.raises(TrialLostError):
            first.ask()
    assert second.count == 0


def test_nothing_is_taken_over_in_the_middle_of_a_write(two):
    first, second = two
    begin(first, Owner.here(), 0.0)
    begin(second, ELSEWHERE)
    number = ask(first, 0.0)
    with first.ledger._writing(number) as session:
        session.connection()
        assert second.ledger.tenure.take(600.0) is None, (
            "it waits for nobody, and takes nothing that is being written to"
        )
    assert second.ledger.tenure.take(600.0).trial == number


def test_hours_of_two_at_the_same_time_count_once(two):
    first, second = two
    one, other = begin(first, Owner.here()), begin(second, ELSEWHERE)
    first.ledger.beat(one, 3600.0, 600.0)
    second.ledger.beat(other, 1800.0, 600.0)
    assert first.ledger.hours_used() == pytest.approx(1.0, abs=0.01)


# --- who may join ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "mine"), [(False, False), (False, True), (True, False)])
def test_a_second_supervisor_is_refused_unless_both_share(paths, two, theirs, mine):
    first, second = two
    begin(first, ELSEWHERE, shared=theirs)
    options = {"shared": True} if mine else {}
    with pytest.raises(StudyBusyError, match="the supervisor with pid 4711 on box-7 since"):
        resume_study(paths, "toy", worker_command=TOY_COMMAND, slots=cpu_slots(1), **options)
    with pytest.raises(StudyBusyError):
        plan_resume(paths, "toy", **options)
    with pytest.raises(StudyBusyError, match="pid 4711 on box-7 was quicker"):
        begin(second, Owner.here(), shared=mine)


def test_the_lease_of_another_machine_runs_out_and_its_owner_is_told(two):
    first, second = two
    one = begin(first, ELSEWHERE, 0.2, shared=False)
    number = ask(first, 0.2)
    time.sleep(0.3)
    begin(second, Owner.here(), shared=False)
    assert second.ledger.tenure.take(600.0, number) is not None
    for write in (lambda: first.ledger.beat(one, 1.0, 600.0), lambda: first.set_status("running", "")):
        with pytest.raises(TrialLostError, match="the study was taken over by another supervisor"):
            write()


def test_what_cannot_be_shared_is_refused(paths, tmp_path, capfd):
    file = CampaignPaths(tmp_path / "file")
    with pytest.raises(StudyError, match="--shared needs a PostgreSQL database"):
        run_study(file, study_spec(), worker_command=TOY_COMMAND, slots=cpu_slots(1), shared=True)
    assert not file.root.exists(), "nothing was made"
    create_study(file, study_spec())
    error = refused(capfd, "--runs", file.root, "resume", "toy", "--shared")
    assert "a file has one supervisor" in error
    pausing = study_spec(pruner={"name": "successive_halving", "pause": True})
    with pytest.raises(StudyError, match="pauses trials, which needs one supervisor that sees all"):
        run_study(paths, pausing, worker_command=TOY_COMMAND, slots=cpu_slots(1), shared=True)


# --- real supervisors -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_trial_ends_once_though_one_supervisor_is_killed_and_another_frozen(paths, toys, tmp_path):
    toys(0.1)
    create_study(paths, study_spec(budget={"trials": 7}))
    first, second, third = (CampaignPaths(tmp_path / name, paths.storage) for name in ("first", "second", "third"))
    begun = [killed, frozen] = [start(first), start(second)]
    try:
        wait_until(lambda: decisions(first, "started") and decisions(second, "started"))
        orphan = stop_in_a_trial(paths, first, killed, with_checkpoint=True)
        kill_all(killed)
        begun.append(last := start(third))
        wait_until(lambda: any(line["trial"] == orphan for p in (second, third) for line in decisions(p, "started")))
        wait_until(lambda: decisions(third, "started") and len(decisions(second, "started")) > 1)
        held = stop_in_a_trial(paths, second, frozen)
        wait_until(lambda: any(line["trial"] == held for line in decisions(third, "started")))
        frozen.send_signal(signal.SIGCONT)
        assert last.wait(300) == 0
        assert frozen.wait(300) == 0
    finally:
        for process in begun:
            process.kill()
            process.wait(240)
    snapshot = load_snapshot(paths, "toy")
    assert [trial.state for trial in snapshot.trials] == [TrialState.COMPLETE] * 7
    assert snapshot.state == "finished"
    everywhere = [line["trial"] for p in (first, second, third) for line in decisions(p, "completed")]
    assert Counter(everywhere) == Counter(range(7)), "each trial was told once, by one"
    for trial in snapshot.trials:
        assert [attempt.number for attempt in trial.attempts] == list(range(1, len(trial.attempts) + 1))
        assert all(attempt.ended is not None for attempt in trial.attempts)
        assert sorted(trial.reports) == [3000 * point for point in range(1, 11)]
    assert held in {line["trial"] for line in decisions(second, "lost")}
    assert held not in {line["trial"] for line in decisions(second, "completed")}
    out_of_reach = [
        line for p in (second, third) for line in decisions(p, "started") if "out of reach" in line["reason"]
    ]
    assert out_of_reach, "who begins again says why"
    close_readers()


@pytest.mark.slow
def test_a_server_that_goes_away_is_waited_for_while_workers_train_on(paths, toys, postgres_server):
    toys(0.1)
    create_study(paths, study_spec(budget={"trials": 2}))
    supervisor = start(paths)
    try:
        wait_until(lambda: decisions(paths, "reported"))
        postgres_server.stop(signal.SIGQUIT)
        wait_until(lambda: decisions(paths, "database"))
        (folder,) = paths.study("toy").trials.iterdir()
        before = len(fs.read_lines(folder / "metrics.jsonl"))
        wait_until(lambda: len(fs.read_lines(folder / "metrics.jsonl")) > min(before + 5, 29))
        time.sleep(2.0)
        assert supervisor.poll() is None
        postgres_server.start()
        assert supervisor.wait(240) == 0
    finally:
        supervisor.kill()
        supervisor.wait(240)
    snapshot = load_snapshot(paths, "toy")
    for trial in snapshot.trials:
        assert (trial.state, len(trial.attempts)) == (TrialState.COMPLETE, 1)
        assert sorted(trial.reports) == [3000 * point for point in range(1, 11)]
    words = [line["reason"] for line in decisions(paths, "database")]
    assert "cannot be reached" in words[0]
    assert "is back after" in words[-1]
    close_readers()


@pytest.mark.slow
def test_stop_ends_the_supervisor_of_this_folder_and_the_other_goes_on(paths, toys, tmp_path, monkeypatch):
    toys(0.1)
    # The other one's trial dozes until its worker hears a SIGTERM, so that the study cannot end before.
    monkeypatch.setenv("TOY_PLAN", '{"0": {"1": "doze"}}')
    create_study(paths, study_spec(budget={"trials": 3}))
    other = CampaignPaths(tmp_path / "other", paths.storage)
    with pytest.raises(StudyError, match="is not running"):
        request_study_stop(paths, "toy")
    begun = [left := start(other)]
    try:
        wait_until(lambda: decisions(other, "started"))
        begun.append(stopped := start(paths))
        wait_until(lambda: decisions(paths, "started"))
        elsewhere = CampaignPaths(tmp_path / "elsewhere", paths.storage)
        with pytest.raises(StudyError, match="from another runs folder"):
            request_study_stop(elsewhere, "toy")
        request_study_stop(paths, "toy")
        assert stopped.wait(300) == 0
        running = load_snapshot(paths, "toy")
        assert running.state == "running"
        os.kill(running.trials[0].attempts[0].pid, signal.SIGTERM)
        assert left.wait(300) == 0
    finally:
        for process in begun:
            process.kill()
            process.wait(240)
    snapshot = load_snapshot(paths, "toy")
    assert (snapshot.state, len(snapshot.trials)) == ("finished", 3)
    assert json.dumps([trial.state.value for trial in snapshot.trials]) == '["complete", "complete", "complete"]'
    close_readers()


@pytest.mark.slow
def test_one_of_those_who_shared_a_search_confirms_its_best(paths, toys, tmp_path):
    toys(0.02)
    campaigns = [Campaign(tmp_path / name, paths.storage) for name in ("first", "second")]
    spec = study_spec(
        budget={"trials": 4},
        confirm={"top": 2, "seeds": 2},
        trainer={"command": list(TOY_COMMAND), "folder": str(Path.cwd())},
        workers={"num_envs": 100, "slots": 1, "recording": "none"},
    )
    for campaign in campaigns:
        campaign.folder.mkdir()
        text = yaml.safe_dump(spec.model_dump(mode="json", exclude_unset=True))
        (campaign.folder / "toy.yaml").write_text(text, encoding="utf-8")
    processes = [campaign.start("run", "toy.yaml", "--no-audit", "--shared") for campaign in campaigns]
    printed = [finish(process) for process in processes]
    confirmed = ["toy · confirmation finished" in text for text in printed]
    left_out = ["another of its supervisors does the confirmation" in text for text in printed]
    assert any(confirmed)
    assert all(one != other for one, other in zip(confirmed, left_out, strict=True)), printed
    trials = load_snapshot(paths, "toy.confirm").trials
    assert [(trial.state, len(trial.attempts)) for trial in trials] == [(TrialState.COMPLETE, 1)] * 4
