"""What other pruners would have made of a study that has run: env steps saved, and what would have been lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState as OptunaState

from vbot_campaign.errors import StudyError
from vbot_campaign.spec.study import PrunerSettings, StudySpec
from vbot_campaign.study import samplers
from vbot_campaign.study.halving import replay, rungs_of
from vbot_campaign.study.pruners import build_pruner
from vbot_campaign.study.queue import SEED
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView

PRUNERS = ("none", "median", "percentile", "hyperband", "successive_halving", "noise_aware")
"""Those that stop trials and need no settings of their own."""
PAUSING = ("successive_halving", "rungs")
"""Those that pause trials."""
PAUSES = " (pause)"
"""Behind the name of a pruner that pauses trials."""
DRY_RUN = " (dry run)"
"""Behind the name of a pruner whose verdicts were noted while the study ran."""


@dataclass(frozen=True)
class PrunerAudit:
    """A pruner's record on the curves of a study."""

    pruner: str
    stopped: tuple[tuple[int, int], ...]
    """Trials that it stops, or pauses and never continues, and the env step of each."""
    env_steps: int
    """That all trials together would have trained."""
    recorded: int
    """That they have trained."""
    best: float | None
    """Score of the best trial that is left; None where none is."""
    best_recorded: float

    @property
    def saved(self) -> float:
        """Share of the env steps that it saves."""
        return 1.0 - self.env_steps / self.recorded if self.recorded else 0.0

    @property
    def regret(self) -> float:
        """What the best score is lower by."""
        return self.best_recorded - (self.best or 0.0)


def audit_pruners(snapshot: StudySnapshot) -> list[PrunerAudit]:
    """Replay the curves of a study's finished trials under other pruners, each with the study's own settings.

    Those that pause are replayed on one slot. Where the study's pruner is on a dry run, what it noted comes last. The
    trials are replayed one after the other, in the order of their numbers. A trial that was pruned is known as far as
    it went: a pruner that would have let it go on is not charged for the rest.

    Args:
        snapshot: The study.

    Raises:
        StudyError: No trial is complete: there is nothing to lose.
    """
    trials = [trial for trial in snapshot.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if snapshot.best is None:
        raise StudyError(
            f"study '{snapshot.spec.study}': no trial is complete, so no pruner can be judged. "
            "Wait until one is, or name another study."
        )
    spec = snapshot.spec
    audits = [_record(name, _stops(_under(spec, name), trials), trials) for name in PRUNERS]
    audits += [_record(name + PAUSES, _pauses(_under(spec, name), trials), trials) for name in PAUSING]
    if spec.pruner.dry_run:
        noted = {t.number: None if t.would_prune is None else t.would_prune.env_step for t in trials}
        audits.append(_record(spec.pruner.name + DRY_RUN, noted, trials))
    return audits


def in_use(spec: StudySpec) -> str:
    """Return the name that the study's own pruner has among the audits."""
    return spec.pruner.name + (PAUSES if spec.pruner.pauses else DRY_RUN if spec.pruner.dry_run else "")


def _under(spec: StudySpec, name: str) -> StudySpec:
    settings = PrunerSettings.model_validate({**spec.pruner.model_dump(), "name": name})
    return spec.model_copy(update={"pruner": settings})


def _stops(spec: StudySpec, trials: Sequence[TrialView]) -> dict[int, int | None]:
    study = optuna.create_study(study_name=spec.study, direction="maximize", pruner=build_pruner(spec))
    return {trial.number: _replay(spec, study, trial) for trial in trials}


def _pauses(spec: StudySpec, trials: Sequence[TrialView]) -> dict[int, int | None]:
    trained = replay(rungs_of(spec), {trial.number: (trial.reports, trial.env_steps) for trial in trials})
    return {t.number: trained[t.number] if trained[t.number] < t.env_steps else None for t in trials}


def _record(name: str, stops: Mapping[int, int | None], trials: Sequence[TrialView]) -> PrunerAudit:
    left = [t.score for t in trials if stops[t.number] is None and t.state is TrialState.COMPLETE]
    known = [score for score in left if score is not None]
    return PrunerAudit(
        pruner=name,
        stopped=tuple((number, step) for number, step in stops.items() if step is not None),
        env_steps=sum(stops[trial.number] or trial.env_steps for trial in trials),
        recorded=sum(trial.env_steps for trial in trials),
        best=max(known, default=None),
        best_recorded=max(t.score or 0.0 for t in trials if t.state is TrialState.COMPLETE),
    )


def _replay(spec: StudySpec, study: optuna.Study, recorded: TrialView) -> int | None:
    # With its point and its seed, by which the noise-aware pruner knows replicates.
    point = samplers.at_point(spec, recorded.parameters)
    study.enqueue_trial(point.params)
    trial = study.ask(point.distributions)
    trial.set_user_attr(SEED, recorded.seed)
    for step, score in recorded.reports.items():
        trial.report(score, step)
        if trial.should_prune():
            study.tell(trial, state=OptunaState.PRUNED)
            return step
    if recorded.state is TrialState.COMPLETE:
        study.tell(trial, recorded.score)
    else:
        study.tell(trial, state=OptunaState.PRUNED)
    return None
