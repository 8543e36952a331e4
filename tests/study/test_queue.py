"""Chosen trials: made before the sampler draws any, each of them once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import toy_study
from tests.support.builders import LEARNING_RATE, study_spec
from vbot_campaign import fs
from vbot_campaign.errors import StudyError
from vbot_campaign.exporters.mirrors import export_all
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import CampaignStudy, load_snapshot, open_storage
from vbot_campaign.study.queue import QueuedStart, QueuedTrial
from vbot_campaign.study.reading import read_snapshot
from vbot_campaign.study.snapshot import ParentView, TrialView
from vbot_campaign.study.study import close_readers

RATE = "ppo.learning_rate"


@pytest.fixture
def paths(tmp_path) -> Iterator[CampaignPaths]:
    yield CampaignPaths(tmp_path / "runs")
    close_readers()


@pytest.fixture
def study(paths) -> Iterator[CampaignStudy]:
    storage = open_storage(paths)
    yield CampaignStudy.create(storage, study_spec(budget={"trials": 9}))
    storage.close()


def queued(rate: float, **more) -> QueuedTrial:
    return QueuedTrial({RATE: rate}, "chosen by hand", **more)


def asked(study: CampaignStudy) -> TrialView:
    trial = study.ask()
    assert trial is not None
    return trial


def test_queued_trials_come_first_in_order_and_then_the_sampler_begins_as_ever(study):
    study.enqueue([queued(2e-4, seed=11), queued(5e-4)])
    study.enqueue([queued(7e-4)])
    trials = [asked(study) for _ in range(5)]
    assert [trial.parameters[RATE] for trial in trials[:4]] == [2e-4, 5e-4, 7e-4, 3e-4], "the prior comes fourth"
    assert [trial.seed for trial in trials] == [11, None, None, None, None]
    assert [trial.queued for trial in trials] == [0, 1, 2, None, None]
    assert [trial.origin for trial in trials[2:4]] == ["chosen by hand", None]


def test_a_dropped_entry_is_not_made(study):
    study.enqueue([queued(2e-4), queued(5e-4), queued(7e-4)])
    assert asked(study).queued == 0
    study.drop_queued([0, 1])
    assert [entry.id for entry in study.queue] == [2]
    assert asked(study).parameters[RATE] == 7e-4
    assert len(study.queued) == 3, "the list only grows"
    with pytest.raises(StudyError, match=r"queue: has no entry 3; it has 3, numbered from 0"):
        study.drop_queued([3])


def test_a_crash_between_two_writes_loses_and_doubles_nothing(paths, study):
    study.enqueue([queued(2e-4), queued(5e-4)])
    asked(study)  # killed right here: all that is known of the entry is on the trial itself
    storage = open_storage(paths)
    later = CampaignStudy.open(storage, "toy")
    assert [asked(later).queued, asked(later).queued] == [1, None]
    storage.close()


def test_a_study_of_queued_trials_alone_draws_none(paths):
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, study_spec(sampler={"name": "queue"}))
    assert study.ask() is None
    study.enqueue([queued(2e-4)])
    assert asked(study).parameters == {RATE: 2e-4}
    assert study.ask() is None
    storage.close()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"ppo.learning_rat": 1e-4}, r"study 'toy' does not search it. Did you mean 'ppo.learning_rate'"),
        ({RATE: 0.5}, r"ppo.learning_rate: 0.5 is outside of what study 'toy' searches. Clip it"),
        ({RATE: 9.5e-4}, r"the point is excluded by 'ppo.learning_rate > 9e-4' \(too fast\)"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_nothing_of_it_is_stored(paths, parameters, words):
    storage = open_storage(paths)
    constraint = {"skip_if": "ppo.learning_rate > 9e-4", "reason": "too fast"}
    study = CampaignStudy.create(storage, study_spec(constraints=[constraint]))
    with pytest.raises(StudyError, match=words):
        study.enqueue([queued(2e-4), QueuedTrial(parameters, "by hand")])
    assert study.queue == ()
    storage.close()


def test_values_left_out_take_their_prior_or_default(paths):
    storage = open_storage(paths)
    space = {"ppo": {"learning_rate": LEARNING_RATE, "learning_epochs": {"type": "int", "low": 2, "high": 9}}}
    study = CampaignStudy.create(storage, study_spec(search_space=space))
    study.enqueue([QueuedTrial({"ppo.learning_epochs": 7}, "by hand"), queued(1e-4)])
    assert asked(study).parameters == {RATE: 3e-4, "ppo.learning_epochs": 7}
    assert asked(study).parameters == {RATE: 1e-4, "ppo.learning_epochs": 5}
    storage.close()


def test_both_readers_see_the_queue_and_what_trials_are_made_of(paths, study):
    start = QueuedStart("/x/agent_5000.pt", "ab", 5000, "far", 3, num_envs=64, schedule="restart", lr_factor=0.3)
    study.enqueue([queued(2e-4, seed=2**40, start=start), queued(5e-4), queued(7e-4)])
    study.set_parent(ParentView("far", "extend", {"trials": [3]}))
    study.set_confirmed({"winner": 3})
    study.drop_queued([1])
    asked(study)
    study.ledger.update_trial(0, env_steps=12_000)
    snapshot = load_snapshot(paths, "toy")
    assert snapshot == read_snapshot(paths, "toy")
    trial = snapshot.trials[0]
    assert (trial.start, trial.seed, trial.origin, trial.num_envs) == (start, 2**40, "chosen by hand", 64)
    assert (trial.new_env_steps, snapshot.env_steps_used) == (7_000, 7_000), "what the start had is not counted"
    assert [entry.id for entry in snapshot.queue] == [2]
    assert snapshot.parent == ParentView("far", "extend", {"trials": [3]})
    assert snapshot.confirmed == {"winner": 3}


def test_queued_trials_train_with_their_own_seed_and_the_mirrors_say_so(paths, monkeypatch):
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, study_spec(budget={"trials": 3}))
    study.enqueue([queued(2e-4, seed=11), queued(2e-4, seed=12)])
    storage.close()
    outcome = toy_study.resume(paths)
    assert [trial.seed for trial in outcome.snapshot.trials] == [11, 12, None]
    folders = [paths.study("toy").root / str(trial.folder) for trial in outcome.snapshot.trials]
    assert [fs.read_json(folder / "trial.json")["training"]["seed"] for folder in folders] == [11, 12, 42]
    export_all(paths, "toy")
    config = paths.study("toy").config(1).read_text(encoding="utf-8")
    assert "seed: 12" in config
    assert "origin: chosen by hand" in config
    assert "origin" not in paths.study("toy").config(2).read_text(encoding="utf-8")
