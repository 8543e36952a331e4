"""Study files, definitions, command-line assignments and trial.json that are right."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support.study_text import STUDY, study_text, write_study
from vbot_campaign import fs
from vbot_campaign.errors import SpecError
from vbot_campaign.spec.counts import parse_count
from vbot_campaign.spec.document import read_document
from vbot_campaign.spec.kinds import get_kind, kind_of
from vbot_campaign.spec.loading import (
    build_training,
    definition,
    load_study,
    parse_assignment,
    read_trial_spec,
    study_from_definition,
    study_from_text,
)
from vbot_campaign.spec.resolve import prior_point, resolve_training
from vbot_campaign.spec.training import TrialSpec

FILES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))
STUDIES = [file for file in FILES if kind_of(read_document(file).value) is get_kind("study")]
ENVIRONMENT = "vbot_navigation_section001"


def test_a_study_has_what_its_file_says(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path))
    assert study.env_steps_per_trial == 2_000_000
    assert list(study.parameters) == [
        "ppo.learning_rate",
        "ppo.rollouts",
        "ppo.policy_hidden_layer_sizes",
        "reward.arrival_bonus",
        "reward.near_target_speed",
    ]
    assert study.parameters["ppo.learning_rate"].prior == 3e-4
    assert study.alerts.gpu_memory_percent == 90.0
    assert study.objective.terms()["goal_progress"].weight == 0.4


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_the_studies_that_come_along_are_valid(file: Path) -> None:
    study = load_study(file)
    assert study.study == file.stem
    first = resolve_training(study, prior_point(study))
    assert first.checkpoints.every_iterations < first.iterations / 4, "a crash would cost most of a trial"
    assert "episode_reward_mean" not in study.objective.root


@pytest.mark.parametrize(
    "text",
    [
        STUDY,
        *(file.read_text(encoding="utf-8") for file in STUDIES),
        study_text(
            ("{type: choice, values: [16, 24, 32], prior: 24}", "{type: choice, values: [24, 16], when: 'true'}")
        ),
    ],
)
def test_a_definition_gives_the_same_study_back(text: str) -> None:
    study = study_from_text(text)
    stored = json.loads(json.dumps(definition(study)))
    again = study_from_definition(stored)
    assert again == study
    assert list(again.parameters) == list(study.parameters)
    assert definition(again) == stored


def test_a_definition_of_another_shape_is_refused() -> None:
    stored = {**definition(study_from_text(STUDY)), "budget": {"trials": "many"}, "colour": "red"}
    with pytest.raises(SpecError) as caught:
        study_from_definition(stored)
    assert str(caught.value).splitlines()[0].startswith("stored definition: budget.trials: 'many' is not valid")
    assert "stored definition: colour: unknown key" in str(caught.value)


def test_a_definition_stays_readable_when_a_term_is_gone() -> None:
    stored = definition(study_from_text(STUDY))
    stored["search_space"]["reward"]["term_of_an_old_version"] = stored["search_space"]["reward"].pop("arrival_bonus")
    assert "reward.term_of_an_old_version" in study_from_definition(stored).parameters


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E3", 1000),
        ("15e6", 15_000_000),
        ("1.5e7", 15_000_000),
        ("2_000_000", 2_000_000),
        ("010", 10),
        ("-.5", -0.5),
        ("+1.5e-3", 1.5e-3),
        ("1.0", 1.0),
        ("true", True),
        ("yes", "yes"),
        ("'1e-3'", "1e-3"),
        ("2026-01-01", "2026-01-01"),
        ("12:30", "12:30"),
        ("[256, 128]", [256, 128]),
        ("none", "none"),
        ("null", None),
    ],
)
def test_values_are_read_as_people_mean_them(text: str, value: object) -> None:
    group, name, read = parse_assignment(f"ppo.x={text}")
    assert (group, name) == ("ppo", "x")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("16_000_000", 16_000_000),
        ("16M", 16_000_000),
        ("600k", 600_000),
        ("1.5e7", 15_000_000),
        ("0.6m", 600_000),
        ("1.005k", 1005),
    ],
)
def test_counts_are_read_as_people_write_them(text: str, count: int) -> None:
    assert parse_count("--env-steps", text) == count


@pytest.mark.parametrize("text", ["", "M", "0", "-5", "1.5", "many", "16x", "inf", "nan", "1e99", "1e999999999"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(
        SpecError, match=r"^--env-steps .*: expected a positive whole number, such as 16_000_000 or 16M\.$"
    ):
        parse_count("--env-steps", text)


def test_settings_of_the_command_line_override_defaults_and_the_last_one_counts() -> None:
    training = build_training(
        ENVIRONMENT,
        1_000_000,
        ["ppo.learning_rate=3e-4", "reward.torques = 0", "env.spawn_outer_radius=4", "ppo.learning_rate=1e-4"],
        num_envs=256,
        seed=None,
    )
    assert training.ppo.learning_rate == 1e-4
    assert training.reward == {"torques": 0.0}
    assert training.env == {"spawn_outer_radius": 4}
    assert training.num_envs == 256
    assert training.seed == 42


@pytest.mark.parametrize(
    ("settings", "options", "words"),
    [
        (["ppo.learning_rate=5"], {}, "ppo.learning_rate: 5 is not valid; expected a number above 0 and of at most 1."),
        (["ppo.lr=1"], {}, "ppo.lr: unknown key."),
        (["ppo.learning_rate"], {}, "'ppo.learning_rate': expected GROUP.NAME=VALUE"),
        (["ppo.rollouts="], {}, "'ppo.rollouts=': expected GROUP.NAME=VALUE"),
        (["learning_rate=1"], {}, "learning_rate: expected a name under ppo, reward, env"),
        (["pop.rollouts=1"], {}, "Did you mean 'ppo'?"),
        (["ppo.policy_hidden_layer_sizes=[256"], {}, "ppo.policy_hidden_layer_sizes: not valid YAML: expected ','"),
        (["reward.arival_bonus=1"], {}, "reward.arival_bonus: no such reward term. Did you mean 'arrival_bonus'?"),
        (["reward.torques=low"], {}, "reward.torques: 'low' is not valid; expected a number."),
        (["env.spawn_inner_radius=9"], {}, "env.spawn_inner_radius: 9.0 is larger than env.spawn_outer_radius: 5.0"),
        (["ppo.mini_batches=7"], {}, "the nearest that do: 6 and 8."),
        ([], {"env_steps": 1000}, "env_steps: 1000 is less than one iteration (num_envs 1024 x rollouts 24 = 24576"),
        ([], {"environment": "vbot_navigation"}, "Did you mean 'vbot_navigation_section001'?"),
        ([], {"num_envs": 0}, "num_envs: 0 is not valid; expected a whole number of at least 1."),
        ([], {"num_env": 1}, "num_env: unknown key. Did you mean 'num_envs'?"),
    ],
)
def test_mistakes_on_the_command_line(settings: list[str], options: dict[str, object], words: str) -> None:
    arguments = {"environment": ENVIRONMENT, "env_steps": 1_000_000, **options}
    with pytest.raises(SpecError) as caught:
        build_training(settings=settings, **arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trial_file_is_read_back(tmp_path: Path) -> None:
    study = study_from_text(STUDY)
    point = prior_point(study)
    trial = TrialSpec(study="tiny", trial=3, token="t", training=resolve_training(study, point), parameters=point)
    fs.write_json(tmp_path / "trial.json", trial.model_dump(mode="json"))
    assert read_trial_spec(tmp_path / "trial.json") == trial


def test_trial_files_that_cannot_be_trained(tmp_path: Path) -> None:
    path = tmp_path / "trial.json"
    with pytest.raises(SpecError, match="no such file; a worker runs on a folder that holds one"):
        read_trial_spec(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(SpecError, match="cannot be read as JSON"):
        read_trial_spec(path)
    fs.write_json(path, {"training": {"env_steps": 0}, "speed": 1})
    with pytest.raises(SpecError) as caught:
        read_trial_spec(path)
    assert f"{path}: training.env_steps: 0 is not valid" in str(caught.value)
    assert f"{path}: speed: unknown key." in str(caught.value)
    fs.write_json(path, {"training": {"env_steps": 10**6, "env": {"spawn_radius": 1}, "objective": {"luck": 1}}})
    with pytest.raises(SpecError) as caught:
        read_trial_spec(path)
    assert "training.env.spawn_radius: no such environment setting" in str(caught.value)
    assert "training.objective.luck: no such score part" in str(caught.value)


def test_reading_a_study_loads_neither_torch_nor_optuna() -> None:
    import subprocess

    code = (
        "import sys, vbot_campaign.spec.loading, vbot_campaign.spec.describe, vbot_campaign.spec.schema;"
        "sys.exit(bool({'torch', 'optuna', 'mujoco', 'sqlalchemy', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
