"""Rungs with pauses, on scores that can be followed by hand."""

from __future__ import annotations

import dataclasses

import pytest

from tests.support.builders import study_spec
from tests.support.snapshots import make_trial
from vbot_campaign.study.halving import Entrant, Rungs, Standing, entrant_of, replay, rungs_of
from vbot_campaign.study.snapshot import RungView, TrialState

GRID = range(3000, 30_001, 3000)
TWO = Rungs((3000, 9000), (1 / 3, 1 / 3))
SCORES = [0.50, 0.85, 0.70, 0.30, 0.90, 0.20, 0.80, 0.40, 1.00]


def line(end):
    return {step: end * step / 30_000 for step in GRID}


def rungs(scores, *, passed=(), paused=(), eta=3):
    """Return trials at two rungs, with the same score at both."""
    board = Rungs((100, 300), (1 / eta, 1 / eta))
    for trial, score in enumerate(scores):
        board.put(Entrant(trial, ((100, score), (300, score)), int(trial in passed), trial in paused))
    return board


def standing_at_first(board, trial, last=False):
    found = board.standing(trial, last=last)
    assert found is not None
    return found.place, found.peers, found.places


@pytest.mark.parametrize(
    ("warmup", "eta", "points", "steps"),
    [
        (0.1, 3, 30, (3000, 9000, 27_000)),
        (0.125, 3, 8, (3750, 11_250)),
        (0.1, 2, 10, (3000, 6000, 12_000, 24_000)),
        # nothing is known before the first report, and all is trained at the last
        (0.0, 3, 10, (3000, 9000, 27_000)),
        (0.0, 3, 5, (6000, 18_000)),
        (0.95, 3, 10, ()),
        (0.0, 3, 1, ()),
    ],
)
def test_rungs_lie_at_the_warmup_times_powers_of_eta(warmup, eta, points, steps):
    pruner = {"name": "successive_halving", "pause": True, "warmup": warmup, "reduction_factor": eta}
    assert rungs_of(study_spec(pruner=pruner, report_points=points)).steps == steps


def test_the_score_at_a_rung_is_that_of_the_first_report_there():
    board = Rungs((3000, 9000), (0.5, 0.5))
    assert board.scores({3000: 0.1, 6000: 0.2}) == ((3000, 0.1),)
    assert board.scores({6000: 0.2, 12_000: 0.4}) == ((6000, 0.2), (12_000, 0.4)), "episodes ended late"
    assert board.scores({}) == ()


def test_the_score_at_a_rung_is_the_median_of_some_reports_before_it():
    reports = {1000: 0.9, 2000: 0.1, 3000: 0.2, 4000: 0.7, 5000: 0.3, 6000: 0.8}
    assert Rungs((3000, 5000), (0.5, 0.5), smoothing=3).scores(reports) == ((3000, 0.2), (5000, 0.3))
    assert Rungs((1000,), (0.5,), smoothing=3).scores(reports) == ((1000, 0.9),), "there is but one"


def test_each_rung_of_a_study_file_keeps_its_own_share():
    pruner = {"name": "rungs", "rungs": [{"at": 0.1, "keep": 0.75}, {"at": 0.4, "keep": 0.25}]}
    board = rungs_of(study_spec(pruner=pruner, report_points=10))
    assert board.steps == (3000, 12_000)
    for trial, score in enumerate(SCORES[:8]):
        board.put(Entrant(trial, ((3000, score), (12_000, score)), passed=1))
    board.put(Entrant(8, ((3000, 0.35),)))
    assert board.standing(8, last=False) == Standing(1, 3000, 0.35, 7, 9, 6)
    assert board.standing(1, last=False) == Standing(2, 12_000, 0.85, 2, 8, 2)


@pytest.mark.parametrize(("at", "points", "steps"), [(0.01, 10, (3000,)), (0.4, 10, (12_000,)), (0.95, 10, ())])
def test_a_rung_lies_where_something_is_known_and_something_is_left(at, points, steps):
    pruner = {"name": "rungs", "rungs": [{"at": at, "keep": 0.5}]}
    assert rungs_of(study_spec(pruner=pruner, report_points=points)).steps == steps


def test_one_in_eta_of_those_that_came_goes_on():
    assert standing_at_first(rungs([0.5]), 0) == (1, 1, 0), "nobody knows yet how good that is"
    assert standing_at_first(rungs([0.5, 0.6, 0.7]), 2) == (1, 3, 1)
    assert standing_at_first(rungs(SCORES), 7) == (7, 9, 3)
    found = rungs(SCORES).standing(6, last=False)
    assert found == Standing(1, 100, 0.80, 4, 9, 3)
    assert not found.goes_on
    assert found.words() == "rung 1 (score 0.8000, 4th of 9; 3 go on)"


