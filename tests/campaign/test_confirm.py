"""The best trials of a study on fresh seeds, with the toy worker: the same winner however it was disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import toy_study
from tests.support.builders import cpu_slots, study_spec
from tests.support.sharing import kill_all
from vbot_campaign import fs
from vbot_campaign.campaign.confirm import Confirmed, begun_with, confirm_study, confirmation
from vbot_campaign.campaign.derived import derived_name
from vbot_campaign.errors import SpecError, StudyBusyError, StudyError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.study import Budget
from vbot_campaign.study import CampaignStudy, load_snapshot, open_storage
from vbot_campaign.study.owner import Owner
from vbot_campaign.study.queue import QueuedTrial
from vbot_campaign.study.study import close_readers

RATES = [3e-4, 2.6e-4, 1e-4, 5e-5]
"""Qualities 1, 0.87, 0.33 and 0.17."""

DRIVER = """
import sys
from pathlib import Path
from tests.support import toy_study
from tests.support.builders import cpu_slots
from vbot_campaign.campaign.confirm import confirm_study
from vbot_campaign.paths import CampaignPaths
confirm_study(CampaignPaths(Path(sys.argv[1])), "toy", top=3, seeds=4, **toy_study.options(slots=cpu_slots(1)))
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    monkeypatch.setenv("TOY_LUCK", "0.1")
    yield
    close_readers()


def searched(root: Path, **overrides: Any) -> CampaignPaths:
    """Store a finished study whose four trials have the rates above, and the scores they would have had."""
    paths = CampaignPaths(root)
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, study_spec(sampler={"name": "queue"}, **overrides))
    study.enqueue([QueuedTrial({"ppo.learning_rate": rate}, "by hand") for rate in RATES])
    for number, score in enumerate((1.0, 0.87, 0.33, 0.17)):
        study.ask()
        study.ledger.update_trial(number, env_steps=30_000)
        study.complete(number, score, {"success_rate": score}, None)
    study.set_status("finished", "all trials have ended")
    storage.close()
    return paths


def confirm(paths: CampaignPaths, **changes: Any) -> Confirmed:
    values = {"top": 3, "seeds": 4, **toy_study.options(slots=cpu_slots(1)), **changes}
    return confirm_study(paths, "toy", **values)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CampaignPaths, Confirmed]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_ITERATION_S", "0.001")
        patch.setenv("TOY_LUCK", "0.1")
        paths = searched(tmp_path_factory.mktemp("undisturbed"))
        yield paths, confirm(paths)


def test_the_best_are_trained_again_on_seeds_that_the_search_has_not_seen(undisturbed):
    paths, found = undisturbed
    assert (found.state, found.winner) == ("finished", 0)
    assert [candidate.trial for candidate in found.candidates] == [0, 1, 2]
    assert len(set(found.seeds)) == 4
    snapshot = load_snapshot(paths, "toy.confirm")
    assert snapshot.parent is not None
    assert (snapshot.parent.study, snapshot.parent.phase) == ("toy", "confirm")
    given = [
        fs.read_json(paths.study("toy.confirm").root / str(trial.folder) / "trial.json") for trial in snapshot.trials
    ]
    assert {values["training"]["seed"] for values in given} == set(found.seeds)
    assert 42 not in found.seeds
    (evaluation,) = {values["training"]["evaluation"]["seed"] for values in given}
    assert evaluation == found.evaluation_seed != study_spec().evaluation.seed
    assert snapshot.trials[0].origin == "confirm trial 0, seed 1"


def test_losers_leave_after_the_third_seed_and_the_numbers_say_why(undisturbed):
    paths, found = undisturbed
    third = found.candidates[2]
    assert third.dropped is not None
    assert third.dropped.startswith("after 3 seeds its IQM is 0.3")
    assert third.dropped.endswith("of trial 0")
    assert [len([s for s in c.scores if s is not None]) for c in found.candidates] == [4, third_seeds(found), 3]
    raced = [line for line in fs.read_lines(paths.study("toy.confirm").decisions) if line["action"] == "raced"]
    assert any(line["reason"] == f"trial 2 leaves the race: {third.dropped}; 1 training left out" for line in raced)


def third_seeds(found: Confirmed) -> int:
    return 4 if found.candidates[1].dropped is None else 3


