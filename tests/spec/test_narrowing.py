"""Ranges around a point, and studies as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from tests.support.snapshots import make_spec
from vbot_campaign.spec.loading import load_study, study_from_text
from vbot_campaign.spec.narrowing import narrowed, narrowed_space, space_text, study_text, without_defaults
from vbot_campaign.spec.ranges import Kind
from vbot_campaign.spec.resolve import with_defaults
from vbot_campaign.spec.study import AnyParameter

STUDIES = Path(__file__).parents[2] / "studies"


def parameter(**values: Any) -> Kind:
    made: Kind = TypeAdapter(AnyParameter).validate_python(values)
    return made


def ends(found: Kind) -> tuple[Any, Any, Any]:
    return found.low, found.high, found.prior  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("value", "width", "expected"),
    [
        (100.0, 0.5, (75.0, 125.0, 100.0)),
        (60.0, 0.5, (50.0, 85.0, 60.0)),  # cut off where the old range ends
        (150.0, 1.0, (100.0, 150.0, 150.0)),
        (100.0, 0.1, (95.0, 105.0, 100.0)),
    ],
)
def test_a_uniform_range_keeps_its_share_on_both_sides(
    value: float, width: float, expected: tuple[float, float, float]
) -> None:
    assert ends(narrowed(parameter(type="uniform", low=50, high=150), value, width)) == expected


def test_a_logarithmic_range_is_narrowed_in_its_logarithm() -> None:
    rate = parameter(type="loguniform", low=1e-5, high=1e-3)  # two decades
    assert ends(narrowed(rate, 1e-4, 0.5)) == (pytest.approx(3.162e-5), pytest.approx(3.162e-4), 1e-4)
    penalty = parameter(type="loguniform", low=-400.0, high=-25.0)  # four doublings
    assert ends(narrowed(penalty, -100.0, 0.5)) == (-200.0, -50.0, -100.0)
    assert ends(narrowed(penalty, -300.0, 0.5)) == (-400.0, -150.0, -300.0)


def test_whole_numbers_and_steps_stay_on_their_grid_and_keep_a_neighbour() -> None:
    rollouts = parameter(type="int", low=16, high=64, step=8)
    assert ends(narrowed(rollouts, 32, 0.5)) == (24, 40, 32)
    assert ends(narrowed(rollouts, 16, 0.01)) == (16, 24, 16)
    assert ends(narrowed(rollouts, 64, 0.01)) == (56, 64, 64)
    epochs = parameter(type="int", low=1, high=16, log=True)
    assert ends(narrowed(epochs, 4, 0.5)) == (2, 8, 4)
    stepped = parameter(type="uniform", low=0.0, high=1.0, step=0.1)
    assert ends(narrowed(stepped, 0.5, 0.5)) == (pytest.approx(0.3), pytest.approx(0.7), 0.5)


def test_a_list_keeps_the_value_and_its_neighbours_by_size() -> None:
    shuffled = parameter(type="choice", values=[64, 16, 32, 48, 8])
    near = narrowed(shuffled, 32, 0.5)
    assert (near.values, near.prior) == ((16, 32, 48), 32)  # type: ignore[union-attr]
    assert narrowed(shuffled, 8, 0.9).values == (16, 32, 8)  # type: ignore[union-attr]
    sizes = parameter(type="categorical", choices=[[64], [128, 64], [256, 128], [512, 256]])
    assert narrowed(sizes, [64], 0.5).choices == ([64], [128, 64])  # type: ignore[union-attr]


def test_a_range_ends_outside_of_the_old_one_only_where_that_is_allowed_and_keeps_its_sign() -> None:
    bonus = parameter(type="uniform", low=10.0, high=50.0)
    assert ends(narrowed(bonus, 60.0, 0.5, allow_outside=True)) == (50.0, 70.0, 60.0)
    assert ends(narrowed(bonus, 5.0, 0.5, allow_outside=True)) == (0.0, 15.0, 5.0)
    penalty = parameter(type="uniform", low=-4.0, high=-0.5)
    assert ends(narrowed(penalty, -0.5, 1.0, allow_outside=True)) == (-2.25, 0.0, -0.5)


def test_a_conditional_parameter_that_did_not_apply_stays_as_it_is() -> None:
    spec = make_spec()
    narrow = narrowed_space(spec, {"ppo.learning_rate": 1e-4}, 0.5, allow_outside=False)
    assert narrow.search_space["reward"] == spec.search_space["reward"]
    assert ends(narrow.parameters["ppo.learning_rate"])[2] == 1e-4


@pytest.mark.parametrize("name", ["quickstart.yaml", "section001.yaml", "section001_far.yaml"])
def test_a_study_that_was_written_as_text_is_read_as_the_same_study(name: str) -> None:
    spec = load_study(STUDIES / name)
    text = study_text(spec)
    assert study_from_text(text) == spec
    stored = without_defaults(with_defaults(spec))
    assert with_defaults(study_from_text(study_text(stored))) == with_defaults(spec), "a stored one is no longer"
    assert len(study_text(stored)) <= len(text)
    assert max(map(len, text.splitlines())) < 120


def test_a_search_space_that_was_written_as_text_is_a_search_space_file() -> None:
    text = space_text(make_spec())
    assert text.startswith("environment: vbot_navigation_section001\nsearch_space:\n  ppo:\n    learning_rate: {type: ")