@pytest.mark.parametrize(
    ("place", "places", "words"),
    [(1, 1, "1st of 21; 1 goes on"), (2, 0, "2nd of 21; none goes on yet"), (11, 3, "11th of 21; 3 go on"),
     (21, 3, "21st of 21; 3 go on"), (3, 2, "3rd of 21; 2 go on")],
)  # fmt: skip
def test_a_standing_in_words(place, places, words):
    assert Standing(2, 300, 0.5, place, 21, places).words() == f"rung 2 (score 0.5000, {words})"


def test_a_small_study_lets_the_best_go_on_when_no_more_trials_come():
    assert standing_at_first(rungs([0.5, 0.6]), 1, last=True) == (1, 2, 1)
    assert rungs([0.5, 0.6], paused=(0, 1)).promotable(last=False) == []
    assert rungs([0.5, 0.6], paused=(0, 1)).promotable(last=True) == [1]


def test_as_many_go_on_in_the_end_as_are_to_be_confirmed():
    pruner = {"rungs": [{"at": 0.15, "keep": 0.75}, {"at": 0.4, "keep": 0.25}]}
    study = study_spec(pruner=pruner, report_points=20, confirm={"top": 3})
    board = rungs_of(study)
    for trial, score in enumerate(SCORES[:4]):
        board.put(Entrant(trial, ((4500, score), (12_000, score)), passed=1, paused=True))
    assert board.promotable(last=False) == [1]
    assert board.promotable(last=True) == [1, 2, 0]


def test_a_paused_trial_may_go_on_when_more_have_come():
    assert rungs(SCORES[:2], paused=(0, 1)).promotable(last=False) == []
    assert rungs(SCORES[:3], paused=(0, 1, 2)).promotable(last=False) == [1]


def test_who_went_on_takes_a_place():
    assert rungs(SCORES[:6], passed=(1, 4), paused=(0, 2, 3, 5)).promotable(last=False) == []
    assert rungs(SCORES[:6], passed=(4,), paused=(0, 1, 2, 3, 5)).promotable(last=False) == [1]


def test_the_highest_rung_goes_first_and_there_the_best():
    board = rungs(SCORES, passed=(1, 2, 4), paused=range(9))
    # At rung 2 are 0.85, 0.70 and 0.90: one goes on. At rung 1 the best three are 1.00, 0.90 and 0.85.
    assert board.promotable(last=False) == [4, 8]
    board.let_go(4)
    assert board.promotable(last=False) == [8]


def test_a_trial_that_ran_on_counts_at_the_next_rung_only_after_it_was_let_go():
    board = rungs([0.9, 0.8, 0.7], paused=(0, 1, 2))
    assert board.promotable(last=False) == [0]
    board.let_go(0)
    assert board.standing(0, last=False) == Standing(2, 300, 0.9, 1, 1, 0)


def test_equal_scores_stand_by_number_and_a_broken_one_is_last():
    assert [standing_at_first(rungs([0.5, 0.5, float("nan")]), trial)[0] for trial in range(3)] == [1, 2, 3]
    assert standing_at_first(rungs([float("nan"), 0.0, 0.5]), 0)[0] == 3


def test_what_an_ended_trial_counts_for():
    complete = make_trial(0, reports=line(0.9))
    assert entrant_of(complete, TWO).passed == 2, "it holds its places"
    stopped = dataclasses.replace(complete, state=TrialState.PRUNED)
    assert entrant_of(stopped, TWO) is None, "by an alert: its score says nothing"
    ended = dataclasses.replace(stopped, rung=RungView(1, "paused at rung 2", 9000))
    assert entrant_of(ended, TWO) == Entrant(0, ((3000, 0.09), (9000, 0.27)), 1, False)
    assert entrant_of(dataclasses.replace(ended, state=TrialState.FAILED), TWO) is None
    waits = dataclasses.replace(ended, state=TrialState.WAITING)
    assert entrant_of(waits, TWO).paused


def test_a_replay_of_nine_trials_completes_one():
    trained = replay(Rungs((3000, 9000), (1 / 3, 1 / 3)), {n: (line(end), 30_000) for n, end in enumerate(SCORES)})
    assert trained == {0: 3000, 1: 9000, 2: 3000, 3: 3000, 4: 9000, 5: 3000, 6: 3000, 7: 3000, 8: 30_000}


def test_a_replay_of_two_completes_the_better_one():
    for ends, better in (((0.5, 0.9), 1), ((0.9, 0.5), 0)):
        trained = replay(Rungs((3000, 9000), (1 / 3, 1 / 3)), {n: (line(end), 30_000) for n, end in enumerate(ends)})
        assert trained == {better: 30_000, 1 - better: 3000}
