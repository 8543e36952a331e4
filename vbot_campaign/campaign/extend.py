"""Train the best trials of a study on, from their own last checkpoints, to a longer budget.

Each goes on from its complete state (networks, optimizer, normalizers, counters, random and physics states) as a
queued trial of the study ``NAME.extend``; its env steps count on from there. What the learning rate does is a choice:

* ``continue``: its schedule goes on from where it was. ``none`` and ``kl_adaptive`` do as ever. ``linear`` falls to the
  end of the budget it was laid out for and stays there, at 1 % of the first rate: were it laid out anew for the long
  budget, the rate would leap up in the middle of the training.
* ``restart``: it begins anew, at a share of the first rate, and ends with the long budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from vbot_campaign import fs
from vbot_campaign.campaign.derived import (
    derived_name,
    derived_spec,
    is_done,
    load_derived,
    refuse_if_running,
    remaining_budget,
    store_derived,
)
from vbot_campaign.errors import CheckpointCorruptError, StudyError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study import load_snapshot
from vbot_campaign.study.queue import QueuedStart, QueuedTrial
from vbot_campaign.study.snapshot import CheckpointView, ParentView, StudySnapshot, TrialState, TrialView
from vbot_campaign.supervisor import Outcome, resume_study

PHASE: Final = "extend"
Schedule = Literal["continue", "restart"]


def extend_study(
    paths: CampaignPaths,
    name: str,
    *,
    trials: Sequence[int],
    env_steps: int,
    schedule: Schedule = "continue",
    factor: float = 1.0,
    stop_on_collapse: bool = False,
    **options: Any,
) -> Outcome:
    """Train trials of a study on to a longer budget; go on where that was stopped.

    Args:
        paths: The runs folder.
        name: The study.
        trials: Which; those that were named before go on too.
        env_steps: In the end, with what they were trained before.
        schedule: What the learning rate does.
        factor: Of ``restart``: share of the first learning rate.
        stop_on_collapse: End a training whose score collapses; its best policy stays.
        **options: Of `Supervisor`.

    Raises:
        StudyNotFoundError: No study of that name.
        StudyError: A trial that cannot be trained on, or the study was extended in another way before.
        CheckpointError: A checkpoint to go on from was altered.
        StudyBusyError: A supervisor is at work on it, or on its extension.
        StorageError: The database cannot be used.
    """
    parent = load_snapshot(paths, name)
    begun = load_derived(paths, name, PHASE)
    spec = _spec(paths, parent, begun, env_steps, stop_on_collapse)
    _check_schedule(parent.spec, schedule, factor)
    facts = {"env_steps": env_steps, "schedule": schedule, "factor": factor}
    before = _before(begun, facts)
    new = [trial for trial in dict.fromkeys(trials) if trial not in before]
    if new or begun is None:
        refuse_if_running(parent, "extend them")
        queued = [_queued(paths, parent, trial, env_steps, schedule, factor) for trial in new]
        budget = spec.budget.model_copy(update={"trials": len(before) + len(new)})
        view = ParentView(name, PHASE, {**facts, "trials": [*before, *new]})
        store_derived(paths, parent, spec.model_copy(update={"budget": budget}), view, [*before.values(), *queued])
    now = load_derived(paths, name, PHASE)
    if now is not None and is_done(now):
        return Outcome(now.state, now.reason, False, now)
    return resume_study(paths, derived_name(name, PHASE), **options)


def resume_extension(paths: CampaignPaths, name: str, **options: Any) -> Outcome:
    """Go on with the extension of a study as it was begun; one that has ended returns at once.

    Args:
        paths: The runs folder.
        name: The study.
        **options: Of `Supervisor`.

    Raises:
        StudyError: None was begun.
        CampaignError: As `extend_study`.
    """
    begun = load_derived(paths, name, PHASE)
    if begun is None or begun.parent is None:
        raise StudyError(f"study '{name}': was not extended yet; begin with `vbot-campaign extend {name}`.")
    had = begun.parent.facts
    rules = {"env_steps": had["env_steps"], "schedule": had["schedule"], "factor": had["factor"]}
    return extend_study(paths, name, trials=had["trials"], **rules, **options)


def _spec(
    paths: CampaignPaths, parent: StudySnapshot, begun: StudySnapshot | None, env_steps: int, stop_on_collapse: bool
) -> StudySpec:
    spec = parent.spec
    if begun is not None:
        _check_as_begun(begun, env_steps, stop_on_collapse)
        return begun.spec
    collapse = spec.alerts.collapse
    if stop_on_collapse:
        collapse = collapse.model_copy(update={"stop": True})
    derived = derived_spec(
        spec,
        derived_name(spec.study, PHASE),
        env_steps_per_trial=env_steps,
        budget=remaining_budget(parent, PHASE, [load_derived(paths, spec.study, "confirm")]).model_copy(
            update={"trials": 1}
        ),
        warm_start=None,
    )
    return derived.model_copy(update={"alerts": derived.alerts.model_copy(update={"collapse": collapse})})


def _check_as_begun(begun: StudySnapshot, env_steps: int, stop_on_collapse: bool) -> None:
    name, has = begun.spec.study, begun.spec.env_steps_per_trial
    if begun.parent is None or begun.parent.phase != PHASE:
        raise StudyError(f"study '{name}': is no extension; give it another name.")
    if env_steps != has:
        raise StudyError(
            f"study '{name}': was begun with {has:,} env steps, not {env_steps:,}. Go on with --env-steps {has}, or "
            f"extend its own trials: vbot-campaign extend {name} --env-steps {env_steps}"
        )
    if stop_on_collapse and not begun.spec.alerts.collapse.stop:
        raise StudyError(f"study '{name}': was begun without --stop-on-collapse; go on without it.")


def _check_schedule(spec: StudySpec, schedule: Schedule, factor: float) -> None:
    if schedule == "restart" and spec.trainer != "builtin":
        raise StudyError(
            f"study '{spec.study}': only the builtin trainer can restart its learning rate; use --schedule continue."
        )
    if not 0 < factor <= 10:
        raise StudyError(f"--lr-factor {factor:g}: expected more than 0 and at most 10, such as 0.3.")
    if schedule == "continue" and factor != 1.0:
        raise StudyError(f"--lr-factor {factor:g}: goes with --schedule restart; `continue` keeps the rate it had.")


def _before(begun: StudySnapshot | None, facts: dict[str, Any]) -> dict[int, QueuedTrial]:
    """Return what was queued before, by trial of the parent."""
    if begun is None or begun.parent is None:
        return {}
    had = begun.parent.facts
    if any(had[key] != value for key, value in facts.items()):
        raise StudyError(
            f"study '{begun.spec.study}': was begun with --schedule {had['schedule']} --lr-factor {had['factor']:g}; "
            "go on with the same."
        )
    made = {t.queued or 0: QueuedTrial(t.parameters, t.origin or "", t.seed, t.start) for t in begun.trials}
    entries = {**made, **{entry.id: entry.trial for entry in begun.queue}}
    return {trial: entries[i] for i, trial in enumerate(had["trials"]) if i in entries}


# --- one trial ------------------------------------------------------------------------------------------------------


def _queued(
    paths: CampaignPaths, parent: StudySnapshot, number: int, env_steps: int, schedule: Schedule, factor: float
) -> QueuedTrial:
    trial, name = parent.trial(number), parent.spec.study
    if not trial.state.is_finished or trial.state is TrialState.FAILED:
        how = "failed" if trial.state is TrialState.FAILED else "has not ended"
        raise StudyError(f"trial {number} of study '{name}' {how} ({trial.reason}), so it cannot be extended.")
    point = _last_point(paths, parent, trial)
    if point.env_steps >= env_steps:
        raise StudyError(
            f"--env-steps {env_steps}: trial {number} of study '{name}' was trained for {point.env_steps:,} env steps "
            "already; give more."
        )
    path = (paths.study(name).root / point.path).absolute()
    if fs.sha256(path) != point.sha256:
        raise CheckpointCorruptError(f"checkpoint {path}: was altered; see `vbot-campaign verify {name}`.")
    start = QueuedStart(
        checkpoint=str(path),
        sha256=point.sha256,
        env_steps=point.env_steps,
        study=name,
        trial=number,
        num_envs=trial.num_envs,
        **_rules(parent.spec, trial, point.env_steps, schedule, factor),
    )
    return QueuedTrial(trial.parameters, f"extend trial {number} of {name}", trial.seed, start)


def _rules(spec: StudySpec, trial: TrialView, begin: int, schedule: Schedule, factor: float) -> dict[str, Any]:
    if schedule == "restart":
        return {"schedule": schedule, "schedule_begin": begin, "lr_factor": factor}
    # What is extended may be an extension itself, whose schedule was laid out before.
    before = trial.start
    if before is None:
        return {"schedule": schedule, "schedule_end": spec.env_steps_per_trial}
    return {
        "schedule": schedule,
        "schedule_begin": before.schedule_begin,
        "schedule_end": before.schedule_end or spec.env_steps_per_trial,
        "lr_factor": before.lr_factor,
    }


def _last_point(paths: CampaignPaths, parent: StudySnapshot, trial: TrialView) -> CheckpointView:
    root: Path = paths.study(parent.spec.study).root
    points = [c for c in trial.checkpoints if c.kind == "resume" and (root / c.path).exists()]
    if not points:
        name = parent.spec.study
        raise StudyError(
            f"trial {trial.number} of study '{name}': its points to continue from were removed to save space, so it "
            "cannot go on exactly. Next time raise checkpoints.disk_budget_gb or set checkpoints.milestones; now start "
            f"a study from its best policy with warm_start: {{study: {name}, trial: {trial.number}}}."
        )
    return max(points, key=lambda point: point.env_steps)
