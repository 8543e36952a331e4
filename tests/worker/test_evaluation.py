"""Evaluating checkpoints: fixed episodes, several engines, seeds and ways of acting; tables and JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.workers import run_worker, tiny_trial
from vbot_campaign.cli import app
from vbot_campaign.errors import CheckpointNotFoundError, PhysicsUnavailableError, SpecError
from vbot_campaign.spec.evaluation import Evaluation
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.watch.comparison_table import comparison_json, comparison_markdown, comparison_table
from vbot_campaign.worker.evaluation import evaluate_cases, evaluate_checkpoint, training_for, training_of


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    paths = tiny_trial(tmp_path_factory.mktemp("trained"), env_steps=512 * 3)
    run_worker(paths)
    return paths.best_checkpoint


def invoke(*words: object) -> str:
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_defaults_are_those_of_the_training(checkpoint: Path) -> None:
    training = training_of(checkpoint)
    assert training_for(checkpoint) == training
    done = evaluate_checkpoint(checkpoint, training=training, threads=1)
    assert (done.episodes.finished, done.seeds, done.physics) == (8, (1_000_003,), "mujoco")
    again = evaluate_checkpoint(checkpoint, training=training, threads=2, movement=True)
    assert (again.episodes, again.parts, again.score) == (done.episodes, done.parts, done.score)


def test_seeds_add_their_episodes_up(checkpoint: Path) -> None:
    training = training_of(checkpoint)
    single = [evaluate_checkpoint(checkpoint, training=training, threads=1, seed=seed) for seed in (5, 6)]
    both = evaluate_checkpoint(checkpoint, training=training, threads=1, seed=5, seeds=2)
    assert both.episodes.as_dict() == pytest.approx((single[0].episodes + single[1].episodes).as_dict())
    assert both.seeds == (5, 6)
    assert len(both.success_by_seed) == 2


def test_sampled_actions_are_another_behaviour_but_repeat(checkpoint: Path) -> None:
    training = training_of(checkpoint)
    runs = [
        evaluate_checkpoint(checkpoint, training=training, threads=1, deterministic=deterministic)
        for deterministic in (True, False, False)
    ]
    assert runs[0].episodes != runs[1].episodes
    assert runs[1].episodes == runs[2].episodes


def test_settings_of_the_evaluation_replace_those_of_the_training(checkpoint: Path) -> None:
    training = training_for(checkpoint, physics="motrixsim", spawn="8,11", settings=["env.position_scale=12"])
    assert training.physics == "motrixsim"
    assert training.env == {
        "episode_seconds": 1.0,
        "spawn_inner_radius": 8.0,
        "spawn_outer_radius": 11.0,
        "position_scale": 12,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"physics": "mujocco"}, r"physics: 'mujocco' .* Did you mean 'mujoco'\?"),
        ({"spawn": "8-11"}, r"--spawn 8-11: expected two distances"),
        ({"spawn": "11,8"}, r"env.spawn_inner_radius: 11.0 is larger than env.spawn_outer_radius: 8.0"),
        ({"settings": ["ppo.rollouts=3"]}, r"ppo.rollouts: an evaluation does not train"),
        ({"settings": ["env.position_scal=5"]}, r"position_scal.* Did you mean 'position_scale'\?"),
    ],
)
def test_wrong_options_say_what_is_valid(checkpoint: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        training_for(checkpoint, **options)  # type: ignore[arg-type]


def test_a_missing_engine_is_noticed_before_anything_is_played(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "motrixsim", None)
    cases = [(checkpoint, training_for(checkpoint, physics=name)) for name in ("mujoco", "motrixsim")]
    with pytest.raises(PhysicsUnavailableError, match="pip install"):
        next(evaluate_cases(cases, threads=1))


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"none\.pt"):
        training_for(tmp_path / "none.pt")


def test_a_single_evaluation_prints_the_outcome_table_and_how_it_moved(checkpoint: Path) -> None:
    text = invoke(checkpoint)
    assert "8 episodes, seed 1000003, mean action" in text
    assert "fell after arriving" in text
    assert "at torque limit" in text
    assert max(map(len, text.splitlines()[1:])) <= 80


def test_a_single_evaluation_keeps_its_json(checkpoint: Path) -> None:
    values = json.loads(invoke(checkpoint, "--json"))
    assert values["schema_version"] == 1
    first = [
        "schema_version",
        "checkpoint",
        "env_steps",
        "seed",
        "deterministic",
        "episodes",
        "rates",
        "parts",
        "score",
    ]
    assert list(values)[:9] == first
    assert values["episodes"]["finished"] == 8
    assert values["physics"] == "mujoco"


def test_two_engines_stand_side_by_side_with_their_difference(checkpoint: Path) -> None:
    text = invoke(checkpoint, "--physics", "mujoco,motrixsim", "--episodes", 4, "--sampled")
    assert "A mujoco" in text
    assert "A motrixsim sampled" in text
    assert text.count("transfer") == 2
    assert max(map(len, text.splitlines()[1:])) <= 80
    values = json.loads(invoke(checkpoint, "--physics", "mujoco,motrixsim", "--episodes", 4, "--json"))
    assert [done["physics"] for done in values["evaluations"]] == ["mujoco", "motrixsim"]
    assert (values["transfer"][0]["from"], values["transfer"][0]["to"]) == ("mujoco", "motrixsim")


def done(name: str, physics: str, success: int, *, deterministic: bool = True) -> Evaluation:
    episodes = EpisodeTotals(finished=100, success=success, reached=success, timed_out=100 - success)
    parts = episodes.parts()
    assert parts is not None
    return Evaluation(name, 1000, episodes, parts, 0.5, physics, (7,), deterministic)


def test_transfer_is_the_second_engine_minus_the_first() -> None:
    evaluations = [done("a.pt", "mujoco", 90), done("a.pt", "motrixsim", 84)]
    row = next(line for line in comparison_table(evaluations).splitlines() if line.startswith("success"))
    assert row.split() == ["success", "90.0%", "[", "82.6", "94.5]", "84.0%", "[", "75.6", "89.9]", "-6.0%"]
    assert comparison_json(evaluations)["transfer"][0]["difference"]["success"] == pytest.approx(-0.06)


def test_more_columns_than_fit_go_into_further_tables() -> None:
    evaluations = [done(f"{name}.pt", "mujoco", 50) for name in "abcdefg"]
    text = comparison_table(evaluations)
    assert max(map(len, text.splitlines())) <= 80
    assert [line.split() for line in text.splitlines() if line.endswith("mujoco")] == [
        ["A", "mujoco", "B", "mujoco", "C", "mujoco"],
        ["D", "mujoco", "E", "mujoco", "F", "mujoco"],
        ["G", "mujoco"],
    ]
    assert "transfer" not in text


def test_markdown_is_one_table() -> None:
    lines = comparison_markdown([done("a.pt", "mujoco", 90), done("b.pt", "mujoco", 80)]).splitlines()
    assert "|  | A mujoco | B mujoco |" in lines
    assert "| success | 90.0% [ 82.6 94.5] | 80.0% [ 71.1 86.7] |" in lines
    assert {line.count("|") for line in lines if line.startswith("|")} == {4}
