"""From a plan to what its stages train and search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from vbot_campaign.spec import groups
from vbot_campaign.spec.plan import PlanSpec, Stage
from vbot_campaign.spec.problems import Problem
from vbot_campaign.spec.shape import check_shape
from vbot_campaign.spec.study import Budget, PrunerSettings, SamplerSettings, StudySpec, WarmStart
from vbot_campaign.spec.training import PpoSettings, TrainingSpec

Phase = Literal["search", "confirm", "train"]
"""Parts of a stage that train, in their order."""


def stage_values(
    plan: PlanSpec, stage: Stage, found: Mapping[str, Any] | None = None
) -> dict[groups.Group, dict[str, Any]]:
    """Return a stage's settings by group: those of the plan, then what was found, then its own in their place.

    Args:
        plan: The plan.
        stage: The stage.
        found: What the searches of the stages it starts from found best, by name (``ppo.learning_rate``).
    """
    values: dict[groups.Group, dict[str, Any]] = {"ppo": {**plan.ppo}, "reward": {**plan.reward}, "env": {**plan.env}}
    for name, value in (found or {}).items():
        group, short = groups.split_name(name)
        values[group][short] = value
    for group in groups.GROUPS:
        values[group].update(getattr(stage, group))
    factor = stage.warm_start.learning_rate_multiplier if stage.warm_start is not None else 1.0
    if factor != 1.0:
        usual = PpoSettings.model_fields["learning_rate"].default
        values["ppo"]["learning_rate"] = values["ppo"].get("learning_rate", usual) * factor
    return values


def stage_training(plan: PlanSpec, stage: Stage) -> tuple[TrainingSpec | None, list[Problem]]:
    """Return the full training of a stage, before its search has said what is best, or what is wrong with its shape."""
    return check_shape(
        TrainingSpec,
        {
            **_common(plan, stage),
            **stage_values(plan, stage),
            "env_steps": stage.train.env_steps,
            "num_envs": plan.workers.num_envs,
        },
    )


def study_name(plan: PlanSpec, stage: Stage, phase: Phase) -> str:
    """Return the name of a stage's study; that of a confirmation is the search's with ``.confirm`` behind it."""
    name = f"{plan.plan}.{stage.stage}"
    return f"{name}.search.confirm" if phase == "confirm" else f"{name}.{phase}"


def stage_study(
    plan: PlanSpec, stage: Stage, *, found: Mapping[str, Any] | None = None, start: WarmStart | None = None
) -> StudySpec | None:
    """Return the study that searches a stage, or None for a stage without a search.

    Args:
        plan: The plan.
        stage: The stage.
        found: See `stage_values`.
        start: What its trials start from; for a check before anything was trained, it may be left out.
    """
    search = stage.search
    if search is None:
        return None
    fixed = _unsearched(stage, stage_values(plan, stage, found))
    for group in groups.GROUPS:
        fixed[group].update(search.fixed.get(group, {}))
    if start is None and stage.warm_start is not None:
        start = WarmStart(checkpoint=stage.warm_start.file or "of an earlier stage")
    return StudySpec(
        **_common_models(plan, stage),
        study=study_name(plan, stage, "search"),
        env_steps_per_trial=search.env_steps_per_trial,
        budget=Budget(trials=search.trials, hours=search.hours),
        sampler=search.sampler,
        pruner=search.pruner,
        search_space=search.search_space,
        fixed=fixed,
        constraints=search.constraints,
        warm_start=start,
        workers=plan.workers,
        alerts=plan.alerts,
    )


def training_study(
    plan: PlanSpec, stage: Stage, *, trials: int, found: Mapping[str, Any] | None = None, start: WarmStart | None = None
) -> StudySpec:
    """Return the study whose queued trials are the full trainings of a stage.

    Args:
        plan: The plan.
        stage: The stage.
        trials: Trainings so far.
        found: See `stage_values`.
        start: What they start from.
    """
    common = _common_models(plan, stage)
    common["checkpoints"] = plan.checkpoints.model_copy(update={"milestones": _milestones(plan, stage)})
    return StudySpec(
        **common,
        study=study_name(plan, stage, "train"),
        env_steps_per_trial=stage.train.env_steps,
        budget=Budget(trials=trials),
        sampler=SamplerSettings(name="queue"),
        pruner=PrunerSettings(name="none"),
        search_space=stage.search.search_space if stage.search is not None else {},
        fixed=_unsearched(stage, stage_values(plan, stage, found)),
        warm_start=start,
        workers=plan.workers,
        alerts=plan.alerts.model_copy(update={"no_improvement_trials": 0}),
    )


def gate_steps(plan: PlanSpec, stage: Stage) -> list[int]:
    """Return the env steps of the report points whose policies must pass the gate beside the best one, in order."""
    patience = stage.gate.patience if stage.gate is not None else 1
    training = TrainingSpec(env_steps=stage.train.env_steps, report_points=plan.report_points)
    return [training.report_step(point) for point in range(plan.report_points - patience + 2, plan.report_points + 1)]


def _milestones(plan: PlanSpec, stage: Stage) -> tuple[int, ...] | int:
    # What the gate looks at must stay on disk.
    own, steps = plan.checkpoints.milestones, gate_steps(plan, stage)
    if not steps:
        return own
    given = range(own, stage.train.env_steps + 1, own) if isinstance(own, int) else own
    return tuple(sorted({*given, *steps}))


def _unsearched(stage: Stage, values: dict[groups.Group, dict[str, Any]]) -> dict[groups.Group, dict[str, Any]]:
    space = stage.search.search_space if stage.search is not None else {}
    return {
        group: {name: value for name, value in entries.items() if name not in space.get(group, {})}
        for group, entries in values.items()
    }


def env_steps(plan: PlanSpec, stage: Stage) -> int:
    """Return the env steps of a stage if nothing is pruned and its gate passes at the first try."""
    total = stage.train.env_steps * stage.train.top
    if stage.search is not None:
        total += stage.search.trials * stage.search.env_steps_per_trial
        if stage.confirm is not None:
            steps = stage.confirm.env_steps or stage.search.env_steps_per_trial
            total += stage.confirm.top * stage.confirm.seeds * steps
    return total


def _common_models(plan: PlanSpec, stage: Stage) -> dict[str, Any]:
    return {
        "environment": stage.environment or plan.environment,
        "physics": stage.physics or plan.physics,
        "trainer": plan.trainer,
        "seed": plan.seed,
        "objective": plan.objective,
        "evaluation": plan.evaluation,
        "checkpoints": plan.checkpoints,
        "report_points": plan.report_points,
    }


def _common(plan: PlanSpec, stage: Stage) -> dict[str, Any]:
    values = _common_models(plan, stage)
    return {n: v.model_dump(mode="json") if hasattr(v, "model_dump") else v for n, v in values.items()}
