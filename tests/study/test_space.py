"""Parameter kinds in Optuna's terms and back."""

from __future__ import annotations

import warnings

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tests.support.builders import study_spec
from vbot_campaign.study import grid, space


def search(**entries):
    return study_spec(search_space={"ppo": entries}, fixed={})


def reward(**entries):
    return study_spec(search_space={"reward": entries})


LAYERS = {"type": "categorical", "choices": [[128, 64], [256, 128, 64]]}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (reward(arrival_bonus={"type": "uniform", "low": 50, "high": 200}), FloatDistribution(50, 200)),
        (
            reward(arrival_bonus={"type": "uniform", "low": 0, "high": 1, "step": 0.3}),
            FloatDistribution(0, 0.9, step=0.3),
        ),
        (
            search(learning_rate={"type": "loguniform", "low": 1e-5, "high": 1e-3}),
            FloatDistribution(1e-5, 1e-3, log=True),
        ),
        (reward(termination={"type": "loguniform", "low": -200, "high": -20}), FloatDistribution(20, 200, log=True)),
        (search(rollouts={"type": "int", "low": 10, "high": 35, "step": 10}), IntDistribution(10, 30, step=10)),
        (search(rollouts={"type": "int", "low": 8, "high": 64, "log": True}), IntDistribution(8, 64, log=True)),
        (search(rollouts={"type": "choice", "values": [16, 24]}), CategoricalDistribution([16, 24])),
        (search(policy_hidden_layer_sizes=LAYERS), CategoricalDistribution(["[128, 64]", "[256, 128, 64]"])),
        # Python takes 1 and true for equal, so Optuna could not tell them apart.
        (search(rollouts={"type": "choice", "values": [1, True]}), CategoricalDistribution(["1", "true"])),
    ],
)
def test_each_kind_has_its_distribution_and_optuna_has_nothing_to_warn_about(spec, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (parameter,) = spec.parameters.values()
        assert space.distribution(parameter) == expected


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        (reward(termination={"type": "loguniform", "low": -200, "high": -20}), {"reward.termination": -150.0}),
        (search(policy_hidden_layer_sizes=LAYERS), {"ppo.policy_hidden_layer_sizes": [256, 128, 64]}),
        (search(rollouts={"type": "choice", "values": [1, True]}), {"ppo.rollouts": True}),
        (search(rollouts={"type": "int", "low": 10, "high": 30}), {"ppo.rollouts": 17}),
    ],
)
def test_decode_undoes_encode(spec, values):
    decoded = space.decode(spec, space.encode(spec, values))
    assert decoded == values
    assert [type(value) for value in decoded.values()] == [type(value) for value in values.values()]


def test_a_negative_loguniform_is_stored_as_a_magnitude_under_a_name_that_says_so():
    spec = reward(termination={"type": "loguniform", "low": -200, "high": -20})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    values = space.suggest(trial, spec)
    assert -200 <= values["reward.termination"] <= -20
    assert trial.params == {"|reward.termination|": -values["reward.termination"]}


def test_a_conditional_parameter_is_drawn_only_where_its_condition_holds():
    spec = search(
        lr_scheduler_type={"type": "choice", "values": ["none", "kl_adaptive"]},
        learning_rate_scheduler_kl_threshold={
            "type": "uniform",
            "low": 0.005,
            "high": 0.02,
            "when": "ppo.lr_scheduler_type == 'kl_adaptive'",
        },
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [space.suggest(study.ask(), spec) for _ in range(20)]
    assert {len(values) for values in drawn} == {1, 2}
    assert all((values["ppo.lr_scheduler_type"] == "kl_adaptive") == (len(values) == 2) for values in drawn)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (reward(arrival_bonus={"type": "uniform", "low": 0, "high": 1}), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (reward(arrival_bonus={"type": "uniform", "low": 0, "high": 0.3, "step": 0.1}), [0.0, 0.1, 0.2, 0.3]),
        (search(rollouts={"type": "int", "low": 10, "high": 35, "step": 10}), [10, 20, 30]),
        (search(rollouts={"type": "int", "low": 1, "high": 16, "log": True}), [1, 2, 4, 8, 16]),
        (reward(termination={"type": "loguniform", "low": -160, "high": -10}), [-160, -80, -40, -20, -10]),
    ],
)
def test_grid_values_of_each_kind(spec, expected):
    (parameter,) = spec.parameters.values()
    assert grid.values(parameter) == pytest.approx(expected)
