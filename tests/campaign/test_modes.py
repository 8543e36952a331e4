"""The modes of ``run``, with the toy worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.builders import LEARNING_RATE, cpu_slots, study_spec
from tests.support.study_text import STUDY
from tests.support.toy_study import options
from vbot_campaign import fs
from vbot_campaign.campaign.confirm import Confirmed, confirm_wanted
from vbot_campaign.campaign.modes import Mode, derive, parse_mode, run_mode
from vbot_campaign.cli import app
from vbot_campaign.errors import CampaignError, SpecError
from vbot_campaign.exporters.registry_evaluation import evaluate_registry
from vbot_campaign.exporters.report.data import ranking
from vbot_campaign.exporters.rows import best_checkpoint
from vbot_campaign.paths import RUNS_VARIABLE, CampaignPaths
from vbot_campaign.spec.resolve import prior_point
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study.snapshot import StudySnapshot, TrialState
from vbot_campaign.study.study import close_readers, load_snapshot, study_names
from vbot_campaign.supervisor import Outcome, request_study_stop
from vbot_campaign.watch.page import render_text
from vbot_campaign.watch.registry_table import registry_page

SPACE = {
    "ppo": {
        "learning_rate": LEARNING_RATE,
        "policy_hidden_layer_sizes": {"type": "categorical", "choices": [[64], [128, 64]], "prior": [128, 64]},
    },
    "reward": {
        "arrival_bonus": {"type": "uniform", "low": 50.0, "high": 200.0, "prior": 120.0},
        "termination": {"type": "choice", "values": [-200, -100], "when": "ppo.learning_rate < 1e-4"},
    },
}


def spec(**overrides: Any) -> StudySpec:
    return study_spec(search_space=SPACE, **overrides)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CampaignPaths]:
    monkeypatch.setenv("TOY_ITERATION_S", "0.001")
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path / "runs"))
    yield CampaignPaths(tmp_path / "runs")
    close_readers()


# --- what a mode searches -------------------------------------------------------------------------------------------


def test_a_mode_searches_its_group_and_fixes_the_rest_at_the_priors() -> None:
    whole = spec()
    ppo = derive(whole, "hp-search")
    assert ppo.study == "toy.hp-search"
    assert list(ppo.parameters) == ["ppo.learning_rate", "ppo.policy_hidden_layer_sizes"]
    assert ppo.fixed["reward"] == {"arrival_bonus": 120.0}, "a weight that does not apply keeps its default"
    assert prior_point(ppo) == {name: value for name, value in prior_point(whole).items() if name.startswith("ppo.")}
    reward = derive(whole, "reward-search")
    assert list(reward.parameters) == ["reward.arrival_bonus", "reward.termination"]
    assert reward.fixed["ppo"] == {
        "rollouts": 10,
        "mini_batches": 4,
        "learning_rate": 3e-4,
        "policy_hidden_layer_sizes": [128, 64],
    }
    assert derive(whole, "stage").search_space == whole.search_space


def test_a_mode_that_has_nothing_to_search_is_refused() -> None:
    with pytest.raises(
        SpecError, match=r"--mode reward-search: the study searches nothing under search_space.reward .only ppo."
    ):
        derive(study_spec(), "reward-search")
    with pytest.raises(SpecError, match=r"--mode hpsearch: no such mode. Did you mean 'hp-search'"):
        parse_mode("hpsearch")
    with pytest.raises(SpecError, match="hp-search"):
        derive(spec(study="x" * 60), "hp-search")


# --- running them ---------------------------------------------------------------------------------------------------


def test_a_search_of_a_mode_is_a_study_of_its_own_that_goes_on(paths: CampaignPaths) -> None:
    first = run_mode(paths, spec(budget={"trials": 1}), "hp-search", **options())
    assert isinstance(first, Outcome)
    assert study_names(paths) == ["toy.hp-search"]
    again = run_mode(paths, spec(budget={"trials": 2}), "hp-search", **options())
    assert isinstance(again, Outcome)
    assert [trial.state for trial in again.snapshot.trials] == [TrialState.COMPLETE] * 2


def test_a_stage_searches_and_then_trains_its_best_trial_on(paths: CampaignPaths) -> None:
    seen: list[str] = []

    def supervise(name: str, start: Callable[..., Outcome]) -> Outcome:
        seen.append(name)
        return start(slots=cpu_slots(1))

    whole = spec(budget={"trials": 3})
    done = run_mode(paths, whole, "stage", full_env_steps=40_000, supervise=supervise, **options())
    assert seen == ["toy.stage", "toy.stage.extend"]
    best = load_snapshot(paths, "toy.stage").best
    [trial] = load_snapshot(paths, "toy.stage.extend").trials
    assert best is not None
    assert (trial.env_steps, trial.state) == (40_000, TrialState.COMPLETE)
    assert trial.parameters == best.parameters
    assert trial.start is not None
    assert (trial.start.study, trial.start.trial, trial.start.env_steps) == ("toy.stage", best.number, 30_000)
    assert isinstance(done, Outcome)
    assert done.snapshot.spec.study == "toy.stage.extend"
    run_mode(paths, whole, "stage", full_env_steps=40_000, supervise=supervise, **options())
    assert len(load_snapshot(paths, "toy.stage.extend").trials) == 1, "it is not trained twice"


def test_a_stage_whose_budget_is_used_in_the_middle_of_trials_goes_on_to_the_training(paths: CampaignPaths) -> None:
    # The second trial is cut off by the env steps; the first one is complete.
    whole = spec(budget={"env_steps": 35_000})
    one_slot = options(slots=cpu_slots(1))
    run_mode(paths, whole, "stage", full_env_steps=40_000, **one_slot)
    search = load_snapshot(paths, "toy.stage")
    assert search.best is not None
    assert [trial.env_steps for trial in load_snapshot(paths, "toy.stage.extend").trials] == [40_000]


def test_a_search_that_was_stopped_is_not_followed_by_a_training(
    paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_PLAN", json.dumps({"*": {"*": "failed"}}))
    outcome = run_mode(paths, spec(), "stage", **options())
    assert outcome.exit_code == 1
    assert study_names(paths) == ["toy.stage"]


def test_a_full_training_that_is_no_longer_than_a_trial_is_refused_before_anything_runs(paths: CampaignPaths) -> None:
    with pytest.raises(SpecError, match="--full-env-steps 30,000: is not more than the trials have already"):
        run_mode(paths, spec(), "stage", full_env_steps=30_000, **options())
    with pytest.raises(SpecError, match="is for --mode stage"):
        run_mode(paths, spec(), "hp-search", full_env_steps=90_000, **options())
    assert not paths.database.exists()


def test_modes_that_run_no_study_take_none(paths: CampaignPaths) -> None:
    with pytest.raises(SpecError, match="--mode full: runs a plan; 'toy' is a study"):
        run_mode(paths, spec(), "full")
    with pytest.raises(SpecError, match="--mode eval: runs no study; 'toy' is a study"):
        run_mode(paths, spec(), "eval")


# --- confirmed before they go on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["hp-search", "reward-search"])
def test_a_search_is_confirmed_where_the_file_asks_for_that(paths: CampaignPaths, mode: Mode) -> None:
    whole = spec(budget={"trials": 2}, confirm={"top": 2, "seeds": 1})
    found = run_mode(paths, whole, mode, **options())
    assert isinstance(found, Confirmed)
    assert (found.study, found.state, found.exit_code) == (f"toy.{mode}", "finished", 0)
    assert found.winner is not None
    assert study_names(paths) == [f"toy.{mode}", f"toy.{mode}.confirm"]
    assert run_mode(paths, whole, mode, **options()) == found, "nothing is trained twice"
    assert len(load_snapshot(paths, f"toy.{mode}.confirm").trials) == 2


def test_a_stage_trains_the_winner_of_its_confirmation_on(
    paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlucky_for_the_best(name: str) -> Confirmed | None:
        monkeypatch.setenv("TOY_PLAN", json.dumps({"0": {"*": "diverged"}}))
        found = confirm_wanted(paths, name, **options())
        monkeypatch.delenv("TOY_PLAN")
        return found

    whole = spec(budget={"trials": 3}, confirm={"top": 2, "seeds": 1})
    run_mode(paths, whole, "stage", full_env_steps=40_000, confirm=unlucky_for_the_best, **options())
    search = load_snapshot(paths, "toy.stage")
    best, second = ranking(search)[:2]
    assert search.confirmed is not None
    assert Confirmed.from_record(search.confirmed).winner == second.number
    [trial] = load_snapshot(paths, "toy.stage.extend").trials
    assert trial.start is not None
    assert trial.start.trial == second.number != best.number


def test_a_stage_whose_confirmation_was_stopped_trains_nothing_yet(
    paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopper:
        def update(self, snapshot: StudySnapshot) -> None:
            if snapshot.spec.study == "toy.stage.confirm" and snapshot.supervisor is not None:
                monkeypatch.setenv("TOY_ITERATION_S", "0.001")
                request_study_stop(paths, "toy.stage.confirm")

    monkeypatch.setenv("TOY_ITERATION_S", "0.15")
    whole = spec(budget={"trials": 1}, confirm={"top": 1, "seeds": 3})
    one_slot = options(slots=cpu_slots(1))
    stopped = run_mode(paths, whole, "stage", full_env_steps=40_000, **{**one_slot, "observers": (Stopper(),)})
    assert isinstance(stopped, Confirmed)
    assert (stopped.state, stopped.winner, stopped.exit_code) == ("stopped", None, 0)
    assert study_names(paths) == ["toy.stage", "toy.stage.confirm"]
    done = run_mode(paths, whole, "stage", full_env_steps=40_000, **one_slot)
    assert isinstance(done, Outcome)
    assert [trial.env_steps for trial in done.snapshot.trials] == [40_000]


def test_a_name_that_gets_too_long_on_the_way_is_refused_before_anything_runs(paths: CampaignPaths) -> None:
    long = spec(study="x" * 54, confirm={"top": 1, "seeds": 1})
    for mode, phase in (("stage", "extend"), ("hp-search", "confirm")):
        with pytest.raises(SpecError, match=f"It is what `(confirm|{phase})` calls the study"):
            run_mode(paths, long, mode, **options())
    assert not paths.database.exists()


# --- the best policies of all studies -------------------------------------------------------------------------------


def seen(success: float, fell: float) -> dict[str, Any]:
    """Return what is kept of a policy that was played."""
    rates = {"success": success, "fell_before": fell, "fell_after": 0.0, "timed_out": 0.0}
    return {"rates": rates, "parts": {"time_to_goal": 6.25}, "kept_as": 1}


def test_the_best_policies_of_all_studies_are_shown_with_what_they_did(paths: CampaignPaths) -> None:
    for name, quality in (("toy", 0.75), ("other", 0.5)):
        run_mode(paths, spec(study=name, budget={"trials": 1}), "hp-search", **options())
        study = f"{name}.hp-search"
        [best] = ranking(load_snapshot(paths, study))
        checkpoint = best_checkpoint(best)
        assert checkpoint is not None
        for engine in ("mujoco", "motrixsim"):
            fs.write_json(paths.study(study).policy_evaluation(checkpoint.sha256, engine), seen(quality, 0.125))
    said: list[str] = []
    text = render_text(registry_page(evaluate_registry(paths, None, said.append)))
    lines = [line.split() for line in text.splitlines() if "mujoco" in line]
    assert lines == [
        ["toy.hp-search", "0", "1.000", "mujoco", "75.0%", "12.5%", "0.0%", "6.25"],
        ["other.hp-search", "0", "1.000", "mujoco", "50.0%", "12.5%", "0.0%", "6.25"],
    ]
    assert max(map(len, text.splitlines())) <= 80
    assert not any("playing" in line for line in said), "they were played before"
    with pytest.raises(CampaignError, match="study 'toy': not found"):
        evaluate_registry(paths, "toy", said.append)


# --- the command line -----------------------------------------------------------------------------------------------


def error_of(*words: str | Path) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(done.exception, CampaignError), done.output
    return str(done.exception)


def test_options_that_do_not_go_together_are_refused_in_one_line(paths: CampaignPaths, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    plan = tmp_path / "plan.yaml"
    plan.write_text("plan: p\n")
    for words, message in (
        (["--mode", "full"], "name a file"),
        ([file, "--mode", "full"], "is a study, not a plan"),
        ([plan, "--mode", "stage"], "is a plan, not a study"),
        ([file, "--full-env-steps", "9M"], "is for --mode stage"),
        ([file, "--mode", "hp-search", "--full-env-steps", "9M"], "is for --mode stage"),
        ([file, "--trials", "+4"], "vbot-campaign resume NAME --trials +4"),
        ([file, "--hp-trials", "none"], "--trials none: expected a positive whole number"),
        ([file, "--budget-hours", "0"], "--budget-hours 0: expected a positive number of hours"),
        (["--mode", "eval", "--budget-hours", "2"], "trains nothing; leave --budget-hours out"),
        (["--mode", "eval"], "has no trial with a score yet"),
        (["nowhere.yaml", "--mode", "stage"], "nowhere.yaml: no such file"),
    ):
        text = error_of("run", *words)
        assert message in text
        assert "\n" not in text
    assert not paths.study("walk").root.exists()


@pytest.mark.slow
def test_a_mode_is_one_line_on_the_command_line(paths: CampaignPaths, tmp_path: Path) -> None:
    from tests.support.campaign import Campaign

    campaign = Campaign(tmp_path)
    file = campaign.write()
    campaign.call("run", file, "--no-audit", "--mode", "reward-search", "--hp-trials", "1", "--budget-hours", "1")
    made = load_snapshot(paths, "tiny.reward-search")
    assert [trial.state for trial in made.trials] == [TrialState.COMPLETE]
    assert list(made.trials[0].parameters) == ["reward.forward_velocity"]
    assert (made.spec.budget.trials, made.spec.budget.hours) == (1, 1.0)
    close_readers()
    played = campaign.call("run", "--mode", "eval")
    assert "tiny.reward-search: trial 0: playing its best policy in mujoco ..." in played
    row = next(line.split() for line in played.splitlines() if line.startswith("  tiny.reward-search"))
    assert row[3] == "mujoco"
    assert len([cell for cell in row if cell.endswith("%")]) == 3, "success, fell, ran out of time"
    assert "playing" not in campaign.call("run", "--mode", "eval"), "what was played is kept"
