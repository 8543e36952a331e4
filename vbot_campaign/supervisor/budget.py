"""How much of a study's budget is used. All numbers are totals over its whole life."""

from __future__ import annotations

from dataclasses import dataclass

from vbot_campaign.spec.budget import phase_budget
from vbot_campaign.spec.study import Budget


@dataclass(frozen=True)
class BudgetUse:
    """What was spent so far."""

    trials: int = 0
    """Trials asked, finished or not."""
    hours: float = 0.0
    env_steps: int = 0
    gpu_hours: float = 0.0


def may_ask(budget: Budget, use: BudgetUse) -> bool:
    """Tell whether another trial may be asked."""
    return used_up(budget, use) is None and (budget.trials is None or use.trials < budget.trials)


def used_up(budget: Budget, use: BudgetUse) -> str | None:
    """Return which budget ends the study now, even in the middle of trials, or None.

    Trials do not: those that were asked are trained to their end. Where the budget has shares, the search ends with its
    own.
    """
    limit = phase_budget(budget, "search")
    if limit.hours is not None and use.hours >= limit.hours:
        return f"{_whose(budget)} of hours used ({_of(limit.hours, budget.hours)} h)"
    if limit.gpu_hours is not None and use.gpu_hours >= limit.gpu_hours:
        return f"{_whose(budget)} of GPU-hours used ({_of(limit.gpu_hours, budget.gpu_hours)} h)"
    if limit.env_steps is not None and use.env_steps >= limit.env_steps:
        return f"{_whose(budget)} of env steps used ({_of(limit.env_steps, budget.env_steps)})"
    return None


def only_gpu_hours(budget: Budget) -> bool:
    """Tell whether nothing but its GPU-hours ends a study, so that it would never end without a GPU."""
    return budget.gpu_hours is not None and (budget.trials, budget.hours, budget.env_steps) == (None, None, None)


def _whose(budget: Budget) -> str:
    return "budget" if budget.shares is None else "the search's share"


def _of(limit: float, whole: float | None) -> str:
    shown = f"{limit:,}" if isinstance(limit, int) else f"{limit:g}"
    if whole is None or limit == whole:
        return shown
    return f"{shown} of {whole:,}" if isinstance(whole, int) else f"{shown} of {whole:g}"
