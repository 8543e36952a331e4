"""Arithmetic of budgets: the part of a phase, and how a stored one is raised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

from vbot_campaign.errors import SpecError
from vbot_campaign.spec.counts import parse_count
from vbot_campaign.spec.problems import show
from vbot_campaign.spec.study import Budget

Phase = Literal["search", "confirm", "extend"]
PHASES: tuple[Phase, ...] = get_args(Phase)
Total = Literal["trials", "hours", "gpu_hours", "env_steps"]
TOTALS: tuple[Total, ...] = get_args(Total)

FLAGS: Mapping[Total, str] = {
    "trials": "--trials",
    "hours": "--budget-hours",
    "gpu_hours": "--gpu-hours",
    "env_steps": "--env-steps",
}
"""Options of the command line."""
_WORDS: Mapping[Total, str] = {
    "trials": "trials",
    "hours": "hours",
    "gpu_hours": "GPU-hours",
    "env_steps": "env steps",
}


def phase_budget(budget: Budget, phase: Phase, used: Mapping[Total, float] | None = None) -> Budget:
    """Return what a phase of a study may use of its hours, GPU-hours and env steps.

    A phase may use its share and what the phases before it left of theirs. Without shares the search may use all, and
    the phases that a person asks for afterwards have no limit. The budget of trials is the search's alone.

    Args:
        budget: Of the study.
        phase: The phase.
        used: What the phases before it used, by total.
    """
    trials = budget.trials if phase == "search" else None
    if budget.shares is None:
        return budget if phase == "search" else Budget()
    share = sum(getattr(budget.shares, one) for one in PHASES[: PHASES.index(phase) + 1])
    before = used or {}

    def left(total: Total) -> float | None:
        whole = getattr(budget, total)
        # A limit is above zero, so of nothing a little is left.
        return None if whole is None else max(share * whole - before.get(total, 0.0), 1e-6)

    steps = left("env_steps")
    return Budget(
        trials=trials,
        hours=left("hours"),
        gpu_hours=left("gpu_hours"),
        env_steps=None if steps is None else max(math.floor(steps + 1e-6), 1),
    )


def raised(budget: Budget, changes: Mapping[Total, str]) -> Budget:
    """Return a budget with some totals raised.

    Args:
        budget: The stored one.
        changes: By total: what is added (``+4``), or the new total (``16``).

    Raises:
        SpecError: No such number, a lower total than the stored one, or a total that the study does not limit.
    """
    update: dict[str, float] = {}
    for total, text in changes.items():
        stored = getattr(budget, total)
        if stored is None:
            has = [f"{show(getattr(budget, one))} {_WORDS[one]}" for one in TOTALS if getattr(budget, one) is not None]
            raise SpecError(
                f"{FLAGS[total]} {text}: the study has no budget of {_WORDS[total]} to raise; it has {', '.join(has)}."
            )
        amount = parse_total(total, text.removeprefix("+"))
        new = stored + amount if text.startswith("+") else amount
        if new < stored:
            raise SpecError(
                f"{FLAGS[total]} {text}: is less than the stored {show(stored)} {_WORDS[total]}; a budget is only "
                f"raised. Add to it with {FLAGS[total]} +{text}, or give more than {show(stored)}."
            )
        update[total] = new
    return budget.model_copy(update=update)


def with_totals(budget: Budget, totals: Mapping[Total, str]) -> Budget:
    """Return a study file's budget with some totals given on the command line.

    Raises:
        SpecError: No such number; what is added with ``+`` is for a stored study.
    """
    for total, text in totals.items():
        if text.startswith("+"):
            raise SpecError(
                f"{FLAGS[total]} {text}: adds to the budget of a stored study: vbot-campaign resume NAME "
                f"{FLAGS[total]} {text}. Here the whole total is expected."
            )
    return budget.model_copy(update={total: parse_total(total, text) for total, text in totals.items()})


def parse_total(total: Total, text: str) -> float | int:
    """Read a total as it is given on the command line.

    Raises:
        SpecError: It is no positive number, or no whole one where that is needed.
    """
    if total in ("trials", "env_steps"):
        return parse_count(FLAGS[total], text)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        raise SpecError(f"{FLAGS[total]} {text}: expected a positive number of hours, such as 12 or 0.5.")
    return value


def changes_in_words(before: Budget, after: Budget) -> list[str]:
    """Return what was raised: ``budget of hours: 12 -> 16``."""
    pairs = ((total, getattr(before, total), getattr(after, total)) for total in TOTALS)
    return [f"budget of {_WORDS[total]}: {_number(old)} -> {_number(new)}" for total, old, new in pairs if old != new]


def budget_words(budget: Budget) -> list[str]:
    """Return each total in words: ``40 trials``, ``12 h``."""
    shown = ((total, getattr(budget, total)) for total in TOTALS)
    return [f"{_number(value)} {_WORDS[total]}" for total, value in shown if value is not None]


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
