"""Who leaves the race, and when: a matter of the scores alone."""

from __future__ import annotations

import pytest

from vbot_campaign.campaign.confirm import LEAST_SEEDS, race

GOOD = [0.80, 0.82, 0.81, 0.83, 0.80]
BAD = [0.50, 0.55, 0.52, 0.51, 0.53]
WIDE = [0.20, 0.95, 0.60, 0.90, 0.30]


def test_a_candidate_leaves_once_its_interval_ends_below_the_beginning_of_the_best():
    (drop,) = race([GOOD, BAD, WIDE])
    assert (drop.candidate, drop.seeds, drop.best) == (1, LEAST_SEEDS, 0)
    assert (drop.interval.high, drop.best_interval.low) == (pytest.approx(0.55), pytest.approx(0.80))
    assert drop.words([7, 4, 9]) == (
        "after 3 seeds its IQM is 0.5233 [0.5000, 0.5500], below 0.8100 [0.8000, 0.8200] of trial 7"
    )


def test_nobody_leaves_for_two_seeds_or_while_a_score_is_missing():
    assert race([GOOD[:2], BAD[:2]]) == []
    assert race([[0.8, 0.8, None], [0.1, 0.1, 0.1]]) == []
    assert race([[0.8, 0.8, 0.8], [0.1, 0.1, None]]) == []
    assert race([]) == []


def test_the_race_goes_on_without_those_that_left():
    drops = race([GOOD, [*BAD[:3], None, None], [0.81, 0.79, 0.80, 0.10, 0.10]])
    assert [drop.candidate for drop in drops] == [1], "the missing scores of the one that left do not hold it up"
    fourth = race([[0.80, 0.80, 0.80, 0.80], [0.79, 0.80, 0.81, 0.10], [0.3, 0.3, 0.3, None]])
    assert [(drop.candidate, drop.seeds) for drop in fourth] == [(2, 3)]


def test_what_came_later_changes_no_earlier_decision():
    # As when two workers run side by side and one is ahead.
    ahead = race([GOOD, [0.50, 0.55, 0.52, 0.99, 0.99]])
    assert [(drop.candidate, drop.seeds) for drop in ahead] == [(1, 3)]
