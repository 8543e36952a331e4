"""What a campaign does next, as a function of its plan and of what is stored. No process, clock or database in here.

Each step may be carried out again after a crash in the middle of it: what it has made by then is found and used.
"""

from __future__ import annotations

from dataclasses import dataclass

from vbot_campaign.campaign.state import CampaignState, StageState, Try
from vbot_campaign.spec.plan import LOWER_IS_BETTER, Gate, PlanSpec, Stage


@dataclass(frozen=True)
class Search:
    """Run the search of a stage."""

    stage: str


@dataclass(frozen=True)
class Confirm:
    """Run the best of a search once more on fresh seeds."""

    stage: str


@dataclass(frozen=True)
class Choose:
    """Choose what is trained fully."""

    stage: str


@dataclass(frozen=True)
class Train:
    """Run one round of full trainings."""

    stage: str
    number: int
    """1 for the first try."""


@dataclass(frozen=True)
class AskGate:
    """Measure what the best policy of the last try can do."""

    stage: str
    number: int


@dataclass(frozen=True)
class Promote:
    """Back up the policy of a try; with that the stage is over."""

    stage: str
    number: int
    passed: bool


@dataclass(frozen=True)
class Halt:
    """End the campaign before its last stage."""

    stage: str
    reason: str


@dataclass(frozen=True)
class Finish:
    """Every stage is over."""

    reason: str


Step = Search | Confirm | Choose | Train | AskGate | Promote | Halt | Finish


def next_step(plan: PlanSpec, state: CampaignState) -> Step:
    """Return what to do next."""
    for stage in plan.stages:
        known = state.stage(stage.stage)
        if known.promoted is None:
            return _step_of(stage, known)
    return Finish(f"all {len(plan.stages)} stages are over")


def _step_of(stage: Stage, known: StageState) -> Step:
    name = stage.stage
    if stage.search is not None and known.searched is None:
        return Search(name)
    if stage.confirm is not None and known.confirmed is None:
        return Confirm(name)
    if known.chosen is None:
        return Choose(name)
    if not known.tries:
        return Train(name, 1)
    return _after_try(stage, known)


def _after_try(stage: Stage, known: StageState) -> Step:
    name, tries, gate = stage.stage, known.tries, stage.gate
    last = tries[-1]
    if gate is None:
        return (
            Promote(name, 1, True) if last.trial is not None else Halt(name, f"stage {name}: no training left a policy")
        )
    if last.trial is not None and last.gate is None:
        return AskGate(name, len(tries))
    # Any of them: a threshold that was lowered lets an earlier one through.
    passed = [number for number, one in enumerate(tries, 1) if one.gate is not None and one.gate.passes(gate)]
    if passed:
        return Promote(name, passed[0], True)
    if len(tries) < gate.tries:
        return Train(name, len(tries) + 1)
    best = best_try(gate, tries)
    if gate.otherwise == "promote" and best is not None:
        return Promote(name, best, False)
    return Halt(name, _not_passed(name, gate, tries))


def best_try(gate: Gate, tries: tuple[Try, ...]) -> int | None:
    """Return the number of the try that came closest to passing, or None where none left a policy."""
    sign = -1.0 if gate.metric in LOWER_IS_BETTER else 1.0

    def rank(number: int) -> tuple[bool, float, float]:
        one = tries[number - 1]
        measured = one.gate is not None and one.gate.asked
        return measured, sign * one.gate.value if measured and one.gate else 0.0, one.score or 0.0

    usable = [number for number, one in enumerate(tries, 1) if one.trial is not None]
    return max(usable, key=rank, default=None)


def _not_passed(name: str, gate: Gate, tries: tuple[Try, ...]) -> str:
    best = best_try(gate, tries)
    count = "1 try" if len(tries) == 1 else f"{len(tries)} tries"
    asks = f"the gate asks for {gate.threshold:g}"
    if best is None:
        return f"stage {name}: no training left a policy in {count}; {asks} {gate.metric}"
    result = tries[best - 1].gate
    if result is None or not result.asked:
        return f"stage {name}: {count} ended before {gate.min_env_steps:,} env steps, where the gate is asked"
    return f"stage {name}: {gate.metric} is {result.value:.4g} after {count}, {asks}"
