"""What a campaign has spent, and what is left of its budget for each part of a stage.

A stage has its share of what the stages before it have left; search and confirmation have theirs of what is left of
that. A full training is never cut short by a share, only by the end of the whole budget: a policy that is half
trained is of no use to the next stage.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from vbot_campaign.campaign.state import CampaignState
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.budget import TOTALS
from vbot_campaign.spec.plan import PlanSpec, Stage, StageSearch
from vbot_campaign.spec.stages import Phase, study_name
from vbot_campaign.spec.study import Budget, PhaseShares
from vbot_campaign.study.reading import read_names, read_snapshot
from vbot_campaign.study.snapshot import StudySnapshot
from vbot_campaign.study.usage import total_gpu_hours

Resource = Literal["hours", "gpu_hours", "env_steps"]
RESOURCES: tuple[Resource, ...] = ("hours", "gpu_hours", "env_steps")


@dataclass(frozen=True)
class Spent:
    """What something has cost."""

    hours: float = 0.0
    gpu_hours: float = 0.0
    env_steps: float = 0

    def __add__(self, other: Spent) -> Spent:
        """Add two costs up."""
        return Spent(self.hours + other.hours, self.gpu_hours + other.gpu_hours, self.env_steps + other.env_steps)


Ledger = Mapping[tuple[str, Phase], Spent]
"""What was spent, by stage and part."""


def phases_of(stage: Stage) -> Iterator[Phase]:
    """Yield the parts that a stage has, in order."""
    if stage.search is not None:
        yield "search"
    if stage.confirm is not None:
        yield "confirm"
    yield "train"


def read_spent(paths: CampaignPaths, plan: PlanSpec, state: CampaignState) -> dict[tuple[str, Phase], Spent]:
    """Return what the studies of a campaign and its evaluations at gates have cost, by stage and part."""
    names = set(read_names(paths))
    spent: dict[tuple[str, Phase], Spent] = {}
    for stage in plan.stages:
        for phase in phases_of(stage):
            name = study_name(plan, stage, phase)
            cost = spent_by(read_snapshot(paths, name)) if name in names else Spent()
            spent[stage.stage, phase] = cost + (_at_gate(state, stage) if phase == "train" else Spent())
    return spent


def spent_by(snapshot: StudySnapshot) -> Spent:
    """Return what a study has cost."""
    gpu_hours = total_gpu_hours(snapshot.spec.workers, snapshot.trials, datetime.now(UTC))
    return Spent(snapshot.hours_used, gpu_hours, snapshot.env_steps_used)


def _at_gate(state: CampaignState, stage: Stage) -> Spent:
    results = [one.gate for one in state.stage(stage.stage).tries if one.gate is not None]
    return Spent(hours=sum(result.seconds for result in results) / 3600.0)


def share_of(plan: PlanSpec, stage: Stage) -> float:
    """Return a stage's share of the budget; those without one divide what is left equally."""
    if stage.share is not None:
        return stage.share
    given = [one.share for one in plan.stages if one.share is not None]
    return (1.0 - sum(given)) / (len(plan.stages) - len(given))


def used_up(plan: PlanSpec, spent: Ledger) -> str | None:
    """Return which total of the plan is used up, or None."""
    total = sum(spent.values(), Spent())
    words = {"hours": "{:g} h", "gpu_hours": "{:g} GPU-hours", "env_steps": "{:,} env steps"}
    for resource in RESOURCES:
        limit = getattr(plan.budget, resource)
        if limit is not None and getattr(total, resource) >= limit:
            return f"the plan's budget is used ({words[resource].format(limit)})"
    return None


def search_budget(plan: PlanSpec, spent: Ledger, stage: Stage, search: StageSearch) -> Budget:
    """Return the totals of a stage's search, what it has used so far included.

    Where a confirmation follows they are those of both, with their shares: the study divides them by itself.
    """
    shares = plan.budget.shares
    both = stage.confirm is not None and any(getattr(plan.budget, resource) is not None for resource in RESOURCES)
    part = shares.search / (shares.search + shares.confirm) if both and shares.search else 1.0
    left = {resource: _share_left(plan, spent, stage, resource, both=both) for resource in RESOURCES}
    if search.hours is not None:
        left["hours"] = min(search.hours / part, math.inf if left["hours"] is None else left["hours"])
    divided = PhaseShares(search=part, confirm=1.0 - part, extend=0.0) if part < 1.0 else None
    return _budget(left, trials=search.trials, shares=divided)


def training_budget(plan: PlanSpec, spent: Ledger, stage: Stage, trials: int) -> Budget:
    """Return the totals of a stage's full trainings: all that nothing else has used."""
    left: dict[Resource, float | None] = {}
    for resource in RESOURCES:
        total = getattr(plan.budget, resource)
        others = sum(getattr(cost, resource) for key, cost in spent.items() if key != (stage.stage, "train"))
        left[resource] = None if total is None else total - others
    return _budget(left, trials=trials)


def _budget(left: Mapping[Resource, float | None], *, trials: int, shares: PhaseShares | None = None) -> Budget:
    # Not checked: a study knows no budget of nothing, and who runs it asks `is_nothing` first.
    steps = left["env_steps"]
    return Budget.model_construct(
        trials=trials,
        hours=left["hours"],
        gpu_hours=left["gpu_hours"],
        env_steps=None if steps is None else math.floor(steps),
        shares=shares,
    )


def is_nothing(budget: Budget) -> bool:
    """Tell whether a budget leaves nothing to spend."""
    return any(total is not None and total <= 0 for total in (budget.hours, budget.gpu_hours, budget.env_steps))


def _share_left(plan: PlanSpec, spent: Ledger, stage: Stage, resource: Resource, *, both: bool) -> float | None:
    total: float | None = getattr(plan.budget, resource)
    if total is None:
        return None
    used = {key: getattr(cost, resource) for key, cost in spent.items()}
    index = plan.position(stage.stage) or 0
    before = {one.stage for one in plan.stages[:index]}
    own: float = total - sum(cost for (name, _), cost in used.items() if name in before)
    own *= share_of(plan, stage) / sum(share_of(plan, one) for one in plan.stages[index:])
    weights = {phase: getattr(plan.budget.shares, phase) for phase in phases_of(stage)}
    part = weights["search"] + (weights["confirm"] if both else 0.0)
    own *= part / sum(weights.values())
    return min(own, _unreserved(plan, used, index)) if resource == "env_steps" else own


def _unreserved(plan: PlanSpec, used: Mapping[tuple[str, Phase], float], index: int) -> float:
    # Env steps that one full training of each stage from here on does not need.
    needed = sum(one.train.env_steps * one.train.top for one in plan.stages[index:])
    before = {one.stage for one in plan.stages[:index]}
    return (plan.budget.env_steps or 0) - needed - sum(cost for (name, _), cost in used.items() if name in before)


def raised(stored: Budget, wanted: Budget) -> Budget:
    """Return a stored budget with the totals of another one where these are larger."""
    totals: dict[str, float | None] = {}
    for name in TOTALS:
        before, after = getattr(stored, name), getattr(wanted, name)
        totals[name] = None if before is None or after is None else max(before, after)
    return stored.model_copy(update=totals)
