"""Campaigns from start to end, with toy workers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import cpu_slots
from tests.support.toy_campaign import FAR, NEAR, ToySettings, resume, run, state_of, trials_of
from vbot_campaign import fs
from vbot_campaign.errors import CampaignError, SpecError, StudyChangedError, StudyError
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study.study import load_snapshot


def given(paths: CampaignPaths, study: str, trial: int) -> dict[str, Any]:
    """Return the ``trial.json`` of a trial."""
    (folder,) = paths.study(study).trials.glob(f"{trial:04d}_*")
    return dict(fs.read_json(TrialPaths(folder).spec))


# --- from start to end ----------------------------------------------------------------------------------------------


def test_a_campaign_runs_through_its_stages(paths: CampaignPaths, toy: ToySettings) -> None:
    toy({"near": [0.5, 0.95], "far": [0.92]})
    said: list[str] = []

    outcome = run(paths, more={"say": said.append})

    assert (outcome.state, outcome.reason, outcome.exit_code) == ("finished", "all 2 stages are over", 0)
    state = state_of(paths)
    near, far = state.stage("near"), state.stage("far")
    # The best of the search is trained with the plan's seed, and as the gate stayed shut, once more with another.
    searched = trials_of(paths, "near", "search")
    best = max(searched, key=lambda trial: trial.score or 0.0)
    trained = trials_of(paths, "near", "train")
    assert [trial.parameters for trial in trained] == [best.parameters, best.parameters]
    assert [trial.seed for trial in trained] == [42, 43]
    assert [given(paths, "toy.near.train", trial.number)["training"]["seed"] for trial in trained] == [42, 43]
    assert trained[1].origin == f"near, try 2: trial {best.number} of toy.near.search"
    assert [one.gate.value for one in near.tries if one.gate] == [0.5, 0.95]
    assert near.promoted is not None
    assert (near.promoted.trial, near.promoted.passed) == (1, True)
    # The next stage starts there, with what was found and what it changes itself.
    start = load_snapshot(paths, "toy.far.train").warm_start
    assert start is not None
    assert (start.study, start.trial, start.env_steps) == ("toy.near.train", 1, 20_000)
    far_trial = given(paths, "toy.far.train", 0)
    assert far_trial["warm_start_rules"]["freeze"] == ["normalizer"]
    assert far_trial["training"]["env"]["spawn_outer_radius"] == 8.0
    assert far_trial["training"]["ppo"]["learning_rate"] == pytest.approx(0.5 * best.parameters["ppo.learning_rate"])
    # Each policy that was handed on has a copy of its own.
    for stage, promoted in (("1_near", near.promoted), ("2_far", far.promoted)):
        assert promoted is not None
        copy = paths.plan("toy").root / "stages" / stage / "best_agent.pt"
        assert fs.sha256(copy) == promoted.sha256
        assert copy.with_name("best_agent.pt.sha256").read_text() == f"{promoted.sha256}  best_agent.pt\n"
        done = subprocess.run(["sha256sum", "-c", "best_agent.pt.sha256"], cwd=copy.parent, capture_output=True)
        assert done.returncode == 0
    assert (paths.plan("toy").root / "stages" / "1_near" / "last_agent.pt").read_bytes() == (
        paths.study("toy.far.train").warm_start.read_bytes()
    )
    parent = load_snapshot(paths, "toy.far.train").parent
    assert parent is not None
    assert (parent.study, parent.phase, parent.facts) == ("toy", "train", {"stage": "far"})
    assert "stage near: asked: try 1: success_rate 0.5, asked for 0.9: not passed" in said
    assert said[-1] == "campaign toy: finished: all 2 stages are over"


def test_the_gate_looks_at_fresh_seeds_and_at_the_last_report_points(paths: CampaignPaths, toy: ToySettings) -> None:
    run(paths)
    lines = toy.evaluated()
    words = [line.split(" ", 3) for line in lines]
    assert [word[:3] for word in words] == [
        ["near", "42", "best_agent.pt"],
        ["far", "42", "best_agent.pt"],
        ["far", "42", "agent_10000.pt"],
    ]
    asked = {"--episodes": "8", "--seeds": "2", "--seed": "1000004"}
    assert json.loads(words[0][3]) == asked, "not the episodes by which the best policy was chosen"
    again = run(paths)
    assert (again.state, toy.evaluated()) == ("finished", lines), "a finished campaign does nothing"


def test_a_confirmation_chooses_and_the_best_two_are_trained(paths: CampaignPaths, toy: ToySettings) -> None:
    near = {**NEAR, "confirm": {"top": 2, "seeds": 2}, "train": {"env_steps": 10_000, "top": 2}}

    outcome = run(paths, stages=[near])

    assert outcome.state == "finished"
    state = state_of(paths).stage("near")
    ranked = sorted(trials_of(paths, "near", "search"), key=lambda trial: -(trial.score or 0.0))
    assert state.confirmed is not None
    assert state.confirmed.startswith(f"trial {ranked[0].number} wins")
    assert len(trials_of(paths, "near", "confirm")) == 4
    assert state.chosen is not None
    assert [one.parameters for one in state.chosen] == [trial.parameters for trial in ranked[:2]]
    assert [trial.seed for trial in trials_of(paths, "near", "train")] == [42, 42]
    assert len(toy.evaluated()) == 1, "only the best of a try goes to the gate"


# --- gates ----------------------------------------------------------------------------------------------------------


def test_a_gate_that_stays_shut_ends_the_campaign_and_an_easier_one_lets_it_go_on(
    paths: CampaignPaths, toy: ToySettings
) -> None:
    toy({"near": [0.5, 0.6]})

    outcome = run(paths)

    assert (outcome.state, outcome.exit_code) == ("failed", 1)
    assert outcome.reason == "stage near: success_rate is 0.6 after 2 tries, the gate asks for 0.9"
    assert resume(paths).reason == outcome.reason
    assert len(toy.evaluated()) == 2, "what was measured is not measured again"
    easier = [{**NEAR, "gate": {**NEAR["gate"], "threshold": 0.55}}, FAR]
    assert run(paths, stages=easier).state == "finished"
    promoted = state_of(paths).stage("near").promoted
    assert promoted is not None
    assert promoted.trial == 1


def test_the_best_goes_on_where_the_plan_says_so(paths: CampaignPaths, toy: ToySettings) -> None:
    toy({"near": [0.7, 0.6]})
    near = {**NEAR, "gate": {**NEAR["gate"], "otherwise": "promote"}}
    assert run(paths, stages=[near, FAR]).state == "finished"
    promoted = state_of(paths).stage("near").promoted
    assert promoted is not None
    assert (promoted.trial, promoted.passed) == (0, False)


def test_a_gate_where_less_is_better(paths: CampaignPaths, toy: ToySettings) -> None:
    toy({"near": [0.6]})  # arrives after 4 s
    near = {**NEAR, "gate": {"metric": "time_to_goal", "threshold": 4.5}}
    assert run(paths, stages=[near]).state == "finished"
    near["gate"]["threshold"] = 3.5
    assert run(paths, plan="fast", stages=[near]).reason.startswith("stage near: time_to_goal is 4 after 1 try")


def test_a_training_that_ends_too_early_is_not_asked(
    paths: CampaignPaths, toy: ToySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_PLAN", json.dumps({"0": {"*": "collapse held"}}))
    near = {"stage": "near", "train": {"env_steps": 100_000}, "gate": {**NEAR["gate"], "min_env_steps": 99_000}}

    outcome = run(paths, stages=[near], alerts={"collapse": {"drop": 0.3, "stop": True}}, report_points=50)

    assert outcome.state == "finished"
    tries = state_of(paths).stage("near").tries
    assert [one.gate.asked if one.gate else None for one in tries] == [False, True]
    assert len(toy.evaluated()) == 1


def test_an_evaluation_that_fails_is_said_and_done_again(paths: CampaignPaths, toy: ToySettings) -> None:
    with pytest.raises(CampaignError, match=r"best_agent.pt could not be evaluated \(exit code 1\): nothing was"):
        run(paths, more={"evaluate_command": ("false",)})
    assert state_of(paths).word == "stopped"
    assert resume(paths).state == "finished"


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_changed_plan_is_refused(paths: CampaignPaths, toy: ToySettings) -> None:
    run(paths, stages=[NEAR])
    with pytest.raises(StudyChangedError, match=r"toy.*stages.near.train.env_steps: 20000 -> 30000.* or put the file"):
        run(paths, stages=[{**NEAR, "train": {"env_steps": 30_000}}])


def test_a_policy_that_is_missing_is_refused_before_anything_runs(paths: CampaignPaths, toy: ToySettings) -> None:
    far = {**FAR, "warm_start": {"file": "lost.pt"}}
    with pytest.raises(CampaignError, match=r"warm_start.checkpoint .*lost.pt: no file"):
        run(paths, stages=[NEAR, far])
    assert not paths.root.exists()


def test_a_name_that_a_study_has_is_refused(paths: CampaignPaths, toy: ToySettings) -> None:
    run(paths, stages=[NEAR])
    with pytest.raises(StudyError, match=r"a study has the name 'toy.near.train' already"):
        run(paths, plan="toy.near.train")


def test_an_altered_policy_is_not_handed_on(paths: CampaignPaths, toy: ToySettings) -> None:
    toy({"near": [0.5, 0.5]})
    run(paths)
    for file in paths.study("toy.near.train").trials.glob("*/checkpoints/best_agent.pt"):
        file.write_text("{}")
    easier = [{**NEAR, "gate": {**NEAR["gate"], "otherwise": "promote"}}, FAR]
    with pytest.raises(CampaignError, match=r"best_agent.pt: its SHA-256 is .*, the database says"):
        run(paths, stages=easier)
    assert not (paths.plan("toy").root / "stages" / "1_near" / "best_agent.pt").exists()


def test_a_policy_that_is_gone_is_not_handed_on_and_put_back_it_is(paths: CampaignPaths, toy: ToySettings) -> None:
    toy({"near": [0.5]})
    near = {"stage": "near", "train": {"env_steps": 10_000}, "gate": NEAR["gate"]}
    run(paths, stages=[near])
    files = {file: file.read_bytes() for file in paths.study("toy.near.train").trials.glob("*/checkpoints/best*.pt")}
    for file in files:
        file.unlink()
    easier = [{**near, "gate": {**near["gate"], "threshold": 0.4}}]
    with pytest.raises(CampaignError, match=r"best_agent.pt: is gone, with SHA-256 .*; put it back and resume"):
        run(paths, stages=easier)
    for file, content in files.items():
        file.write_bytes(content)
    assert resume(paths).state == "finished"


# --- where a stage starts -------------------------------------------------------------------------------------------


def test_a_stage_may_start_from_a_file_beside_the_plan(paths: CampaignPaths, toy: ToySettings, tmp_path: Path) -> None:
    run(paths, plan="before", stages=[{"stage": "near", "train": {"env_steps": 10_000}}])
    policy = tmp_path / "policy.pt"
    policy.write_bytes((paths.plan("before").root / "stages" / "1_near" / "best_agent.pt").read_bytes())
    rules = {"load": ["policy"], "freeze": ["policy"], "reset_schedule": False}
    only = {"stage": "only", "warm_start": {"file": "policy.pt", **rules}, "train": {"env_steps": 10_000}}
    assert run(paths, more={"folder": tmp_path}, stages=[only]).state == "finished"
    assert paths.study("toy.only.train").warm_start.read_bytes() == policy.read_bytes()
    trial = given(paths, "toy.only.train", 0)
    assert trial["warm_start"].endswith(paths.study("toy.only.train").warm_start.name)
    assert trial["warm_start_rules"] == rules


# --- budgets --------------------------------------------------------------------------------------------------------


def test_a_budget_that_ends_in_a_training_leaves_it_to_be_resumed(
    paths: CampaignPaths, toy: ToySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It dozes in its middle until it is stopped. The clock stands still until it has reported and then jumps over the
    # end of the budget, so that this comes neither too early nor too late on a slow machine.
    monkeypatch.setenv("TOY_PLAN", '{"0": {"1": "doze"}}')
    near = {"stage": "near", "train": {"env_steps": 60_000}}
    done: list[str] = []
    slow = {
        "clock": lambda: 5.0 if "reported" in done else 0.0,
        "progress": lambda decision: done.append(decision.action),
    }

    outcome = run(paths, stages=[near], budget={"hours": 3 / 3600}, more=slow)

    assert (outcome.state, outcome.exit_code) == ("stopped", 0)
    assert outcome.reason.startswith("the plan's budget is used (0.000833333 h); go on with --budget-hours")
    stopped = trials_of(paths, "near", "train")[0]
    assert 0 < stopped.env_steps < 60_000
    assert resume(paths).state == "stopped", "nothing is trained without a budget"
    for text in ("+x", "0.0001", "-1"):
        with pytest.raises(SpecError, match="--budget-hours"):
            resume(paths, budget_hours=text)

    assert resume(paths, budget_hours="+1").state == "finished"

    (trial,) = trials_of(paths, "near", "train")
    assert trial.env_steps == 60_000
    assert [attempt.first_env_step for attempt in trial.attempts] == [0, stopped.env_steps]


def test_a_search_ends_with_its_share_and_the_training_has_the_rest(paths: CampaignPaths, toy: ToySettings) -> None:
    # The training needs 20,000 of 30,000 env steps, which leaves one trial of the search, though its share is larger.
    shares = {"search": 0.6, "confirm": 0.0, "train": 0.4}

    outcome = run(paths, stages=[NEAR], budget={"env_steps": 30_000, "shares": shares}, more={"slots": cpu_slots(1)})

    assert outcome.state == "finished"
    states = [trial.state.value for trial in trials_of(paths, "near", "search")]
    assert states == ["complete"]
    assert trials_of(paths, "near", "train")[0].env_steps == 20_000


def test_plans_of_one_stage_without_anything_but_training(paths: CampaignPaths, toy: ToySettings) -> None:
    outcome = run(paths, stages=[{"stage": "only", "train": {"env_steps": 10_000}}])
    assert outcome.state == "finished"
    assert toy.evaluated() == []
