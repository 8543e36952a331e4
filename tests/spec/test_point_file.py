"""Points in files of other programs and of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vbot_campaign.errors import SpecError
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.groups import defaults
from vbot_campaign.spec.point_file import ALIASES, Candidate, canonical_name, read_points, read_renames

ENV = "vbot_navigation_section001"
POINT = {
    "hp_config": {"learning_rate": 5.7e-4, "policy_hidden_layer_sizes": [256, 128, 64]},
    "reward_config": {"arrival_bonus": 80.0, "termination_penalty": -75},
    "env_config": {"spawn_outer_radius": 8.0},
}
NAMED = {
    "ppo.learning_rate": 5.7e-4,
    "ppo.policy_hidden_layer_sizes": [256, 128, 64],
    "reward.arrival_bonus": 80.0,
    "reward.termination": -75,
    "env.spawn_outer_radius": 8.0,
}


def points_in(tmp_path: Path, content: Any, name: str = "seeds.json", **options: Any) -> list[Candidate]:
    file = tmp_path / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_points(file, ENV, **options)


def test_one_point_and_a_list_of_points_are_read_under_our_names(tmp_path: Path) -> None:
    [point] = points_in(tmp_path, POINT)
    assert (point.origin, point.values) == ("seeds.json", NAMED)
    first, second = points_in(tmp_path, [POINT, {"hp_config": {"rollouts": 32}}])
    assert first.values == NAMED
    assert (second.origin, second.values) == ("seeds.json[1]", {"ppo.rollouts": 32})


@pytest.mark.parametrize(
    "content",
    [
        {
            "rl_overrides": POINT["hp_config"],
            "reward_scales": POINT["reward_config"],
            "env_overrides": POINT["env_config"],
        },
        {
            "config": {"hyperparameters": POINT["hp_config"], "env_settings": POINT["env_config"]},
            "results": {"reward_scales": POINT["reward_config"], "reward_components": {"gait": {}}},
        },
        {"ppo": POINT["hp_config"], "reward": {"navigation": POINT["reward_config"]}, "env": POINT["env_config"]},
        {"_source": "S4 T7", **POINT["hp_config"], **POINT["reward_config"], **POINT["env_config"]},
        {"sampled": NAMED, "trial": 7},
    ],
    ids=["configs of train_one", "a summary", "a configuration of ours", "flat", "by dotted name"],
)
def test_every_shape_of_the_same_point_is_read(tmp_path: Path, content: dict[str, Any]) -> None:
    [point] = points_in(tmp_path, content)
    assert point.values == NAMED


def test_the_history_of_an_automl_state_is_read_with_its_scores(tmp_path: Path) -> None:
    text = """
automl_id: s10
best_results: {walk: {hp_config: {learning_rate: 1.0e-3}}}
hp_search_history:
- {trial: 0, hp_config: {learning_rate: 1.0e-4}, reward_config: {}, score: 0.3}
- {trial: 1, hp_config: {learning_rate: 4.0e-4}, reward_config: {}, score: 0.5}
"""
    points = points_in(tmp_path, text, "automl_state.yaml")
    assert [(p.values["ppo.learning_rate"], p.score) for p in points] == [(1e-4, 0.3), (4e-4, 0.5)]


def test_names_of_others_become_ours_and_a_users_names_go_first(tmp_path: Path) -> None:
    assert canonical_name("lr", None, ENV) == "ppo.learning_rate"
    assert canonical_name("reward.termination_penalty", None, ENV) == "reward.termination"
    assert canonical_name("gait_symmetry", "reward", ENV) == "reward.gait_symmetry"
    assert canonical_name("max_env_steps", None, ENV) == "max_env_steps"
    renames = read_renames(["goal_reward = reward.arrival_bonus"], ENV)
    [point] = points_in(tmp_path, {"reward_config": {"goal_reward": 60}}, renames=renames)
    assert point.values == {"reward.arrival_bonus": 60}


def test_every_alias_leads_to_a_parameter_and_hides_none() -> None:
    known = defaults(get_environment(ENV))
    for group, names in ALIASES.items():
        assert all(f"{group}.{ours}" in known for ours in names.values())
        assert not any(f"{group}.{theirs}" in known for theirs in names)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("{", "seeds.json", "seeds.json:1: not valid JSON"),
        ("[1, 2]", "seeds.json", "holds no point"),
        ("a: !!python/object:numpy.float64 1", "seeds.yaml", "the tag"),
        (b"\xff\xfe".decode("latin-1"), "seeds.yaml", "holds no point"),
    ],
)
def test_what_holds_no_point_is_refused_with_the_files_name(
    tmp_path: Path, content: str, name: str, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        points_in(tmp_path, content, name)


def test_a_rename_to_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match=r"'ppo.learnin_rate' does not exist. Did you mean 'ppo.learning_rate'"):
        read_renames(["lr=ppo.learnin_rate"], ENV)
    with pytest.raises(SpecError, match="expected OLD=NEW"):
        read_renames(["lr"], ENV)
    with pytest.raises(SpecError, match=r"nowhere.json: no such file"):
        read_points(Path("nowhere.json"), ENV)
