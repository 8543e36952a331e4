"""Interquartile means and their intervals, by numbers that can be worked out by hand."""

from __future__ import annotations

import pytest

from vbot_campaign.campaign.statistics import Interval, fresh_seeds, iqm, iqm_interval


def test_the_interquartile_mean_leaves_out_whole_quarters():
    assert iqm([0.7]) == pytest.approx(0.7)
    assert iqm([0.1, 0.5, 0.9]) == pytest.approx(0.5), "of three none is left out"
    assert iqm([0.0, 0.4, 0.5, 10.0]) == pytest.approx(0.45), "of four the lowest and the highest"
    assert iqm([9.0, 0.2, 0.4, 0.6, 0.0]) == pytest.approx(0.4)
    assert iqm([0, 0, 1, 2, 3, 4, 50, 50]) == pytest.approx(2.5), "of eight two on either side"


def test_an_interval_of_equal_scores_is_a_point():
    assert iqm_interval([[0.5] * 5]) == Interval(0.5, 0.5, 0.5)
    assert iqm_interval([[0.25]]) == Interval(0.25, 0.25, 0.25)


def test_the_interval_of_three_scores_is_their_range():
    # All three draws are the lowest one in 1 of 27 resamples, which is more than the 2.5 % that are cut off.
    found = iqm_interval([[0.2, 0.5, 0.6]])
    assert (found.low, found.high) == (pytest.approx(0.2), pytest.approx(0.6))


def test_the_interval_is_the_same_every_time_and_narrows_with_more_seeds():
    scores = [0.1, 0.2, 0.3, 0.4, 0.5]
    five = iqm_interval([scores])
    assert five == iqm_interval([scores])
    twenty = iqm_interval([scores * 4])
    assert twenty.iqm == pytest.approx(five.iqm) == pytest.approx(0.3)
    assert five.low < twenty.low < 0.3 < twenty.high < five.high


def test_scores_are_drawn_within_their_stratum():
    # Between the tasks lies a world, within each there is no spread: nothing is left to be uncertain of.
    apart = iqm_interval([[0.0] * 4, [1.0] * 4])
    assert apart == Interval(0.5, 0.5, 0.5)
    mixed = iqm_interval([[0.0] * 4 + [1.0] * 4])
    assert mixed.low < 0.2 < 0.8 < mixed.high


def test_seeds_are_fresh_and_the_first_of_many():
    first = fresh_seeds(42, 3)
    assert fresh_seeds(42, 5)[:3] == first
    assert fresh_seeds(43, 3) != first
    others = fresh_seeds(42, 3, used=[first[1]])
    assert others[:2] == [first[0], first[2]]
    assert len({*first, *others, *fresh_seeds(42, 200)}) == 200
