"""How a campaign's budget is divided, with numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.toy_campaign import FAR, NEAR, plan_spec
from vbot_campaign.campaign.budget import Spent, is_nothing, raised, search_budget, share_of, training_budget, used_up
from vbot_campaign.spec.plan import PlanSpec
from vbot_campaign.spec.study import Budget

SHARES = {"search": 0.4, "confirm": 0.2, "train": 0.4}


def plan_of(budget: dict[str, Any], *, near: dict[str, Any] | None = None) -> PlanSpec:
    first = {**NEAR, **(near or {})}
    return plan_spec(stages=[first, {**FAR, "search": NEAR["search"]}], budget={"shares": SHARES, **budget})


def search(plan: PlanSpec, spent: dict[Any, Spent], index: int = 0) -> Budget:
    stage = plan.stages[index]
    assert stage.search is not None
    return search_budget(plan, spent, stage, stage.search)


def test_stages_without_a_share_divide_what_is_left() -> None:
    third = {**FAR, "stage": "third"}
    plan = plan_spec(stages=[{**NEAR, "share": 0.5}, FAR, third], budget={"hours": 8})
    assert [share_of(plan, stage) for stage in plan.stages] == [0.5, 0.25, 0.25]


def test_a_search_has_its_share_of_its_stage() -> None:
    plan = plan_of({"hours": 16})
    # Half of 16 hours, and of that 0.4 of 0.8: what the stage does not do goes to the rest.
    assert search(plan, {}).hours == pytest.approx(4.0)
    # The first stage took 6 hours; the second has the other 10.
    assert search(plan, {("near", "search"): Spent(4), ("near", "train"): Spent(2)}, 1).hours == pytest.approx(5.0)


def test_a_confirmation_shares_the_searchs_budget() -> None:
    budget = search(plan_of({"hours": 16}, near={"confirm": {"top": 2, "seeds": 2}}), {})
    assert budget.hours == pytest.approx(8 * 0.6)
    assert budget.shares is not None
    assert (budget.shares.search, budget.shares.confirm) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_the_searchs_own_hours_go_before_its_share() -> None:
    near = {"search": {**NEAR["search"], "hours": 1.0}}
    assert search(plan_of({"hours": 16}, near=near), {}).hours == 1.0
    assert search(plan_of({}, near=near), {}).hours == 1.0
    with_confirm = search(plan_of({"hours": 16}, near={**near, "confirm": {"top": 2}}), {})
    assert with_confirm.shares is not None
    assert (with_confirm.hours or 0) * with_confirm.shares.search == pytest.approx(1.0)


def test_the_trainings_that_must_come_are_kept_free() -> None:
    # 20,000 and 10,000 of 50,000 env steps are for the trainings.
    assert search(
        plan_of({"env_steps": 50_000, "shares": {"search": 0.9, "confirm": 0.0, "train": 0.1}}), {}
    ).env_steps == (20_000)
    spent = {("near", "search"): Spent(env_steps=20_000), ("near", "train"): Spent(env_steps=20_000)}
    assert is_nothing(search(plan_of({"env_steps": 50_000}), spent, 1))


def test_a_training_has_all_that_nothing_else_has_used() -> None:
    plan = plan_of({"hours": 16, "gpu_hours": 8})
    spent = {("near", "search"): Spent(4, 2), ("near", "train"): Spent(3, 3)}
    budget = training_budget(plan, spent, plan.stages[0], 2)
    assert (budget.trials, budget.hours, budget.gpu_hours, budget.env_steps) == (2, 12, 6, None)


def test_the_end_of_the_budget() -> None:
    plan = plan_of({"hours": 4, "env_steps": 100_000})
    assert used_up(plan, {("near", "search"): Spent(3.9, 0, 99_999)}) is None
    assert (
        used_up(plan, {("near", "search"): Spent(3), ("far", "train"): Spent(1)}) == "the plan's budget is used (4 h)"
    )
    assert used_up(plan, {("near", "train"): Spent(0, 0, 100_000)}) == "the plan's budget is used (100,000 env steps)"


def test_a_stored_budget_only_grows() -> None:
    stored = Budget(trials=2, hours=3.0, env_steps=50)
    assert raised(stored, Budget(trials=1, hours=4.0, env_steps=None)) == Budget(trials=2, hours=4.0)
