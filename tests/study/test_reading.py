"""A study read straight from the file: the same picture that Optuna's own classes give, in a fraction of the time."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.snapshots import PARTS, STEPS, make_spec
from tests.support.stored_study import store_study
from vbot_campaign.errors import StorageError, StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import CampaignStudy, load_snapshot, open_storage, study_names
from vbot_campaign.study.owner import Owner, process_started
from vbot_campaign.study.reading import StudyReader, read_names, read_snapshot
from vbot_campaign.study.snapshot import AlertView, AuditView, TrialState
from vbot_campaign.study.study import close_readers

SPACE = {
    "ppo": {
        "learning_rate": {"type": "loguniform", "low": 1e-5, "high": 1e-3},
        "learning_epochs": {"type": "int", "low": 2, "high": 8},
        "policy_hidden_layer_sizes": {"type": "categorical", "choices": [[128, 64], [256, 128, 64]]},
        "rollouts": {"type": "choice", "values": [16, 24, 32]},
    },
    "reward": {
        "termination": {"type": "loguniform", "low": -150.0, "high": -50.0},
        "arrival_bonus": {"type": "uniform", "low": 50.0, "high": 200.0, "step": 25.0},
    },
}


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[CampaignPaths]:
    yield CampaignPaths(tmp_path / "runs")
    close_readers()


@pytest.fixture
def study(paths: CampaignPaths) -> Iterator[CampaignStudy]:
    storage = open_storage(paths)
    yield CampaignStudy.create(
        storage, make_spec(search_space=SPACE, budget={"trials": 20}, sampler={"name": "random"})
    )
    storage.close()


def test_a_finished_study_is_read_as_optuna_reads_it(paths: CampaignPaths) -> None:
    store_study(paths)
    snapshot = read_snapshot(paths, "walk")
    assert snapshot == load_snapshot(paths, "walk")
    assert [trial.state for trial in snapshot.trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED]
    assert snapshot.best is not None
    assert snapshot.best.checkpoints[0].metrics == PARTS
    assert read_names(paths) == study_names(paths) == ["walk"]


def test_every_kind_of_parameter_score_and_fact(paths: CampaignPaths, study: CampaignStudy) -> None:
    for number in range(6):
        study.ask()
        study.ledger.open_attempt(number, slot="cpu:0", first_env_step=0)
        study.ledger.close_attempt(number, 1, reason="stopped", exit_code=0, died=False, memory_peak_mb=12.5)
    study.report(0, STEPS // 2, math.inf)
    study.report(0, STEPS // 3, 0.25)
    study.report(1, STEPS // 2, -math.inf)
    study.complete(0, 0.5, PARTS, None)
    study.prune(1, "median")
    study.set_num_envs(2, 64)
    study.set_audit(AuditView("2026-01-31T12:00:00Z", ("stands still",), 12, 3, 1.5))
    study.add_alert(AlertView("2026-01-31T12:00:00Z", "warning", "low_disk", "3 GB are free", "make room"))
    study.ledger.begin_session(Owner("elsewhere", 7, 1.0), ["gpu:0", "gpu:1"], lease_s=3600.0)
    study.set_status("running", "")
    snapshot = read_snapshot(paths, "walk")
    assert snapshot == load_snapshot(paths, "walk")
    assert snapshot.trials[0].reports == {STEPS // 3: 0.25, STEPS // 2: math.inf}
    assert all(trial.parameters["reward.termination"] < 0 for trial in snapshot.trials)
    assert snapshot.trials[2].num_envs == 64
    assert (snapshot.slots, snapshot.alerts[0].cause) == (("gpu:0", "gpu:1"), "low_disk")


def test_a_reader_sees_each_change_and_nothing_where_there_is_none(paths: CampaignPaths, study: CampaignStudy) -> None:
    study.ask()
    study.complete(0, 0.5, None, None)
    with StudyReader(paths, "walk") as reader:
        first = reader.snapshot()
        assert reader.snapshot() is first
        study.ask()
        study.report(1, STEPS // 2, 0.25)
        later = reader.snapshot()
        assert later.trials[0] is first.trials[0], "a finished trial is read once"
        assert later.trials[1].reports == {STEPS // 2: 0.25}
        assert later == load_snapshot(paths, "walk")


def test_a_worker_that_dies_is_noticed_without_a_word_in_the_database(
    paths: CampaignPaths, study: CampaignStudy
) -> None:
    study.ask()
    attempt = study.ledger.open_attempt(0, slot="cpu:0", first_env_step=0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as worker:
        started = process_started(worker.pid)
        study.ledger.update_attempt(0, attempt.number, pid=worker.pid, pid_started=started)
        with StudyReader(paths, "walk") as reader:
            assert reader.snapshot().trials[0].state is TrialState.RUNNING
            worker.kill()
            worker.wait()
            assert reader.snapshot().trials[0].state is TrialState.WAITING


def test_a_database_made_anew_is_opened_anew(paths: CampaignPaths, study: CampaignStudy) -> None:
    with StudyReader(paths, "walk") as reader:
        assert reader.snapshot().trials == ()
        study.storage.close()
        for file in paths.root.glob("campaign.db*"):
            file.unlink()
        store_study(paths)
        assert len(reader.snapshot().trials) == 3


def test_what_is_wrong_is_said_as_elsewhere(paths: CampaignPaths) -> None:
    assert read_names(paths) == []
    with pytest.raises(StudyNotFoundError, match=r"study 'walk': not found, there is no database"):
        read_snapshot(paths, "walk")
    store_study(paths)
    with pytest.raises(StudyNotFoundError, match=r"study 'wolk': not found. Did you mean 'walk'"):
        read_snapshot(paths, "wolk")
    execute(paths, "UPDATE campaign_trials SET folder = '../../etc'")
    with pytest.raises(StorageError, match="outside of its study's folder"):
        read_snapshot(paths, "walk")
    execute(paths, "UPDATE campaign_schema SET version = 99")
    with pytest.raises(StorageError, match="newer vbot-campaign"):
        read_snapshot(paths, "walk")


def execute(paths: CampaignPaths, statement: str) -> None:
    close_readers()
    with closing(sqlite3.connect(paths.database)) as connection:
        connection.execute(statement)
        connection.commit()


def test_the_lease_of_another_host_holds_until_its_date(paths: CampaignPaths, study: CampaignStudy) -> None:
    session = study.ledger.begin_session(Owner("elsewhere", 7, 1.0), ["gpu:0"], lease_s=3600.0)
    study.set_status("running", "")
    with StudyReader(paths, "walk") as reader:
        supervisor = reader.snapshot().supervisor
        assert supervisor is not None
        assert supervisor["started"] <= datetime.now(UTC)
        study.ledger.beat(session, 1.0, lease_s=-1.0)
        assert (reader.snapshot().state, reader.snapshot().reason) == ("stopped", "its supervisor is gone; resume it")
