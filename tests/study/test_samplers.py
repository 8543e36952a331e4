"""Drawing points: repeatable, around constraints, and off a grid."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from tests.support.builders import LEARNING_RATE, study_spec
from vbot_campaign.errors import StudyError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import CampaignStudy, grid, open_storage, samplers, space

SPACE = {
    "ppo": {
        "learning_rate": LEARNING_RATE,
        "learning_epochs": {"type": "int", "low": 2, "high": 10, "prior": 5},
        "policy_hidden_layer_sizes": {"type": "categorical", "choices": [[64, 64], [32]], "prior": [32]},
    },
    "reward": {"termination": {"type": "loguniform", "low": -200, "high": -20, "prior": -100}},
}


def told(drawn, number, score):
    """A finished trial at a drawn point."""
    trial = optuna.trial.create_trial(
        params=drawn.params, distributions=drawn.distributions, system_attrs=drawn.system_attrs, value=score
    )
    trial.number = number
    return trial


def run(spec, count, history=None):
    """Draw and tell ``count`` trials; return the history and the points as people see them."""
    history = list(history or [])
    for number in range(len(history), len(history) + count):
        drawn = samplers.draw(spec, history)
        assert drawn is not None
        values = space.decode(spec, drawn.params)
        history.append(told(drawn, number, -abs(values["ppo.learning_rate"] - 1e-4)))
    return history, [space.decode(spec, trial.params) for trial in history]


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes", "grid"])
def test_a_study_draws_the_same_points_again_also_when_it_is_resumed(name):
    spec = study_spec(search_space=SPACE, sampler={"name": name, "startup_trials": 3, "seed": 7})
    _, straight = run(spec, 10)
    history, _ = run(spec, 4)
    _, resumed = run(spec, 6, history)
    assert resumed == straight
    other = study_spec(search_space=SPACE, sampler={"name": name, "startup_trials": 3, "seed": 8})
    assert run(other, 10)[1][1:] != straight[1:]


def test_gp_draws_and_puts_the_environment_back():
    code = (
        "import os, sys\n"
        "from tests.study.test_samplers import SPACE, run\n"
        "from tests.support.builders import study_spec\n"
        "spec = study_spec(search_space=SPACE, sampler={'name': 'gp', 'startup_trials': 2, 'seed': 7})\n"
        "history, points = run(spec, 3)\n"
        "again = run(spec, 1, history[:2])[1]\n"
        "assert again == points, (again, points)\n"
        "assert 'torch' in sys.modules and os.environ['CUDA_VISIBLE_DEVICES'] == '3'\n"
    )
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "3", "PYTHONPATH": str(Path.cwd())}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=env, timeout=240)


def test_the_priors_are_the_first_trial():
    spec = study_spec(search_space=SPACE)
    _, (first,) = run(spec, 1)
    assert first == {
        "ppo.learning_rate": 3e-4,
        "ppo.learning_epochs": 5,
        "ppo.policy_hidden_layer_sizes": [32],
        "reward.termination": -100.0,
    }


def test_refused_points_are_drawn_again_and_counted():
    spec = study_spec(search_space=SPACE, constraints=[{"skip_if": "ppo.learning_epochs > 4", "reason": "slow"}])
    history = []
    skipped = []
    for number in range(8):
        drawn = samplers.draw(spec, history)
        assert space.decode(spec, drawn.params)["ppo.learning_epochs"] <= 4
        skipped.append(drawn.skipped)
        history.append(told(drawn, number, 0.0))
    assert skipped[0] >= 1, "the prior has 5 epochs"
    assert sum(skipped) > 4, "two thirds of the range are refused"


def test_constraints_that_refuse_everything_are_an_error_and_not_an_endless_loop():
    spec = study_spec(constraints=[{"skip_if": "ppo.learning_rate > 0"}])
    with pytest.raises(StudyError, match="100 points in a row were refused"):
        samplers.draw(spec, [])


def test_a_grid_visits_each_allowed_point_once_and_ends():
    spec = study_spec(
        search_space={
            "ppo": {
                "learning_epochs": {"type": "int", "low": 2, "high": 6, "step": 2, "prior": 4},
                "lr_scheduler_type": {"type": "choice", "values": ["none", "kl_adaptive"], "prior": "none"},
                "learning_rate_scheduler_kl_threshold": {
                    "type": "choice",
                    "values": [0.01, 0.02],
                    "when": "ppo.lr_scheduler_type == 'kl_adaptive'",
                },
            }
        },
        constraints=[{"skip_if": "ppo.learning_epochs > 5 and ppo.lr_scheduler_type == 'none'"}],
        sampler={"name": "grid", "seed": 3},
    )
    history = []
    skipped = 0
    while (drawn := samplers.draw(spec, history)) is not None:
        history.append(told(drawn, len(history), 0.0))
        skipped += drawn.skipped
    points = [space.decode(spec, trial.params) for trial in history]
    assert points[0] == {"ppo.learning_epochs": 4, "ppo.lr_scheduler_type": "none"}
    # 3 epochs x (none + 2 thresholds) = 9, less the one that the constraint refuses
    assert len({str(sorted(point.items())) for point in points}) == len(points) == 8
    assert skipped <= 1


def test_a_grid_that_is_too_large_is_refused():
    terms = ["arrival_bonus", "alive_bonus", "stop_scale", "zero_ang_bonus", "approach_scale", "orientation", "torques"]
    rewards = {name: {"type": "uniform", "low": -1, "high": 1} for name in [*terms, "dof_vel"]}
    spec = study_spec(search_space={"reward": rewards}, sampler={"name": "grid"})
    with pytest.raises(StudyError, match=r"390,625 points, more than 100,000"):
        grid.check_size(spec)


def test_running_trials_are_part_of_the_history():
    spec = study_spec(sampler={"name": "tpe", "startup_trials": 1, "seed": 1})
    history, _ = run(spec, 3)
    running = optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING,
        params=history[-1].params,
        distributions=history[-1].distributions,
    )
    assert running.datetime_start <= datetime.datetime.now()
    drawn = samplers.draw(spec, [*history, running])
    assert drawn.params != history[-1].params


# --- trials that diverged -------------------------------------------------------------------------------------------


def failed(drawn, number, reason):
    """A trial that failed, as the database has it."""
    trial = optuna.trial.create_trial(
        state=optuna.trial.TrialState.FAIL,
        params=drawn.params,
        distributions=drawn.distributions,
        system_attrs=drawn.system_attrs,
        user_attrs={"reason": reason},
    )
    trial.number = number
    return trial


def study_with_failures(reason, seed):
    """Run a study whose score grows with the learning rate until 3e-4, above which every training fails."""
    spec = study_spec(sampler={"name": "tpe", "startup_trials": 6, "seed": seed})
    history, rates = [], []
    for number in range(30):
        drawn = samplers.draw(spec, history)
        rate = space.decode(spec, drawn.params)["ppo.learning_rate"]
        rates.append(rate)
        ended = failed(drawn, number, reason) if rate > 3.0e-4 else told(drawn, number, rate)
        history.append(ended)
    return history, rates


def test_the_sampler_stays_away_from_where_trainings_diverge():
    avoided, ignored = 0, 0
    for seed in range(3):
        avoided += sum(rate > 3.0e-4 for rate in study_with_failures("diverged: loss is nan", seed)[1])
        ignored += sum(rate > 3.0e-4 for rate in study_with_failures("failed: no disk", seed)[1])
    assert avoided < 0.7 * ignored, f"{avoided} of 90 points in the bad region, {ignored} without the constraint"


def test_a_diverged_trial_is_shown_as_infeasible_with_the_worst_score_and_keeps_none():
    spec = study_spec()
    drawn = samplers.draw(spec, [])
    pruned = told(drawn, 2, 0.1)
    pruned.state, pruned.value, pruned.intermediate_values = (
        optuna.trial.TrialState.PRUNED,
        None,
        {1000: 0.4, 2000: 0.2},
    )
    history = [told(drawn, 0, 0.3), failed(drawn, 1, "diverged: loss is nan"), pruned, failed(drawn, 3, "died")]
    shown = samplers.as_shown(history)
    assert [trial.state.name for trial in shown] == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL"]
    assert shown[1].value == 0.2
    assert [list(trial.constraints.values()) for trial in shown] == [[-1.0], [1.0], [-1.0], [-1.0]]
    assert history[1].value is None
    assert history[1].state.name == "FAIL"
    assert all("constraints" not in key for trial in history for key in trial.system_attrs)


def test_a_trial_that_is_paused_at_a_rung_is_shown_as_pruned_there():
    drawn = samplers.draw(study_spec(), [])
    paused, promoted = told(drawn, 0, 0.1), told(drawn, 1, 0.1)
    for trial, rung in (
        (paused, {"passed": 0, "paused": "paused at rung 1", "env_step": 2000}),
        (promoted, {"passed": 1, "paused": None, "env_step": None}),
    ):
        trial.state, trial.datetime_complete, trial.value = optuna.trial.TrialState.RUNNING, None, None
        trial.intermediate_values = {1000: 0.2, 2000: 0.4, 3000: 0.6}
        trial.user_attrs = {"rung": rung}
    shown = samplers.as_shown([paused, promoted])
    assert [trial.state.name for trial in shown] == ["PRUNED", "RUNNING"]
    assert (shown[0].value, shown[0].intermediate_values) == (0.4, {1000: 0.2, 2000: 0.4}), "not how far it ran on"
    assert (paused.state.name, paused.value, len(paused.intermediate_values)) == ("RUNNING", None, 3)
    assert samplers.draw(study_spec(sampler={"name": "tpe", "startup_trials": 1}), [paused, promoted]) is not None


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes", "gp"])
def test_every_sampler_draws_after_trials_that_diverged(name):
    code = (
        "from tests.study.test_samplers import failed, told\n"
        "from tests.support.builders import study_spec\n"
        "from vbot_campaign.study import samplers\n"
        f"spec = study_spec(sampler={{'name': {name!r}, 'startup_trials': 2, 'seed': 7}})\n"
        "history = []\n"
        "for number in range(6):\n"
        "    drawn = samplers.draw(spec, history)\n"
        "    ended = failed(drawn, number, 'diverged: x') if number % 2 else told(drawn, number, 0.1 * number)\n"
        "    history.append(ended)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=env, timeout=120)


def test_the_database_never_gets_a_score_for_a_diverged_trial(tmp_path):
    storage = open_storage(CampaignPaths(tmp_path / "runs"))
    study = CampaignStudy.create(storage, study_spec(sampler={"name": "tpe", "startup_trials": 1, "seed": 1}))
    for number in range(4):
        study.ask()
        if number % 2:
            study.fail(number, "diverged: loss is nan at iteration 7")
        else:
            study.complete(number, 0.5, None, None)
    stored = storage.optuna.get_all_trials(storage.optuna.get_study_id_from_name("toy"))
    assert [samplers.has_diverged(trial) for trial in stored] == [False, True, False, True]
    assert [trial.values for trial in stored] == [[0.5], None, [0.5], None]
    assert all(trial.constraints == {} for trial in stored)
    storage.close()
