"""What a study file would run, before it runs: the content of ``vbot-campaign check``."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vbot_campaign.spec import ranges
from vbot_campaign.spec.budget import phase_budget
from vbot_campaign.spec.checks import ends, possible_values
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.problems import show
from vbot_campaign.spec.resolve import fixed_values, prior_point, resolve_training
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.spec.trainer import trainer_words

WIDTH = 80
FEW_ITERATIONS = 20


@dataclass(frozen=True)
class Dimension:
    """One searched parameter."""

    name: str
    kind: str
    range: str
    prior: Any
    """Its value in the first trial; None where a condition keeps it out."""
    when: str | None


@dataclass(frozen=True)
class StudyPlan:
    """What a study would run on a machine. Times assume that no trial is pruned, so they are upper bounds."""

    study: str
    environment: str
    physics: str
    trainer: str
    """Its name, or its command line."""
    sampler: str
    pruner: str
    objective: dict[str, float]
    """Weight of each score part."""
    dimensions: tuple[Dimension, ...]
    fixed: dict[str, Any]
    warm_start: str | None
    """Where every trial starts, in words; None for networks of random weights."""
    first_trial: dict[str, Any]
    env_steps_per_trial: int
    env_steps_per_iteration: int
    """Of the first trial."""
    iterations: int
    """Of the first trial."""
    trials: int | None
    """Trials that the budget of trials and env steps allows; None when only hours limit the study."""
    env_steps: int | None
    """Env steps of all these trials."""
    hours_budget: float | None
    slots: int
    env_steps_per_s: float
    hours: float
    """Estimated length of the study: of all trials, or the budget of hours where that is shorter."""
    trials_in_time: int
    """Trials expected to fit into that time, without pruning."""
    warnings: tuple[str, ...]


def describe(study: StudySpec, *, slots: int, env_steps_per_s: float) -> StudyPlan:
    """Return what a study would run.

    Args:
        study: A study that passed its checks.
        slots: Trainings that run at once.
        env_steps_per_s: Speed of all slots together.
    """
    first = prior_point(study)
    training = resolve_training(study, first)
    trials = _trials(study)
    all_hours = math.inf if trials is None else _hours(study, trials, slots, env_steps_per_s)
    limit = phase_budget(study.budget, "search").hours
    hours = min(all_hours, math.inf if limit is None else limit)
    return StudyPlan(
        study=study.study,
        environment=study.environment,
        physics=study.physics,
        trainer=trainer_words(study.trainer),
        sampler=f"{study.sampler.name}, seed {study.sampler.seed}, {study.sampler.startup_trials} random trials first",
        pruner=_pruner(study),
        objective={name: term.weight for name, term in study.objective.terms().items()},
        dimensions=tuple(_dimensions(study, first)),
        fixed=fixed_values(study),
        warm_start=study.warm_start.words() if study.warm_start else None,
        first_trial=first,
        env_steps_per_trial=study.env_steps_per_trial,
        env_steps_per_iteration=training.steps_per_iteration,
        iterations=training.iterations,
        trials=trials,
        env_steps=None if trials is None else trials * study.env_steps_per_trial,
        hours_budget=limit,
        slots=slots,
        env_steps_per_s=env_steps_per_s,
        hours=hours,
        trials_in_time=_trials_in(study, hours, trials, slots, env_steps_per_s),
        warnings=tuple(_warnings(study, trials, all_hours, limit)),
    )


def _trials(study: StudySpec) -> int | None:
    limits, budget = [], phase_budget(study.budget, "search")
    if budget.trials is not None:
        limits.append(budget.trials)
    if budget.env_steps is not None:
        limits.append(-(-budget.env_steps // study.env_steps_per_trial))
    return min(limits, default=None)


def _hours(study: StudySpec, trials: int, slots: int, env_steps_per_s: float) -> float:
    rounds = -(-trials // slots)
    return rounds * study.env_steps_per_trial / (env_steps_per_s / slots) / 3600


def _trials_in(study: StudySpec, hours: float, trials: int | None, slots: int, env_steps_per_s: float) -> int:
    # A hair more than the division, so that hours made from whole rounds give these rounds back.
    rounds = int(hours * 3600 * env_steps_per_s / slots / study.env_steps_per_trial + 1e-6)
    return rounds * slots if trials is None else min(trials, rounds * slots)


def _pruner(study: StudySpec) -> str:
    pruner = study.pruner
    if pruner.name == "none":
        return "none: every trial is trained to its end"
    if pruner.name == "rungs":
        rungs = (f"all but the best {rung.keep:.0%} at {rung.at:.0%} of a trial" for rung in pruner.rungs)
        return f"rungs, pauses {', '.join(rungs)}"
    patience = f", patience {pruner.patience}" if pruner.patience else ""
    return f"{pruner.name}, not before {pruner.warmup:.0%} of a trial{patience}"


def _dimensions(study: StudySpec, first: dict[str, Any]) -> Iterator[Dimension]:
    for name, parameter in study.parameters.items():
        text = ranges.range_text(parameter)
        yield Dimension(name, parameter.type, text, first.get(name), parameter.when)


# --- warnings -------------------------------------------------------------------------------------------------------


def _warnings(study: StudySpec, trials: int | None, hours: float, limit: float | None) -> Iterator[str]:
    yield from _yardstick(study)
    yield from _short_trials(study)
    yield from _wrong_signs(study)
    yield from _misfits(study)
    if limit is not None and math.isfinite(hours) and hours > 1.5 * limit:
        yield (
            f"The budget of {limit:g} hours is not enough for {trials} trials: they take about {hours:.1f} hours "
            "unless many are pruned. Raise budget.hours, or lower budget.trials or env_steps_per_trial."
        )
    if trials is not None and study.budget.trials is not None and trials < study.budget.trials:
        yield f"budget.env_steps ends the study after {trials} of {study.budget.trials} trials, unless some are pruned."
    if trials == 1:  # nothing to choose and nothing to compare with
        return
    if trials is not None and study.sampler.name in ("tpe", "gp", "cmaes") and trials <= study.sampler.startup_trials:
        yield (
            f"All {trials} trials are drawn at random: sampler.startup_trials is {study.sampler.startup_trials}. "
            f"Lower it so that {study.sampler.name} gets to choose."
        )
    if trials is not None and study.pruner.name in ("median", "percentile") and trials <= study.pruner.least_trials:
        yield f"No trial can be pruned: pruner.startup_trials is {study.pruner.least_trials} of {trials} trials."


def _yardstick(study: StudySpec) -> Iterator[str]:
    terms = sorted(study.search_space.get("reward", {}))
    if terms and "episode_reward_mean" in study.objective.root:
        yield (
            "THE SCORE IS MEASURED WITH A YARDSTICK THAT EACH TRIAL BENDS. The study searches reward weights "
            f"({', '.join(terms)}), and objective.episode_reward_mean scores trials by that same reward: a trial wins "
            "by paying itself more, not by walking better. Score by success_rate and goal_progress, or fix the weights."
        )


def _short_trials(study: StudySpec) -> Iterator[str]:
    rollouts = max(possible_values(study, "ppo.rollouts"))
    size = study.workers.num_envs * rollouts
    if size * FEW_ITERATIONS > study.env_steps_per_trial:
        yield (
            f"A trial may have as few as {-(-study.env_steps_per_trial // size)} iterations (num_envs "
            f"{study.workers.num_envs} x rollouts {rollouts} = {size} env steps each), too few to tell good values "
            "from bad. Raise env_steps_per_trial or lower workers.num_envs."
        )


def _wrong_signs(study: StudySpec) -> Iterator[str]:
    declaration = get_environment(study.environment)
    for name, parameter in study.search_space.get("reward", {}).items():
        usual = declaration.rewards[name].default
        if any(value * usual < 0 for _, value in ranges.extremes(parameter)):
            kind = "penalty" if usual < 0 else "reward"
            yield f"reward.{name} is a {kind} ({show(usual)} by default), but its range includes the other sign."


def _misfits(study: StudySpec) -> Iterator[str]:
    envs = study.workers.num_envs
    rollouts, parts = possible_values(study, "ppo.rollouts"), possible_values(study, "ppo.mini_batches")
    if len(rollouts) * len(parts) <= 10_000 and any((envs * r) % p for r in rollouts for p in parts):
        yield (
            "Some combinations of ppo.rollouts and ppo.mini_batches do not split into equal mini-batches; "
            "they are drawn again."
        )
    inner, outer = ends(study, "env.spawn_inner_radius"), ends(study, "env.spawn_outer_radius")
    if inner and outer and inner[1] > outer[0]:
        yield "Some combinations have env.spawn_inner_radius above env.spawn_outer_radius; they are drawn again."


# --- text -----------------------------------------------------------------------------------------------------------


def render(plan: StudyPlan) -> str:
    """Return a plan as plain text, at most 80 columns wide, without a newline at its end."""
    lines = [
        f"Study {plan.study}",
        *_facts(plan),
        "",
        f"Searched ({len(plan.dimensions)}), with the first trial",
        *_table(plan),
    ]
    if plan.fixed:
        lines += ["", "Fixed", *_wrapped(_assignments(plan.fixed))]
    for warning in plan.warnings:
        lines += ["", render_warning(warning)]
    return "\n".join(lines)


def _facts(plan: StudyPlan) -> Iterator[str]:
    parts = ", ".join(f"{name} {weight:g}" for name, weight in plan.objective.items())
    facts = {
        "environment": f"{plan.environment} on {plan.physics}",
        **({"trainer": plan.trainer} if plan.trainer != "builtin" else {}),
        **({"start": f"every trial from {plan.warm_start}"} if plan.warm_start else {}),
        "score": parts,
        "sampler": plan.sampler,
        "pruner": plan.pruner,
        "trial": f"{plan.env_steps_per_trial:,} env steps = {plan.iterations} iterations of "
        f"{plan.env_steps_per_iteration:,}",
        "budget": _budget(plan),
        "time": f"about {_duration(plan.hours)} on {plan.slots} slot{'s' * (plan.slots != 1)} at "
        f"{plan.env_steps_per_s:,.0f} env steps/s in all, less what is pruned",
    }
    for name, text in facts.items():
        yield from textwrap.wrap(f"  {name:<12} {text}", WIDTH, subsequent_indent=" " * 15)


def _budget(plan: StudyPlan) -> str:
    parts = []
    if plan.trials is not None:
        parts.append(f"{plan.trials} trials = {plan.env_steps:,} env steps")
    if plan.hours_budget is not None:
        parts.append(f"{plan.hours_budget:g} hours (about {plan.trials_in_time} trials without pruning)")
    return ", ".join(parts)


def _duration(hours: float) -> str:
    minutes = max(1, round(hours * 60))
    if minutes < 120:
        return f"{minutes} minute{'s' * (minutes != 1)}"
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"


def _table(plan: StudyPlan) -> Iterator[str]:
    width = min(max((len(d.name) for d in plan.dimensions), default=0), 44)
    for dimension in plan.dimensions:
        text = f"  {dimension.name:<{width}}  {dimension.kind:<11}  {dimension.range}; "
        text += "not in the first" if dimension.prior is None else f"first {_value(dimension.prior)}"
        if dimension.when:
            text += f"; when {dimension.when}"
        yield from textwrap.wrap(text, WIDTH, subsequent_indent=" " * 6)


def _assignments(values: dict[str, Any]) -> list[str]:
    return [f"{name} = {_value(value)}" for name, value in values.items()]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else show(value)


def _wrapped(lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(f"  {line}", WIDTH, subsequent_indent="      ")


def render_warning(warning: str) -> str:
    """Return a warning as text, at most `WIDTH` columns wide; a path stays whole, so that it can be copied."""
    return textwrap.fill(
        f"WARNING: {warning}", WIDTH, subsequent_indent="         ", break_long_words=False, break_on_hyphens=False
    )
