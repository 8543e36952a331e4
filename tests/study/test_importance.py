"""Which parameters decide the score."""

from __future__ import annotations

import importlib.util
import random

import pytest

from tests.support.snapshots import make_pruned, make_snapshot, make_spec, make_trial
from vbot_campaign.errors import SpecError, StudyError
from vbot_campaign.study.importance import MAX_FANOVA, fixable, importances_by, parameter_importances
from vbot_campaign.study.snapshot import TrialView

SPACE = {
    "ppo": {"learning_rate": {"type": "loguniform", "low": 1e-5, "high": 1e-3}},
    "reward": {
        "arrival_bonus": {"type": "uniform", "low": 50.0, "high": 200.0},
        "termination": {"type": "loguniform", "low": -200.0, "high": -20.0},
    },
    "env": {"spawn_outer_radius": {"type": "choice", "values": [3.0, 4.0]}},
}


def trials(count: int) -> tuple[TrialView, ...]:
    """Return trials whose score is decided by the termination penalty alone."""
    chance = random.Random(0)
    made = []
    for number in range(count):
        termination = -chance.uniform(20, 200)
        parameters = {
            "ppo.learning_rate": 10 ** chance.uniform(-5, -3),
            "reward.arrival_bonus": chance.uniform(50, 200),
            "reward.termination": termination,
            **({"env.spawn_outer_radius": chance.choice([3.0, 4.0])} if number % 2 else {}),
        }
        made.append(make_trial(number, parameters=parameters, score=1 + termination / 200))
    return tuple(made)


def test_the_parameter_that_decides_comes_first() -> None:
    spec = make_spec(search_space=SPACE, fixed={})
    found = parameter_importances(make_snapshot(spec=spec, trials=trials(60)))
    shares = found["PED-ANOVA"]
    assert next(iter(shares)) == "reward.termination"  # under its real name, not the one it is stored by
    assert shares["reward.termination"] > 0.5
    assert sum(shares.values()) == pytest.approx(1.0)
    assert "env.spawn_outer_radius" in shares  # half of the trials have it
    assert list(found) == ["PED-ANOVA", "fANOVA"]


def test_nothing_is_said_of_few_or_equal_or_pruned_trials() -> None:
    spec = make_spec(search_space=SPACE, fixed={})
    few = trials(3)
    equal = tuple(make_trial(n, parameters=t.parameters, score=0.5) for n, t in enumerate(trials(20)))
    pruned = tuple(make_pruned(n, parameters=t.parameters, score=n / 20) for n, t in enumerate(trials(20)))
    for shown in (few, equal, pruned):
        assert parameter_importances(make_snapshot(spec=spec, trials=shown)) == {}


def test_parameters_that_decide_next_to_nothing_may_be_fixed() -> None:
    assert fixable({"a": 0.7, "b": 0.2, "c": 0.06, "d": 0.04}) == ["d", "c"]
    assert fixable({"a": 0.6, "b": 0.22, "c": 0.09, "d": 0.09}) == ["c"]  # c and d together decide too much
    assert fixable({"a": 0.52, "b": 0.48}) == []
    assert fixable({"a": 0.995, "b": 0.005}) == ["b"]


def test_a_method_that_cannot_be_used_is_said_with_what_to_do() -> None:
    snapshot = make_snapshot(spec=make_spec(search_space=SPACE, fixed={}), trials=trials(20))
    assert importances_by(snapshot, "pedanova") == parameter_importances(snapshot)["PED-ANOVA"]
    with pytest.raises(SpecError, match=r"no such method. Valid: pedanova, fanova"):
        importances_by(snapshot, "anova")
    with pytest.raises(StudyError, match="study 'walk': 3 complete trials say nothing"):
        importances_by(make_snapshot(spec=snapshot.spec, trials=trials(3)), "pedanova")


def test_fanova_says_what_explains_the_variance_and_the_same_every_time() -> None:
    snapshot = make_snapshot(spec=make_spec(search_space=SPACE, fixed={}), trials=trials(60))
    shares = importances_by(snapshot, "fanova")
    assert next(iter(shares)) == "reward.termination"
    assert shares["reward.termination"] > 0.8, "it alone decides the score"
    assert sum(shares.values()) == pytest.approx(1.0)
    assert importances_by(snapshot, "fanova") == shares == parameter_importances(snapshot)["fANOVA"]


def test_fanova_refuses_more_trials_than_it_takes() -> None:
    snapshot = make_snapshot(spec=make_spec(search_space=SPACE, fixed={}), trials=trials(MAX_FANOVA + 1))
    assert list(parameter_importances(snapshot)) == ["PED-ANOVA"]
    with pytest.raises(StudyError, match="fANOVA takes 500 complete trials at most, it has 501"):
        importances_by(snapshot, "fanova")


def test_without_its_package_fanova_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "sklearn" else found(name, *rest)
    )
    snapshot = make_snapshot(spec=make_spec(search_space=SPACE, fixed={}), trials=trials(20))
    assert list(parameter_importances(snapshot)) == ["PED-ANOVA"]
    with pytest.raises(
        SpecError, match=r"needs scikit-learn, .* pip install 'vbot-campaign\[fanova\]', or use pedanova"
    ):
        importances_by(snapshot, "fanova")
