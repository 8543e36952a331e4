"""What a campaign does next, without a process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.toy_campaign import FAR, NEAR, plan_spec
from vbot_campaign.campaign.stage import found, queued_trainings, start_of
from vbot_campaign.campaign.state import CampaignState, Candidate, GateResult, Promoted, StageState, Try
from vbot_campaign.campaign.steps import (
    AskGate,
    Choose,
    Confirm,
    Finish,
    Halt,
    Promote,
    Search,
    Step,
    Train,
    next_step,
)
from vbot_campaign.spec.plan import PlanSpec
from vbot_campaign.study.owner import Owner

CHOSEN = (Candidate({"ppo.learning_rate": 3e-4}, "trial 0"),)
DONE = Promoted("toy.near.train", 1, 0.9, {"ppo.learning_rate": 3e-4}, 20_000, "stages/1_near/best_agent.pt", "a", True)


def at_gate(value: float, **changes: Any) -> GateResult:
    return replace(GateResult(value, {}, value, 256, 1.0, 20_000), **changes)


def tried(*values: float | None) -> tuple[Try, ...]:
    """Return tries of trials 0, 1, …; None stands for one that left no policy."""
    return tuple(
        Try(None, None) if value is None else Try(number, value, at_gate(value)) for number, value in enumerate(values)
    )


def plan_of(near: dict[str, Any] | None = None, **gate: Any) -> PlanSpec:
    stage = {**NEAR, "confirm": {"top": 2, "seeds": 2}, **(near or {})}
    if gate:
        stage["gate"] = {**NEAR["gate"], **gate}
    return plan_spec(stages=[stage, FAR])


def near(**changes: Any) -> CampaignState:
    known = StageState("3 complete", "trial 0 wins", CHOSEN)
    return CampaignState(stages={"near": replace(known, **changes)})


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (CampaignState(), Search("near")),
        (near(confirmed=None, chosen=None), Confirm("near")),
        (near(chosen=None), Choose("near")),
        (near(), Train("near", 1)),
        (near(tries=(Try(0, 0.7),)), AskGate("near", 1)),
        (near(tries=tried(0.5)), Train("near", 2)),
        (near(tries=tried(None)), Train("near", 2)),
        (near(tries=tried(0.5, 0.95)), Promote("near", 2, True)),
        (near(tries=tried(0.9)), Promote("near", 1, True)),
        (
            near(tries=tried(0.6, 0.5)),
            Halt("near", "stage near: success_rate is 0.6 after 2 tries, the gate asks for 0.9"),
        ),
        (
            near(tries=tried(None, None)),
            Halt("near", "stage near: no training left a policy in 2 tries; the gate asks for 0.9 success_rate"),
        ),
        (near(promoted=DONE), Choose("far")),
    ],
)
def test_a_step_follows_from_what_is_stored(state: CampaignState, step: Step) -> None:
    assert next_step(plan_of(), state) == step
    assert next_step(plan_of(), CampaignState.from_dict(state.as_dict())) == step


def test_the_end() -> None:
    state = CampaignState(stages={name: StageState(promoted=DONE) for name in ("near", "far")})
    assert next_step(plan_of(), state) == Finish("all 2 stages are over")


def test_what_was_measured_is_judged_by_the_plan_of_today() -> None:
    state = near(tries=tried(0.6, 0.5))
    assert next_step(plan_of(threshold=0.55), state) == Promote("near", 1, True)
    assert next_step(plan_of(tries=3), state) == Train("near", 3)
    assert next_step(plan_of(otherwise="promote"), state) == Promote("near", 1, False)
    assert next_step(plan_of(otherwise="promote"), near(tries=tried(None, 0.1))) == Promote("near", 2, False)


def test_a_stage_without_a_search_or_a_gate() -> None:
    plan = plan_spec(stages=[{"stage": "only", "train": {"env_steps": 1_000}}])
    assert next_step(plan, CampaignState()) == Choose("only")
    known = StageState(chosen=(Candidate({}, "its settings"),))
    assert next_step(plan, CampaignState(stages={"only": replace(known, tries=(Try(0, 0.5),))})) == Promote(
        "only", 1, True
    )
    failed = CampaignState(stages={"only": replace(known, tries=(Try(None, None),))})
    assert next_step(plan, failed) == Halt("only", "stage only: no training left a policy")


def test_a_try_that_ended_too_early_counts_last() -> None:
    early = Try(0, 0.99, at_gate(0.0, asked=False, env_steps=100))
    plan = plan_of(otherwise="promote")
    assert next_step(plan, near(tries=(early, *tried(0.1)))) == Promote("near", 2, False)
    halted = next_step(plan_of(min_env_steps=15_000), near(tries=(early, early)))
    assert halted == Halt("near", "stage near: 2 tries ended before 15,000 env steps, where the gate is asked")


def test_the_state_survives_json() -> None:
    state = replace(near(tries=tried(0.5, None), promoted=DONE), word="running", owner=Owner("box", 7, 1.5))
    assert CampaignState.from_dict(state.as_dict()) == state


# --- what a stage takes over ----------------------------------------------------------------------------------------


def test_what_was_found_holds_on_where_a_stage_starts_from_another() -> None:
    third = {**FAR, "stage": "third", "warm_start": {"stage": "far"}}
    plan = plan_spec(stages=[NEAR, FAR, third])
    later = replace(DONE, study="toy.far.train", trial=0, parameters={})
    state = CampaignState(stages={"near": StageState(promoted=DONE), "far": StageState(promoted=later)})
    assert found(plan, state, plan.stages[0]) == {}
    assert found(plan, state, plan.stages[1]) == {"ppo.learning_rate": 3e-4}
    assert found(plan, state, plan.stages[2]) == {"ppo.learning_rate": 3e-4}
    start = start_of(plan, state, plan.stages[1])
    assert start is not None
    assert (start.study, start.trial, start.take, start.freeze) == ("toy.near.train", 1, "last", ("normalizer",))


def test_each_try_has_every_candidate_and_a_seed_of_its_own() -> None:
    two = (*CHOSEN, Candidate({"ppo.learning_rate": 1e-4}, "trial 2"))
    plan = plan_spec(seed=7)
    queued = queued_trainings(plan, plan.stages[0], two, 2)
    assert [(one.parameters["ppo.learning_rate"], one.seed) for one in queued] == [
        (3e-4, 7),
        (1e-4, 7),
        (3e-4, 8),
        (1e-4, 8),
    ]
    assert queued[3].origin == "near, try 2: trial 2"
