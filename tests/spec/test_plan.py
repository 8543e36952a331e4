"""Plans: what their stages train and search, and the mistakes that are refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.files import PLAN, edited, write_files
from vbot_campaign.errors import SpecError
from vbot_campaign.spec.loading import load_plan
from vbot_campaign.spec.plan import PlanSpec
from vbot_campaign.spec.resolve import prior_point, resolve_training
from vbot_campaign.spec.stages import env_steps, stage_study, stage_training


def load(folder: Path, *edits: tuple[str, str]) -> PlanSpec:
    write_files(folder, plan=edited(PLAN, *edits))
    return load_plan(folder / "plan.yaml")


# --- what stages train and search -----------------------------------------------------------------------------------


def test_a_stage_trains_the_plans_settings_and_its_own(tmp_path: Path) -> None:
    plan = load(tmp_path)
    near, far = (stage_training(plan, stage)[0] for stage in plan.stages)
    assert near is not None
    assert far is not None
    assert (near.env_steps, near.num_envs, near.ppo.rollouts) == (1_000_000, 256, 16)
    assert near.reward == {"arrival_bonus": 120, "stop_scale": 6, "termination": -80}
    assert far.reward == {"arrival_bonus": 120, "stop_scale": 6, "termination": -200}
    assert (near.env, far.env) == (
        {"spawn_outer_radius": 4.0},
        {"spawn_inner_radius": 5.0, "spawn_outer_radius": 8.0},
    )


def test_a_stage_searches_a_study_of_its_own(tmp_path: Path) -> None:
    plan = load(tmp_path, ("preset: rewards", "preset: one"))
    study = stage_study(plan, plan.stages[0])
    assert study is not None
    assert (study.study, study.budget.trials, study.env_steps_per_trial) == ("two.near.search", 4, 200_000)
    assert list(study.parameters) == ["ppo.learning_rate"]
    # The plan's settings go before what the search space fixes: rollouts and the reward file's weights.
    assert study.fixed["reward"] == {"arrival_bonus": 120, "stop_scale": 6, "termination": -80}
    assert study.fixed["ppo"] == {"rollouts": 16, "entropy_loss_scale": 0.003}
    assert resolve_training(study, prior_point(study)).env == {"spawn_outer_radius": 4.0}
    assert stage_study(plan, plan.stages[1]) is None


def test_a_search_begins_at_the_plans_values(tmp_path: Path) -> None:
    plan = load(tmp_path, ("{file: rewards.yaml}", "{file: rewards.yaml, preset: far}"))
    study = stage_study(plan, plan.stages[0])
    assert study is not None
    assert prior_point(study) == {"reward.arrival_bonus": 120, "reward.termination": -200}


def test_env_steps_of_a_stage(tmp_path: Path) -> None:
    plan = load(
        tmp_path, ("    train: {env_steps: 1", "    confirm: {top: 2, seeds: 3}\n    train: {top: 2, env_steps: 1")
    )
    assert env_steps(plan, plan.stages[0]) == 4 * 200_000 + 2 * 3 * 200_000 + 2 * 1_000_000
    assert env_steps(plan, plan.stages[1]) == 2_000_000


def test_a_warm_start_from_a_file_lies_relative_to_the_plan(tmp_path: Path) -> None:
    (tmp_path / "policy.pt").write_bytes(b"x")
    plan = load(tmp_path, ("{stage: near}", "{file: policy.pt, load: [policy], freeze: [policy]}"))
    assert plan.stages[1].warm_start is not None


# --- mistakes -------------------------------------------------------------------------------------------------------

GATE = "gate: {metric: success_rate, threshold: 0.9, patience: 2}"
FROM = "warm_start: {stage: near}"
TRAIN = "train: {env_steps: 1_000_000}"
SEARCH = PLAN[PLAN.index("    search:") : PLAN.index("    train:")]
CIRCLE = (TRAIN, f"{TRAIN}\n    warm_start: {{stage: far}}")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        # Stages
        (
            (FROM, "warm_start: {stage: naer}"),
            r"plan.yaml:18: stages\[1\].warm_start.stage: no stage 'naer'. Did you mean 'near'",
        ),
        ((FROM, "warm_start: {stage: far}"), "goes round in a circle: far <- far"),
        (CIRCLE, "plan.yaml:14: .*goes round in a circle: near <- far <- near"),
        ((FROM, "warm_start: {}"), "plan.yaml:18: .*needs either stage .* or file"),
        ((FROM, "warm_start: {file: lost.pt}"), "plan.yaml:18: .*warm_start.file: no policy .*lost.pt"),
        ((FROM, "warm_start: {file: space.yml}"), "Did you mean 'space.yaml'"),
        ((FROM, "warm_start: {stage: near, take: bset}"), "take: 'bset' is not valid; expected one of best, last. Did"),
        ((FROM, "warm_start: {stage: near, load: [value]}"), "load: must have policy"),
        ((FROM, "warm_start: {stage: near, load: [policy, optimizer]}"), "load: optimizer is that of policy and value"),
        ((FROM, "warm_start: {stage: near, load: [policy], freeze: [value]}"), r"freeze\[0\]: value is not loaded"),
        ((FROM, "warm_start: {stage: near, freeze: [policy, value]}"), "nothing would be trained"),
        (
            (FROM, "ppo: {policy_hidden_layer_sizes: [64, 32]}\n    " + FROM),
            r"plan.yaml:18: .*\[64, 32\] differs from the \[256",
        ),
        (("stage: far", "stage: near"), "plan.yaml:15: .*'near' is the name of an earlier stage too"),
        (("plan: two", "plan: vbot_navigation_section001"), "plan.yaml:1: plan: .*is the name of an environment"),
        (("plan: two", "plan: " + "x" * 45), "too long for a study"),
        # Gates
        (
            (GATE, GATE.replace("0.9", "1.5")),
            "plan.yaml:14: .*threshold: 1.5 of success_rate: no policy passes; valid: above 0, at",
        ),
        ((GATE, GATE.replace("0.9", "0")), "threshold: 0 of success_rate: every policy passes"),
        ((GATE, "gate: {metric: score, threshold: 1.2}"), "threshold: 1.2 of score: no policy passes; .*at most 1"),
        ((GATE, "gate: {metric: time_to_goal, threshold: 12}"), "threshold: 12 of time_to_goal: every policy passes"),
        ((GATE, "gate: {metric: time_to_goal, threshold: 0}"), "threshold: 0 of time_to_goal: no policy passes"),
        (
            (GATE, "gate: {metric: succes_rate, threshold: 1}"),
            "metric: 'succes_rate' is not valid; .* Did you mean 'success",
        ),
        ((GATE, "gate: {threshold: 0.9, min_env_steps: 2_000_000}"), "min_env_steps: 2000000 is more than the 1000000"),
        (
            (GATE, "gate: {threshold: 0.9, min_env_steps: 900_000, patience: 5}"),
            "patience: 5 report points .*only 4 of 30",
        ),
        ((GATE, "gate: {threshold: 0.9, then: stop}"), "then: unknown key"),
        # Settings
        (
            ("spawn_outer_radius: 4.0", "spawn_outer_radus: 4.0"),
            "plan.yaml:8: .*no such environment setting. Did you mean",
        ),
        (
            ("ppo: {rollouts: 16}", "ppo: {rollout: 16}"),
            "plan.yaml:4: ppo.rollout: unknown key. Did you mean 'rollouts'",
        ),
        (("ppo: {rollouts: 16}", "ppo: {mini_batches: 7}"), "plan.yaml:4: ppo.mini_batches: 7 does not divide"),
        (("spawn_inner_radius: 5.0, ", "spawn_inner_radius: 9.0, "), "plan.yaml:16: .*inner"),
        (
            (TRAIN, "train: {env_steps: 100}"),
            r"plan.yaml:13: stages\[0\].train.env_steps: 100 is less than one iteration",
        ),
        (
            ("env_steps_per_trial: 200_000", "env_steps_per_trial: 2_000"),
            r"plan.yaml:11: stages\[0\].search.env_steps_per_trial: 2000",
        ),
        (
            ("search_space: {file: space.yaml", "search_space: {file: spac.yaml"),
            "plan.yaml:12: .*no file .*Did you mean 'space.yaml'",
        ),
        (
            ("preset: rewards", "preset: reward"),
            r"plan.yaml:12: stages\[0\].search.search_space.preset: .* Did you mean 'rewards'",
        ),
        (
            ("preset: far", "preset: fra"),
            r"plan.yaml:17: stages\[1\].reward.preset: 'fra' is no preset .* Did you mean 'far'",
        ),
        ((FROM, "physics: bullet\n    " + FROM), r"plan.yaml:18: stages\[1\].physics: 'bullet' does not run"),
        (("plan: two", "plan: two\nphysics: bullet"), "plan.yaml:2: physics: 'bullet' does not run"),
        (
            ("trials: 4", "trials: 4\n      pruner: {name: threshold}"),
            r"plan.yaml:11: stages\[0\].search.pruner: threshold needs",
        ),
        # Search, confirmation, training
        ((SEARCH, "    confirm: {top: 2}\n"), "confirm: compares the best trials of a search; add a search"),
        ((TRAIN, "train: {env_steps: 1_000_000, top: 5}"), "top: 5 is more than the 4 trials"),
        (
            ("    warm_start: {stage: near}\n    train: {", "    train: {top: 2, "),
            "top: 2 of a search, but the stage has none",
        ),
        # Budget
        (("{hours: 2}", "{env_steps: 1_000_000}"), "plan.yaml:2: budget.env_steps: 1000000 is less than the 3000000"),
        (
            ("{hours: 2}", "{shares: {search: 0.5, train: 0.5}}"),
            "plan.yaml:2: budget.shares: .* = 1.1; they must add up to 1",
        ),
        ((TRAIN, f"share: 0.5\n    {TRAIN}"), None),
        ((TRAIN, f"share: 1.0\n    {TRAIN}"), "add up to 1, which leaves nothing"),
        (("  - stage: far", "    share: 0.6\n  - stage: far\n    share: 0.6"), "add up to 1.2, more than all of it"),
        (("stages:", "stage:"), "plan.yaml:6: stage: unknown key. Did you mean 'stages'"),
    ],
)
def test_refused(tmp_path: Path, edit: tuple[str, str], message: str | None) -> None:
    if message is None:
        load(tmp_path, edit)
        return
    with pytest.raises(SpecError, match=message):
        load(tmp_path, edit)


def test_a_stage_that_comes_later_is_refused_as_a_start(tmp_path: Path) -> None:
    later = (CIRCLE, (f"    {FROM}\n", ""))
    with pytest.raises(
        SpecError, match=r"plan.yaml:14: .*'far' comes after 'near'; stages run in the order of the file"
    ):
        load(tmp_path, *later)


def test_a_study_is_no_plan(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("study: x\n")
    with pytest.raises(SpecError, match=r"is a study, not a plan. What takes it: vbot-campaign run"):
        load_plan(tmp_path / "x.yaml")
