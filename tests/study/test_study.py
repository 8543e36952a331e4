"""A study and its trials in the database, and the pictures others get of them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import optuna
import pytest
import sqlalchemy as sa

from tests.support.builders import study_spec
from vbot_campaign.errors import StudyChangedError, StudyError, StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.resolve import with_defaults
from vbot_campaign.study.owner import Owner, process_alive
from vbot_campaign.study.snapshot import AlertView, TrialState
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import KEPT_ALERTS, CampaignStudy, load_snapshot, study_names

SECOND = timedelta(seconds=1)
PARTS = {"success_rate": 0.75, "survival_rate": 1.0}
LINE = {
    "file": "agent_5000.pt",
    "env_steps": 5000,
    "kind": "resume",
    "sha256": "ab",
    "bytes": 3,
    "score": None,
    "parts": None,
    "time": "2026-01-31T23:59:59.123Z",
}


@pytest.fixture
def paths(tmp_path):
    return CampaignPaths(tmp_path)


@pytest.fixture
def storage(paths):
    storage = open_storage(paths)
    yield storage
    storage.close()


@pytest.fixture
def study(storage):
    return CampaignStudy.create(storage, study_spec())


def test_a_study_is_stored_with_its_whole_definition_and_opened_by_name(storage):
    spec = study_spec(constraints=[{"skip_if": "ppo.learning_rate > 9e-4"}], seed=5)
    began = datetime.now(UTC)
    created = CampaignStudy.create(storage, spec)
    opened = CampaignStudy.open(storage, "toy")
    assert opened.spec == created.spec == with_defaults(spec)
    assert opened.spec.fixed["reward"]["arrival_bonus"] == 100.0, "a later default must not change the study"
    assert opened.snapshot().state == "created"
    assert began - SECOND < opened.created < datetime.now(UTC) + SECOND


def test_a_raised_budget_is_stored_and_any_other_change_is_refused(storage):
    CampaignStudy.create(storage, study_spec(budget={"trials": 4}))
    CampaignStudy.create(storage, study_spec(budget={"trials": 9}))
    assert CampaignStudy.open(storage, "toy").spec.budget.trials == 9
    with pytest.raises(StudyChangedError, match=r"budget\.trials: 9 -> 3"):
        CampaignStudy.create(storage, study_spec(budget={"trials": 3}))
    with pytest.raises(
        StudyChangedError, match=r"study 'toy'.*sampler\.seed: 1 -> 2.*Give the changed study a new name"
    ):
        CampaignStudy.create(storage, study_spec(budget={"trials": 9}, sampler={"name": "random", "seed": 2}))
    assert CampaignStudy.open(storage, "toy").spec.sampler.seed == 1


def test_an_unknown_name_is_answered_with_the_nearest(storage, study):
    with pytest.raises(StudyNotFoundError, match=r"study 'toi': not found\. Did you mean 'toy'\? Known studies: toy"):
        CampaignStudy.open(storage, "toi")


def test_a_study_of_someone_else_is_not_ours(storage):
    optuna.create_study(study_name="theirs", storage=storage.optuna)
    with pytest.raises(StudyError, match="was not made by vbot-campaign"):
        CampaignStudy.open(storage, "theirs")


def test_a_creation_that_was_cut_short_is_made_good(storage):
    optuna.create_study(study_name="toy", storage=storage.optuna, direction="maximize")
    assert CampaignStudy.create(storage, study_spec()).spec == with_defaults(study_spec())


def test_a_trial_through_its_life(study):
    trial = study.ask()
    assert (trial.number, trial.state, trial.parameters) == (0, TrialState.WAITING, {"ppo.learning_rate": 3e-4})
    attempt = study.ledger.open_attempt(0, slot="cpu:0", first_env_step=0)
    assert study.trial(0).state is TrialState.RUNNING
    assert study.report(0, 3000, 0.25)
    assert not study.report(0, 3000, 0.99), "each step has one score"
    study.ledger.close_attempt(0, attempt.number, reason="killed by SIGKILL", exit_code=-9, died=True)
    assert study.trial(0).state is TrialState.WAITING
    second = study.ledger.open_attempt(0, slot="cpu:1", first_env_step=5000)
    assert (second.number, study.ledger.deaths(0)) == (2, 1)
    assert second.token != attempt.token
    study.ledger.close_attempt(0, 2, reason="finished", exit_code=0, died=False)
    study.complete(0, 0.75, PARTS, {"finished": 128})
    trial = study.trial(0)
    assert (trial.state, trial.score, trial.parts, trial.reports) == (TrialState.COMPLETE, 0.75, PARTS, {3000: 0.25})
    assert [a.reason for a in trial.attempts] == ["killed by SIGKILL", "finished"]
    assert trial.evaluation == {"finished": 128}


def test_a_pruned_trial_keeps_its_last_score_and_a_failed_one_has_none(study):
    for _ in range(2):
        study.report(study.ask().number, 3000, 0.25)
    study.prune(0, "median pruner")
    study.fail(1, "diverged: loss is not finite")
    pruned, failed = study.snapshot().trials
    assert (pruned.state, pruned.score, pruned.reason) == (TrialState.PRUNED, 0.25, "median pruner")
    assert (failed.state, failed.score, failed.reason) == (TrialState.FAILED, None, "diverged: loss is not finite")
    assert study.snapshot().best is None


def test_times_are_utc_wherever_the_machine_stands(study, monkeypatch):
    began = datetime.now(UTC)
    study.ask()
    study.fail(0, "x")
    trial = study.snapshot().trials[0]
    for moment in (trial.started, trial.ended):
        assert moment.tzinfo is UTC
        assert began - SECOND < moment < datetime.now(UTC) + SECOND


def test_a_checkpoint_line_recorded_twice_is_one_checkpoint(study):
    study.ask()
    study.ledger.record_checkpoint(0, "trials/0/agent_5000.pt", LINE)
    study.ledger.mark_verified("trials/0/agent_5000.pt", datetime(2026, 2, 1, tzinfo=UTC))
    study.ledger.record_checkpoint(0, "trials/0/agent_5000.pt", LINE)
    (checkpoint,) = study.trial(0).checkpoints
    assert (checkpoint.env_steps, checkpoint.verified) == (5000, datetime(2026, 2, 1, tzinfo=UTC))
    assert checkpoint.created == datetime(2026, 1, 31, 23, 59, 59, 123000, tzinfo=UTC)
    study.ledger.record_checkpoint(0, "trials/0/agent_5000.pt", {**LINE, "sha256": "cd"})
    assert study.trial(0).checkpoints[0].verified is None, "other content was never verified"
    study.ledger.record_checkpoint(0, "trials/0/agent_5000.pt", {"file": "agent_5000.pt", "deleted": True})
    assert study.trial(0).checkpoints == ()


def test_hours_add_up_over_sessions_and_a_lease_ends_with_its_owner(study):
    here = Owner.here()
    first = study.ledger.begin_session(here, ["cpu:0"], lease_s=30)
    study.ledger.beat(first, 1800, lease_s=30)
    assert study.ledger.lease().is_held()
    study.ledger.end_session(first, 3600)
    assert study.ledger.lease() is None
    second = study.ledger.begin_session(here, [], lease_s=30)
    study.ledger.beat(second, 900, lease_s=30)
    assert study.ledger.hours_used() == pytest.approx(1.25)
    dead = dataclasses.replace(here, pid_started=here.pid_started - 100)
    study.ledger.begin_session(dead, [], lease_s=30)
    assert not study.ledger.lease().is_held(), "the number was given to another process since"
    far = dataclasses.replace(here, host="elsewhere")
    study.ledger.begin_session(far, [], lease_s=30)
    assert study.ledger.lease().is_held(), "of another host only the date is known"


def test_a_process_is_told_from_a_later_one_with_its_number():
    here = Owner.here()
    assert process_alive(here.pid, here.pid_started)
    assert not process_alive(here.pid, here.pid_started - 60)
    assert not process_alive(None, None)


def test_a_reader_sees_each_change_and_reads_finished_trials_once(paths, study):
    for number in range(20):
        study.ask()
        study.complete(number, number / 20, PARTS, None)
    study.ask()
    assert [trial.state for trial in load_snapshot(paths, "toy").trials] == [TrialState.COMPLETE] * 20 + [
        TrialState.WAITING
    ]
    study.report(20, 3000, 0.5)
    rows = []
    engine = reader_engine(paths)
    sa.event.listen(engine, "before_cursor_execute", lambda *args: rows.append((args[2], args[3])))
    snapshot = load_snapshot(paths, "toy")
    assert snapshot.trials[20].reports == {3000: 0.5}
    assert snapshot.best.number == 19
    asked_for = [parameters for statement, parameters in rows if "campaign_attempts" in statement]
    assert asked_for == [("toy", 20)], "only the unfinished trial is looked up"
    assert len(rows) < 20


def reader_engine(paths):
    from vbot_campaign.study import study as module

    (reader,) = [r for key, r in module._readers.items() if key[0] == paths.database_url]
    return reader.storage.engine


def test_a_reader_sees_a_raised_budget_and_a_database_made_anew(paths, storage, study):
    assert load_snapshot(paths, "toy").spec.budget.trials == 4
    CampaignStudy.create(storage, study_spec(budget={"trials": 9}))
    assert load_snapshot(paths, "toy").spec.budget.trials == 9
    storage.close()
    for file in paths.root.glob("campaign.db*"):
        file.unlink()
    assert study_names(paths) == []
    fresh = open_storage(paths)
    CampaignStudy.create(fresh, study_spec(study="other"))
    assert study_names(paths) == ["other"]
    fresh.close()


def test_a_study_whose_supervisor_is_gone_is_stopped(paths, study):
    study.ask()
    attempt = study.ledger.open_attempt(0, slot="cpu:0", first_env_step=0)
    study.ledger.update_attempt(0, attempt.number, pid=Owner.here().pid, pid_started=1.0)
    study.set_status("running", "")
    snapshot = load_snapshot(paths, "toy")
    assert (snapshot.state, snapshot.supervisor) == ("stopped", None)
    assert snapshot.trials[0].state is TrialState.WAITING
    assert "interrupted" in snapshot.trials[0].reason
    session = study.ledger.begin_session(Owner.here(), ["cpu:0", "cpu:1"], lease_s=30)
    snapshot = load_snapshot(paths, "toy")
    assert (snapshot.state, snapshot.slots) == ("running", ("cpu:0", "cpu:1"))
    assert snapshot.supervisor["pid"] == Owner.here().pid
    assert snapshot.trials[0].state is TrialState.RUNNING
    study.ledger.end_session(session, 1.0)


def test_the_newest_alerts_are_kept(study, paths):
    alerts = [AlertView(f"2026-01-31T00:00:{i:02d}Z", "warning", "low_disk", f"{i} GB", "free some") for i in range(3)]
    for alert in alerts * 40:
        study.add_alert(alert)
    shown = load_snapshot(paths, "toy").alerts
    assert len(shown) == KEPT_ALERTS == 100
    assert shown[-3:] == tuple(alerts)
    assert shown[0] == alerts[2], "twenty of them are gone"
