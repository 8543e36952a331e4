"""Studies that are made from another study: ordinary ones, of queued trials alone, with a name of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from vbot_campaign.errors import SpecError, StudyBusyError, StudyError
from vbot_campaign.paths import CampaignPaths, name_problem
from vbot_campaign.spec.budget import Phase, Total, phase_budget
from vbot_campaign.spec.checks import study_problems
from vbot_campaign.spec.study import Budget, PrunerSettings, SamplerSettings, StudySpec
from vbot_campaign.spec.trainable import require
from vbot_campaign.study import CampaignStudy, load_snapshot, open_storage
from vbot_campaign.study.queue import QueuedTrial
from vbot_campaign.study.snapshot import ParentView, StudySnapshot, TrialState, TrialView, WarmStartView
from vbot_campaign.study.storage import storage_errors
from vbot_campaign.study.study import study_names
from vbot_campaign.study.usage import total_gpu_hours
from vbot_campaign.supervisor.recovery import plan_from
from vbot_campaign.supervisor.warm_start import copy_warm_start


def derived_name(study: str, phase: str) -> str:
    """Return the name of the study that a phase makes from another one.

    Raises:
        SpecError: It would be too long.
    """
    name = f"{study}.{phase}"
    if (problem := name_problem(name)) is not None:
        raise SpecError(f"study {problem} It is what `{phase}` calls the study that it makes from '{study}'.")
    return name


def load_derived(paths: CampaignPaths, study: str, phase: str) -> StudySnapshot | None:
    """Return the study that a phase made from another one; None before, and where making it was cut off."""
    name = derived_name(study, phase)
    if name not in study_names(paths):
        return None
    try:
        snapshot = load_snapshot(paths, name)
    except StudyError:  # without a definition: made good by making it again
        return None
    return snapshot if snapshot.parent is not None else None


def is_done(snapshot: StudySnapshot) -> bool:
    """Tell whether a derived study has nothing left to train."""
    ended = all(trial.state.is_finished for trial in snapshot.trials)
    return snapshot.state == "finished" and ended and not snapshot.queue


def is_over(paths: CampaignPaths, snapshot: StudySnapshot) -> bool:
    """Tell whether a study has come to its end: all its trials, or a budget that is used up in the middle of some.

    One that somebody stopped has not, nor one whose trials kept failing.
    """
    if snapshot.state != "stopped":
        return snapshot.state == "finished"
    return plan_from(paths.study(snapshot.spec.study), snapshot).used_up == snapshot.reason


def best_trials(snapshot: StudySnapshot, top: int) -> list[int]:
    """Return the complete trials with the highest scores, the best first; all where there are fewer.

    Raises:
        StudyError: No trial is complete.
    """
    scored = [t for t in snapshot.trials if t.state is TrialState.COMPLETE and t.score is not None]
    if not scored:
        name = snapshot.spec.study
        raise StudyError(f"study '{name}': no trial is complete yet; go on with `vbot-campaign resume {name}`.")
    return [trial.number for trial in sorted(scored, key=_rank)[:top]]


def refuse_if_running(snapshot: StudySnapshot, what: str) -> None:
    """Refuse to begin a phase while the study may still change.

    Raises:
        StudyBusyError: A supervisor is at work on it.
    """
    if snapshot.supervisor is not None:
        name = snapshot.spec.study
        raise StudyBusyError(
            f"study '{name}' is running (pid {snapshot.supervisor['pid']}), so its best trials may change; "
            f"{what} when it has ended, or stop it with `vbot-campaign stop {name}`."
        )


def remaining_budget(snapshot: StudySnapshot, phase: Phase, earlier: Sequence[StudySnapshot | None] = ()) -> Budget:
    """Return what a phase may use: its share of the study's budget, and what the phases before it left.

    Args:
        snapshot: The study.
        phase: The phase.
        earlier: Studies of the phases between the search and this one.
    """
    before = [snapshot, *(one for one in earlier if one is not None)]
    now = datetime.now(UTC)
    used: dict[Total, float] = {
        "hours": sum(one.hours_used for one in before),
        "gpu_hours": sum(total_gpu_hours(one.spec.workers, one.trials, now) for one in before),
        "env_steps": float(sum(one.env_steps_used for one in before)),
    }
    return phase_budget(snapshot.spec.budget, phase, used)


def derived_spec(spec: StudySpec, name: str, **changes: Any) -> StudySpec:
    """Return the definition of a study that makes queued trials alone and prunes none of them.

    Raises:
        SpecError: It cannot be trained like that.
    """
    alerts = spec.alerts.model_copy(update={"no_improvement_trials": 0})
    common = {
        "study": name,
        "sampler": SamplerSettings(name="queue"),
        "pruner": PrunerSettings(name="none"),
        "confirm": None,
        "alerts": alerts,
    }
    # A stored study has a value for what it searches, too; it is put back when the derived one is stored.
    searched = spec.parameters
    fixed = {
        group: {name: value for name, value in entries.items() if f"{group}.{name}" not in searched}
        for group, entries in spec.fixed.items()
    }
    derived = spec.model_copy(update={**common, "fixed": fixed, **changes})
    require(study_problems(derived))
    return derived


def store_derived(
    paths: CampaignPaths,
    parent: StudySnapshot,
    spec: StudySpec,
    view: ParentView,
    trials: Sequence[QueuedTrial],
) -> None:
    """Store a derived study with its queue, or raise the budget of a stored one and add to its queue.

    May be called again after a crash: what is stored already stays, and entries that were queued are not queued again.

    Args:
        paths: The runs folder.
        parent: What it is made from. If its trials begin with a policy, so do those of the derived study where the
            definition still says so.
        spec: Its definition.
        view: What is kept of the parent.
        trials: All its trials in order, those that were queued before among them.
    """
    storage = open_storage(paths)
    try:
        with storage_errors(storage.url):
            start = _warm_start(paths, parent, spec)
            if start is not None:
                copy_warm_start(paths.study(spec.study), start)
            study = CampaignStudy.create(storage, spec, warm_start=start)
            study.set_parent(view)
            study.enqueue(trials[len(study.queued) :])
    finally:
        storage.close()


def _warm_start(paths: CampaignPaths, parent: StudySnapshot, spec: StudySpec) -> WarmStartView | None:
    if parent.warm_start is None or spec.warm_start is None:
        return None
    source = paths.study(parent.spec.study).warm_start.absolute()
    return dataclasses.replace(parent.warm_start, source=str(source))


def _rank(trial: TrialView) -> tuple[float, int]:
    return -(trial.score or 0.0), trial.number
