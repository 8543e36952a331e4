"""How much of a study's budget is used. All numbers are totals over its whole life."""

from __future__ import annotations

from dataclasses import dataclass

from vbot_campaign.spec.study import Budget


@dataclass(frozen=True)
class BudgetUse:
    """What was spent so far."""

    trials: int = 0
    """Trials asked, finished or not."""
    hours: float = 0.0
    env_steps: int = 0


def may_ask(budget: Budget, use: BudgetUse) -> bool:
    """Tell whether another trial may be asked."""
    return used_up(budget, use) is None and (budget.trials is None or use.trials < budget.trials)


def used_up(budget: Budget, use: BudgetUse) -> str | None:
    """Return which budget ends the study now, even in the middle of trials, or None.

    Trials do not: those that were asked are trained to their end.
    """
    if budget.hours is not None and use.hours >= budget.hours:
        return f"budget of hours used ({budget.hours:g} h)"
    if budget.env_steps is not None and use.env_steps >= budget.env_steps:
        return f"budget of env steps used ({budget.env_steps:,})"
    return None
