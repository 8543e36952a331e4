"""What the studies of a stage are, given what the stages before have found."""

from __future__ import annotations

from typing import Any

from vbot_campaign.campaign.confirm import Candidate as ConfirmedCandidate
from vbot_campaign.campaign.confirm import Confirmed
from vbot_campaign.campaign.state import CampaignState, Candidate, Promoted
from vbot_campaign.errors import StudyError
from vbot_campaign.spec.plan import PlanSpec, Stage
from vbot_campaign.spec.resolve import prior_point
from vbot_campaign.spec.stages import stage_study, training_study
from vbot_campaign.spec.study import StudySpec, WarmStart
from vbot_campaign.study.queue import QueuedTrial
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView


def stage_of(plan: PlanSpec, name: str) -> Stage:
    """Return a stage by name."""
    return next(stage for stage in plan.stages if stage.stage == name)


def number_of(plan: PlanSpec, name: str) -> int:
    """Return the place of a stage, 1 for the first."""
    return [stage.stage for stage in plan.stages].index(name) + 1


def search_spec(plan: PlanSpec, state: CampaignState, stage: Stage) -> StudySpec:
    """Return the study that searches a stage.

    Raises:
        StudyError: It has none.
    """
    spec = stage_study(plan, stage, found=found(plan, state, stage), start=start_of(plan, state, stage))
    if spec is None:
        raise StudyError(f"stage {stage.stage} has no search.")
    return spec


def training_spec(plan: PlanSpec, state: CampaignState, stage: Stage, *, trials: int) -> StudySpec:
    """Return the study of a stage's full trainings, with a budget of so many."""
    known, start = found(plan, state, stage), start_of(plan, state, stage)
    return training_study(plan, stage, trials=trials, found=known, start=start)


def found(plan: PlanSpec, state: CampaignState, stage: Stage) -> dict[str, Any]:
    """Return what the searches of the stages that a stage starts from found best, by name; later ones go before."""
    start = stage.warm_start
    if start is None or start.stage is None:
        return {}
    earlier = stage_of(plan, start.stage)
    promoted = state.stage(start.stage).promoted
    return {**found(plan, state, earlier), **(promoted.parameters if promoted is not None else {})}


def start_of(plan: PlanSpec, state: CampaignState, stage: Stage) -> WarmStart | None:
    """Return the policy that the trainings of a stage start from, or None for random weights.

    Raises:
        StudyError: The stage it is from is not over.
    """
    start = stage.warm_start
    if start is None:
        return None
    rules = start.rules.model_dump()
    if start.stage is None:
        return WarmStart(checkpoint=start.file, **rules)
    promoted = state.stage(start.stage).promoted
    if promoted is None:
        raise StudyError(f"stage {stage.stage} starts from stage {start.stage}, which is not over yet.")
    return WarmStart(study=promoted.study, trial=promoted.trial, take=start.take, **rules)


def candidates(stage: Stage, spec: StudySpec | None, ranked: list[TrialView]) -> tuple[Candidate, ...]:
    """Choose what is trained fully.

    Args:
        stage: The stage.
        spec: The study of its search; None where it has none.
        ranked: Trials of the search, the best first.

    Returns:
        The parameters of the first of them, and of none twice; the priors where the search has left no trial.
    """
    if spec is None:
        return (Candidate({}, "the stage's settings"),)
    chosen: list[Candidate] = []
    for trial in ranked:
        if all(trial.parameters != one.parameters for one in chosen):
            chosen.append(Candidate(trial.parameters, f"trial {trial.number} of {spec.study}"))
    return tuple(chosen[: stage.train.top]) or (Candidate(prior_point(spec), f"the priors: {spec.study} has no score"),)


def best_first(snapshot: StudySnapshot) -> list[TrialView]:
    """Return the complete trials of a study, the best score first."""
    complete = [trial for trial in snapshot.trials if trial.state is TrialState.COMPLETE and trial.score is not None]
    return sorted(complete, key=lambda trial: (-(trial.score or 0.0), trial.number))


def confirmed_order(done: Confirmed) -> list[int]:
    """Return the trials that a confirmation compared, the best first: the winner, then by what can be relied on."""

    def rank(candidate: ConfirmedCandidate) -> tuple[bool, bool, float, float]:
        low = candidate.interval.low if candidate.interval is not None else 0.0
        return candidate.trial == done.winner, candidate.interval is not None, low, candidate.tuned

    return [candidate.trial for candidate in sorted(done.candidates, key=rank, reverse=True)]


def queued_trainings(plan: PlanSpec, stage: Stage, chosen: tuple[Candidate, ...], tries: int) -> list[QueuedTrial]:
    """Return all trainings of a stage up to a try, in order: each try has every candidate once and a seed of its own.

    The first try has the plan's seed.
    """
    return [
        QueuedTrial(one.parameters, f"{stage.stage}, try {number}: {one.origin}", seed=plan.seed + number - 1)
        for number in range(1, tries + 1)
        for one in chosen
    ]


def best_of_try(snapshot: StudySnapshot, number: int, size: int) -> TrialView | None:
    """Return the best training of a try, or None where none of them left a policy.

    Args:
        snapshot: The study of the trainings.
        number: The try.
        size: Trainings of each try.
    """
    first = (number - 1) * size
    usable = [
        trial
        for trial in snapshot.trials
        if trial.queued is not None
        and first <= trial.queued < first + size
        and trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        and trial.checkpoints
    ]
    return max(usable, key=lambda trial: (trial.score or 0.0, -trial.number), default=None)


def takes_last(plan: PlanSpec, name: str) -> bool:
    """Tell whether a later stage starts from the checkpoint at the end of a stage's training."""
    starts = [stage.warm_start for stage in plan.stages if stage.warm_start is not None]
    return any(start.stage == name and start.take == "last" for start in starts)


def source_of(promoted: Promoted) -> dict[str, Any]:
    """Return where a policy comes from, as plain values."""
    return {"study": promoted.study, "trial": promoted.trial, "env_steps": promoted.env_steps}
