"""Distances in a search space, as shares of the ranges."""

from __future__ import annotations

from typing import Any

import pytest

from vbot_campaign.spec.ranges import Kind
from vbot_campaign.spec.study import Categorical, Choice, Integer, LogUniform, Uniform
from vbot_campaign.watch.distance import distance, mean_distance, position

UNIFORM = Uniform(type="uniform", low=0.0, high=10.0)
LOG = LogUniform(type="loguniform", low=1e-5, high=1e-3)
NEGATIVE = LogUniform(type="loguniform", low=-100.0, high=-1.0)
WHOLE = Integer(type="int", low=1, high=16, log=True)
NUMBERS = Choice(type="choice", values=(48, 16, 24))
WORDS = Choice(type="choice", values=("none", "linear"))
LAYERS = Categorical(type="categorical", choices=([64, 64], [128, 64]))


@pytest.mark.parametrize(
    ("parameter", "value", "place"),
    [
        (UNIFORM, 2.5, 0.25),
        (UNIFORM, 12.0, 1.2),
        (LOG, 1e-4, 0.5),
        (LOG, -1.0, None),
        (NEGATIVE, -10.0, 0.5),
        (WHOLE, 4, 0.5),
        (NUMBERS, 24, 0.5),
        (NUMBERS, 20, 0.25),
        (NUMBERS, 99, 1.0),
        (WORDS, "linear", None),
        (UNIFORM, True, None),
        (UNIFORM, "x", None),
    ],
)
def test_the_place_of_a_value_in_its_range(parameter: Kind, value: Any, place: float | None) -> None:
    assert position(parameter, value) == (None if place is None else pytest.approx(place))


@pytest.mark.parametrize(
    ("parameter", "one", "other", "away"),
    [
        (LOG, 1e-5, 1e-4, 0.5),
        (UNIFORM, -90.0, 10.0, 1.0),
        (NUMBERS, 16, 48, 1.0),
        (WORDS, "none", "linear", 1.0),
        (LAYERS, [64, 64], [64, 64], 0.0),
        (LAYERS, [64, 64], (128, 64), 1.0),
        (LOG, 0.0, 0.0, 0.0),
    ],
)
def test_the_distance_of_two_values(parameter: Kind, one: Any, other: Any, away: float) -> None:
    assert distance(parameter, one, other) == pytest.approx(away)


def test_the_distance_of_points_is_a_root_mean_square() -> None:
    space: dict[str, Kind] = {"a": UNIFORM, "b": WORDS, "c": UNIFORM, "d": UNIFORM}
    here = {"a": 0.0, "b": "none", "c": 1.0}
    there = {"a": 6.0, "b": "none"}  # c is missing and counts in full, d is in neither
    assert mean_distance(space, here, there) == pytest.approx(((0.36 + 1.0) / 4) ** 0.5)
    assert mean_distance({}, here, there) == 0.0