def test_the_result_is_kept_with_the_study_and_shown_again_without_any_training(undisturbed):
    paths, found = undisturbed
    kept = load_snapshot(paths, "toy").confirmed
    assert kept is not None
    assert Confirmed.from_record(kept) == found
    trained = load_snapshot(paths, "toy.confirm").hours_used
    assert confirm(paths) == found == confirmation(paths, "toy")
    assert load_snapshot(paths, "toy.confirm").hours_used == trained, "no supervisor was at work"
    assert begun_with(paths, "toy") == {"top": 3, "seeds": 4, "env_steps": 30_000}


def test_it_is_begun_in_one_way_only_and_goes_on_with_more_seeds(tmp_path):
    paths = searched(tmp_path)
    before = confirm(paths, top=2, seeds=3)
    with pytest.raises(StudyError, match=r"begun with the best 2 trials, 3 seeds and 30,000 env steps.*only --seeds"):
        confirm(paths, top=3, seeds=3)
    with pytest.raises(StudyError, match=r"only --seeds may be raised"):
        confirm(paths, top=2, seeds=2)
    with pytest.raises(StudyError, match=r"only --seeds may be raised"):
        confirm(paths, top=2, seeds=3, env_steps=60_000)
    after = confirm(paths, top=2, seeds=5)
    assert after.seeds[:3] == before.seeds
    assert len(set(after.seeds)) == 5
    assert after.candidates[0].scores[:3] == before.candidates[0].scores
    assert None not in after.candidates[0].scores


@pytest.mark.slow
@pytest.mark.parametrize("made", [2, 8])
def test_killed_in_the_middle_it_ends_as_undisturbed(tmp_path, undisturbed, made, monkeypatch):
    monkeypatch.setenv("TOY_PLAN", json.dumps({str(made - 1): {"1": "doze"}}))  # in its middle, until it is killed
    paths = searched(tmp_path)
    begun = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(paths.root)], env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )
    toy_study.wait_until(lambda: len(list(paths.study("toy.confirm").trials.glob("*/metrics.jsonl"))) >= made)
    kill_all(begun)
    left = confirmation(paths, "toy")
    assert left is not None
    assert left.winner is None
    assert confirm(paths) == undisturbed[1]
    assert [trial.queued for trial in load_snapshot(paths, "toy.confirm").trials] == [
        trial.queued for trial in load_snapshot(undisturbed[0], "toy.confirm").trials
    ]


def test_two_workers_at_once_find_the_same(tmp_path, undisturbed):
    paths = searched(tmp_path)
    found = confirm(paths, slots=cpu_slots(2))
    assert found.winner == undisturbed[1].winner
    assert found.candidates[0] == undisturbed[1].candidates[0]
    assert found.candidates[2].dropped == undisturbed[1].candidates[2].dropped


def test_a_training_that_fails_counts_as_zero(tmp_path, monkeypatch):
    paths = searched(tmp_path)
    monkeypatch.setenv("TOY_PLAN", '{"0": {"*": "diverged"}}')
    found = confirm(paths, top=2, seeds=3)
    assert found.candidates[0].scores[0] == 0.0
    assert found.winner == 1, "its lower end is what it can be trusted to reach"


def test_a_confirmation_has_the_share_of_the_budget_that_the_search_left(tmp_path):
    paths = searched(
        tmp_path, budget={"trials": 4, "env_steps": 480_000, "shares": {"search": 0.5, "confirm": 0.25, "extend": 0.25}}
    )
    assert load_snapshot(paths, "toy").env_steps_used == 120_000
    confirm(paths, top=2, seeds=1)
    budget = load_snapshot(paths, "toy.confirm").spec.budget
    assert budget == Budget(trials=2, env_steps=240_000), "3/4 of 480,000 less what the search used"


def test_what_cannot_be_confirmed_is_refused_and_nothing_is_made(tmp_path, monkeypatch):
    paths = searched(tmp_path)
    storage = open_storage(paths)
    study = CampaignStudy.open(storage, "toy")
    session = study.ledger.begin_session(Owner.here(), ["cpu:0"], lease_s=60)
    with pytest.raises(StudyBusyError, match=r"study 'toy' is running .* confirm them when it has ended"):
        confirm(paths)
    study.ledger.end_session(session, 1.0)
    CampaignStudy.create(storage, study_spec(study="empty"))
    storage.close()
    with pytest.raises(StudyError, match=r"study 'empty': no trial is complete yet; go on with `vbot-campaign resume"):
        confirm_study(paths, "empty", top=3, seeds=3)
    with pytest.raises(SpecError, match=r"less than one iteration"):
        confirm(paths, env_steps=10)
    with pytest.raises(SpecError, match=r"It is what `confirm` calls the study"):
        derived_name("x" * 60, "confirm")
    assert confirmation(paths, "toy") is None
