"""Train the best trials of a study again on fresh seeds, and choose by what they can be trusted to reach.

The score of a trial is one draw: the best of forty is also the luckiest of forty. Here the best few are trained again,
with training seeds and evaluation episodes that the search has not seen, and the one wins whose interval has the
highest lower end.

The trainings are queued trials of the study ``NAME.confirm``, seed by seed over all candidates. Who is still in the
race is worked out from the scores alone, seed by seed, so it does not matter in which order trainings end or how often
the program was stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from vbot_campaign.campaign.derived import (
    best_trials,
    derived_name,
    derived_spec,
    is_done,
    is_over,
    load_derived,
    refuse_if_running,
    remaining_budget,
    store_derived,
)
from vbot_campaign.campaign.statistics import Interval, fresh_seeds, iqm_interval
from vbot_campaign.errors import StudyError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.study import Budget
from vbot_campaign.study import CampaignStudy, load_snapshot, open_storage
from vbot_campaign.study.queue import QueuedTrial
from vbot_campaign.study.snapshot import ParentView, StudySnapshot, TrialState, TrialView
from vbot_campaign.study.storage import storage_errors
from vbot_campaign.supervisor import resume_study

PHASE: Final = "confirm"
LEAST_SEEDS = 3
"""Seeds before a candidate may be dropped: of fewer, a bootstrap interval says nothing."""


@dataclass(frozen=True)
class Candidate:
    """One of the best trials, and what its configuration reached on fresh seeds."""

    trial: int
    tuned: float
    """Score in the search."""
    scores: tuple[float | None, ...]
    """By seed; None where no training has ended. One that failed counts as 0."""
    interval: Interval | None
    """Of the scores; None before the first."""
    dropped: str | None = None
    """Why it left the race."""


@dataclass(frozen=True)
class Confirmed:
    """How a confirmation stands, or ended."""

    study: str
    """The study whose trials were confirmed."""
    env_steps: int
    """Of each training."""
    seeds: tuple[int, ...]
    """Training seeds."""
    evaluation_seed: int
    candidates: tuple[Candidate, ...]
    """In the order of their scores in the search."""
    winner: int | None
    """The trial whose interval has the highest lower end; None before every candidate in the race had all seeds."""
    state: str
    """``finished``, ``stopped``, ``running``."""
    reason: str = ""
    failed: bool = False

    @property
    def exit_code(self) -> int:
        """Return 0 for one that has ended or was stopped on request, else 1."""
        return 1 if self.failed else 0

    def record(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> Confirmed:
        """Return what `record` wrote down."""
        candidates = tuple(
            Candidate(
                **{
                    **candidate,
                    "scores": tuple(candidate["scores"]),
                    "interval": candidate["interval"] and Interval(**candidate["interval"]),
                }
            )
            for candidate in values["candidates"]
        )
        return cls(**{**values, "seeds": tuple(values["seeds"]), "candidates": candidates})


@dataclass(frozen=True)
class Drop:
    """A candidate that left the race, and the numbers that it left for."""

    candidate: int
    seeds: int
    """Seeds that were compared."""
    interval: Interval
    best: int
    best_interval: Interval

    def words(self, trials: Sequence[int]) -> str:
        """Say it for a person.

        Args:
            trials: Trial of each candidate.
        """
        return (
            f"after {self.seeds} seeds its IQM is {self.interval}, below {self.best_interval} of trial "
            f"{trials[self.best]}"
        )


def confirm_study(
    paths: CampaignPaths, name: str, *, top: int, seeds: int, env_steps: int | None = None, **options: Any
) -> Confirmed:
    """Train the best trials of a study again on fresh seeds, or go on with that; one that has ended returns at once.

    Args:
        paths: The runs folder.
        name: The study.
        top: Candidates: its best complete trials.
        seeds: Training seeds for each. One that has ended goes on with more.
        env_steps: Of each training; those of the study's trials unless given.
        **options: Of `Supervisor`.

    Raises:
        StudyNotFoundError: No study of that name.
        StudyError: It has no complete trial, or its confirmation was begun in another way.
        StudyBusyError: A supervisor is at work on it, or on its confirmation.
        StorageError: The database cannot be used.
    """
    parent = load_snapshot(paths, name)
    begun = load_derived(paths, name, PHASE)
    if begun is None:
        refuse_if_running(parent, "confirm them")
        _begin(paths, parent, top, seeds, env_steps)
    else:
        _check_as_begun(begun, top, seeds, env_steps)
        if begun.supervisor is None:
            _go_on(paths, parent, begun, seeds)
    now = load_derived(paths, name, PHASE)
    if now is not None and is_done(now):
        return _keep(paths, standing(parent, now, now.state, now.reason))
    outcome = resume_study(paths, derived_name(name, PHASE), **options, before_ask=_drop_losers)
    found = standing(parent, outcome.snapshot, outcome.state, outcome.reason)
    return _keep(paths, replace(found, failed=outcome.failed))


def confirmation(paths: CampaignPaths, name: str) -> Confirmed | None:
    """Return how the confirmation of a study stands; None where none was begun.

    Raises:
        StudyNotFoundError: No study of that name.
    """
    parent = load_snapshot(paths, name)
    begun = load_derived(paths, name, PHASE)
    return None if begun is None else standing(parent, begun, begun.state, begun.reason)


def wanted_confirmation(paths: CampaignPaths, name: str) -> dict[str, Any] | None:
    """Return ``top``, ``seeds`` and ``env_steps`` of the confirmation that is to follow a search.

    What it was begun with goes before what the study file says; only the seeds may be raised there.

    Returns:
        None where the study asks for none and none was begun, or where no trial is complete.
    """
    parent, begun = load_snapshot(paths, name), begun_with(paths, name)
    asked = parent.spec.confirm
    if begun is None:
        complete = any(trial.state is TrialState.COMPLETE for trial in parent.trials)
        return asked.model_dump() if asked is not None and complete else None
    seeds = begun["seeds"] if asked is None else max(asked.seeds, begun["seeds"])
    return {**begun, "seeds": seeds}


def confirm_wanted(paths: CampaignPaths, name: str, **options: Any) -> Confirmed | None:
    """Confirm the best trials of a study whose search is over, if it asks for that or if that was begun.

    Args:
        paths: The runs folder.
        name: The study.
        **options: Of `Supervisor`.

    Returns:
        None where there is nothing to confirm.

    Raises:
        CampaignError: As `confirm_study`.
    """
    wanted = wanted_confirmation(paths, name)
    return None if wanted is None else confirm_study(paths, name, **wanted, **options)


def confirmation_is_over(paths: CampaignPaths, name: str) -> bool:
    """Tell whether the confirmation of a study has come to its end, or to that of its budget."""
    begun = load_derived(paths, name, PHASE)
    return begun is not None and is_over(paths, begun)


def begun_with(paths: CampaignPaths, name: str) -> dict[str, Any] | None:
    """Return ``top``, ``seeds`` and ``env_steps`` of a confirmation; None where none was begun."""
    begun = load_derived(paths, name, PHASE)
    if begun is None:
        return None
    return {"top": _facts(begun)["top"], "seeds": len(_seeds(begun)), "env_steps": begun.spec.env_steps_per_trial}


# --- the race -------------------------------------------------------------------------------------------------------


def race(scores: Sequence[Sequence[float | None]]) -> list[Drop]:
    """Return who leaves the race, in order.

    After each seed that every candidate in the race has a score of, from the third on, a candidate leaves whose
    interval ends below the beginning of the best one's. The best one is that with the highest lower end.

    Args:
        scores: By candidate and seed; None where there is none yet.
    """
    drops: list[Drop] = []
    racing = list(range(len(scores)))
    for count in range(1, len(scores[0]) + 1 if scores else 0):
        if any(scores[candidate][count - 1] is None for candidate in racing):
            break
        if count < LEAST_SEEDS:
            continue
        intervals = {candidate: _interval(scores[candidate][:count]) for candidate in racing}
        best = _best(intervals)
        losers = [candidate for candidate in racing if intervals[candidate].high < intervals[best].low]
        drops += [Drop(loser, count, intervals[loser], best, intervals[best]) for loser in losers]
        racing = [candidate for candidate in racing if candidate not in losers]
    return drops


def _interval(scores: Sequence[float | None]) -> Interval:
    return iqm_interval([[score for score in scores if score is not None]])


def _best(intervals: Mapping[int, Interval]) -> int:
    return max(intervals, key=lambda candidate: (intervals[candidate].low, intervals[candidate].iqm, -candidate))


def standing(parent: StudySnapshot, derived: StudySnapshot, state: str, reason: str = "") -> Confirmed:
    """Return how a confirmation stands.

    Args:
        parent: The study.
        derived: The study of its confirmation.
        state: Of the derived study.
        reason: Why it is in it.
    """
    trials, seeds = _trials(derived), _seeds(derived)
    scores = _scores(derived)
    drops = {drop.candidate: drop.words(trials) for drop in race(scores)}
    candidates = tuple(
        Candidate(
            trial=trial,
            tuned=parent.trial(trial).score or 0.0,
            scores=tuple(scores[i]),
            interval=_interval(scores[i]) if any(score is not None for score in scores[i]) else None,
            dropped=drops.get(i),
        )
        for i, trial in enumerate(trials)
    )
    return Confirmed(
        study=parent.spec.study,
        env_steps=derived.spec.env_steps_per_trial,
        seeds=tuple(seeds),
        evaluation_seed=derived.spec.evaluation.seed,
        candidates=candidates,
        winner=_winner(candidates),
        state=state,
        reason=reason,
    )


def _winner(candidates: Sequence[Candidate]) -> int | None:
    racing = {i: candidate for i, candidate in enumerate(candidates) if candidate.dropped is None}
    if any(None in candidate.scores for candidate in racing.values()):
        return None
    intervals = {i: candidate.interval for i, candidate in racing.items() if candidate.interval is not None}
    return candidates[_best(intervals)].trial if intervals else None


def _facts(derived: StudySnapshot) -> Mapping[str, Any]:
    if derived.parent is None or derived.parent.phase != PHASE:
        raise StudyError(f"study '{derived.spec.study}': is no confirmation; give it another name.")
    return derived.parent.facts


def _trials(derived: StudySnapshot) -> list[int]:
    return list(_facts(derived)["trials"])


def _seeds(derived: StudySnapshot) -> list[int]:
    return list(_facts(derived)["seeds"])


def _scores(derived: StudySnapshot) -> list[list[float | None]]:
    width = len(_trials(derived))
    scores: list[list[float | None]] = [[None] * len(_seeds(derived)) for _ in range(width)]
    for trial in derived.trials:
        if trial.queued is not None and trial.state.is_finished:
            seed, candidate = divmod(trial.queued, width)
            scores[candidate][seed] = _score(trial)
    return scores


def _score(trial: TrialView) -> float:
    return 0.0 if trial.state is TrialState.FAILED or trial.score is None else trial.score


# --- the study of the confirmation ----------------------------------------------------------------------------------


def _begin(paths: CampaignPaths, parent: StudySnapshot, top: int, seeds: int, env_steps: int | None) -> None:
    spec = parent.spec
    candidates = best_trials(parent, top)
    used = [spec.seed, *(trial.seed for trial in parent.trials if trial.seed is not None)]
    fresh = fresh_seeds(spec.seed, seeds, used)
    evaluation_seed = fresh_seeds(spec.evaluation.seed, 1, [spec.evaluation.seed])[0]
    derived = derived_spec(
        spec,
        derived_name(spec.study, PHASE),
        env_steps_per_trial=env_steps or spec.env_steps_per_trial,
        budget=_with_trials(remaining_budget(parent, PHASE), len(candidates) * seeds),
        evaluation=spec.evaluation.model_copy(update={"seed": evaluation_seed}),
    )
    view = ParentView(spec.study, PHASE, {"top": top, "trials": candidates, "seeds": fresh})
    store_derived(paths, parent, derived, view, _queued(parent, candidates, fresh))


def _go_on(paths: CampaignPaths, parent: StudySnapshot, begun: StudySnapshot, seeds: int) -> None:
    """Queue what is not queued yet: further seeds, or what a crash has left out."""
    candidates, before = _trials(begun), _seeds(begun)
    used = [parent.spec.seed, *before, *(trial.seed for trial in parent.trials if trial.seed is not None)]
    more = [*before, *fresh_seeds(parent.spec.seed, seeds - len(before), used)]
    spec = begun.spec.model_copy(update={"budget": _with_trials(begun.spec.budget, len(candidates) * seeds)})
    view = ParentView(parent.spec.study, PHASE, {**_facts(begun), "seeds": more})
    store_derived(paths, parent, spec, view, _queued(parent, candidates, more))


def _with_trials(budget: Budget, trials: int) -> Budget:
    return budget.model_copy(update={"trials": trials})


def _queued(parent: StudySnapshot, candidates: Sequence[int], seeds: Sequence[int]) -> list[QueuedTrial]:
    return [
        QueuedTrial(parent.trial(trial).parameters, f"confirm trial {trial}, seed {number}", seed=seed)
        for number, seed in enumerate(seeds, start=1)
        for trial in candidates
    ]


def _check_as_begun(begun: StudySnapshot, top: int, seeds: int, env_steps: int | None) -> None:
    has_seeds, has_steps = len(_seeds(begun)), begun.spec.env_steps_per_trial
    if top == _facts(begun)["top"] and seeds >= has_seeds and env_steps in (None, has_steps):
        return
    raise StudyError(
        f"study '{begun.spec.study}': was begun with the best {_facts(begun)['top']} trials, {has_seeds} seeds and "
        f"{has_steps:,} env steps. Leave the options out to go on with it; only --seeds may be raised."
    )


def _drop_losers(study: CampaignStudy) -> list[str]:
    """Take those that have left the race out of the queue; say why."""
    snapshot = study.snapshot()
    trials = _trials(snapshot)
    told = []
    for drop in race(_scores(snapshot)):
        ids = [entry.id for entry in snapshot.queue if entry.id % len(trials) == drop.candidate]
        if ids:
            study.drop_queued(ids)
            left = f"{len(ids)} training{'s' if len(ids) > 1 else ''} left out"
            told.append(f"trial {trials[drop.candidate]} leaves the race: {drop.words(trials)}; {left}")
    return told


def _keep(paths: CampaignPaths, found: Confirmed) -> Confirmed:
    """Write a confirmation that has a winner down with its study."""
    if found.winner is not None:
        storage = open_storage(paths)
        try:
            with storage_errors(storage.url):
                CampaignStudy.open(storage, found.study).set_confirmed(found.record())
        finally:
            storage.close()
    return found
