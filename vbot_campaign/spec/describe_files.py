"""Trainings, plans, search spaces and reward files in words: the content of ``vbot-campaign check`` for these."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from vbot_campaign.spec import groups, ranges
from vbot_campaign.spec.describe import WIDTH
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.objective import Objective
from vbot_campaign.spec.plan import LOWER_IS_BETTER, Gate, PlanSpec, Stage
from vbot_campaign.spec.plan_checks import total_env_steps
from vbot_campaign.spec.problems import show
from vbot_campaign.spec.reward_file import RewardFile
from vbot_campaign.spec.search_file import SearchSpaceFile, select
from vbot_campaign.spec.stages import env_steps
from vbot_campaign.spec.trainer import trainer_words
from vbot_campaign.spec.training_file import TrainingFile


def render_training(training: TrainingFile) -> str:
    """Return what a training file would train, at most 80 columns wide."""
    start = "networks of random weights" if training.checkpoint is None else f"the policy of {training.checkpoint}"
    facts = {
        "environment": f"{training.environment} on {training.physics}",
        **({"trainer": trainer_words(training.trainer)} if training.trainer != "builtin" else {}),
        "start": start,
        "length": f"{training.env_steps:,} env steps = {training.iterations} iterations of "
        f"{training.steps_per_iteration:,}",
        "score": _parts(training.objective),
    }
    changed = list(_changed(training))
    lines = [f"Training {training.run_tag}".rstrip(), *_facts(facts), "", "Differs from the defaults"]
    return "\n".join([*lines, *(_wrapped(changed) if changed else ["  nothing"])])


def _changed(training: TrainingFile) -> Iterator[str]:
    defaults = groups.defaults(get_environment(training.environment))
    for group in groups.GROUPS:
        given = training.ppo.model_dump() if group == "ppo" else getattr(training, group)
        for name, value in given.items():
            usual = defaults[f"{group}.{name}"]
            if not ranges.same(value, usual):
                yield f"{group}.{name} = {_value(value)} (default {_value(usual)})"


def render_plan(plan: PlanSpec) -> str:
    """Return the stages of a plan, at most 80 columns wide."""
    facts = {
        **({"about": plan.about} if plan.about else {}),
        "environment": f"{plan.environment} on {plan.physics}",
        "score": _parts(plan.objective),
        "budget": _budget(plan),
        "length": f"{total_env_steps(plan):,} env steps, if nothing is pruned and each gate passes at once",
    }
    lines = [f"Plan {plan.plan}", *_facts(facts)]
    for number, stage in enumerate(plan.stages, 1):
        lines += ["", f"{number}. {stage.stage}", *_facts(_stage_facts(plan, stage))]
    return "\n".join(lines)


def _budget(plan: PlanSpec) -> str:
    budget, shares = plan.budget, plan.budget.shares
    limits = [f"{budget.hours:g} hours"] if budget.hours is not None else []
    limits += [f"{budget.gpu_hours:g} GPU-hours"] if budget.gpu_hours is not None else []
    limits += [f"{budget.env_steps:,} env steps"] if budget.env_steps is not None else []
    divided = f"search {shares.search:.0%}, confirm {shares.confirm:.0%}, train {shares.train:.0%}"
    return f"{', '.join(limits) or 'no limit'}; {divided}"


def _stage_facts(plan: PlanSpec, stage: Stage) -> dict[str, str]:
    facts = {"about": stage.about, "start": _start(stage), "settings": ", ".join(_stage_changes(plan, stage))}
    facts["search"] = _search(stage)
    if stage.confirm is not None:
        facts["confirm"] = f"the best {stage.confirm.top} on {stage.confirm.seeds} more seeds"
    top = f", the best {stage.train.top}" if stage.train.top > 1 else ""
    facts["train"] = f"{stage.train.env_steps:,} env steps{top}"
    facts["gate"] = _gate(stage.gate)
    share = f", {stage.share:.0%} of the budget" if stage.share is not None else ""
    facts["length"] = f"{env_steps(plan, stage):,} env steps{share}"
    return {name: text for name, text in facts.items() if text}


def _stage_changes(plan: PlanSpec, stage: Stage) -> Iterator[str]:
    """Yield the settings of a stage that differ from those of the plan."""
    defaults = groups.defaults(get_environment(stage.environment or plan.environment))
    for group in groups.GROUPS:
        for name, value in getattr(stage, group).items():
            if not ranges.same(value, getattr(plan, group).get(name, defaults[f"{group}.{name}"])):
                yield f"{group}.{name} = {_value(value)}"


def _start(stage: Stage) -> str:
    start = stage.warm_start
    if start is None:
        return "networks of random weights"
    source = f"the {start.take} policy of {start.stage}" if start.stage is not None else f"the policy of {start.file}"
    text = f"{source}: {', '.join(start.load)}"
    text += f"; frozen: {', '.join(start.freeze)}" if start.freeze else ""
    text += f"; learning rate x {start.learning_rate_multiplier:g}" if start.learning_rate_multiplier != 1 else ""
    return text + ("" if start.reset_schedule else "; the schedule goes on")


def _search(stage: Stage) -> str:
    if stage.search is None:
        return ""
    names = [f"{group}.{name}" for group, entries in stage.search.search_space.items() for name in entries]
    limit = f", {stage.search.hours:g} hours at most" if stage.search.hours is not None else ""
    size = f"{stage.search.trials} trials of {stage.search.env_steps_per_trial:,} env steps{limit}"
    return f"{size}, over {len(names)} parameters: {', '.join(names)}"


def _gate(gate: Gate | None) -> str:
    if gate is None:
        return "none"
    sign = "<=" if gate.metric in LOWER_IS_BETTER else ">="
    text = f"{gate.metric} {sign} {gate.threshold:g} over {gate.seeds} x {gate.episodes} episodes"
    text += f", {gate.patience} report points in a row" if gate.patience > 1 else ""
    text += f", not before {gate.min_env_steps:,} env steps" if gate.min_env_steps else ""
    after = "stop" if gate.otherwise == "stop" else "go on with the best"
    return f"{text}; after {gate.tries} {'try' if gate.tries == 1 else 'tries'} without: {after}"


def render_search_space(space: SearchSpaceFile) -> str:
    """Return the ranges and presets of a search-space file, at most 80 columns wide."""
    lines = [f"Search space for {space.environment}", *(_wrapped([space.about]) if space.about else [])]
    for group, entries in space.search_space.items():
        lines += ["", f"{group} ({len(entries)})", *_wrapped(list(_ranges(entries)))]
    for preset, chosen in space.presets.items():
        selection = select(space, preset)
        lines += ["", f"Preset {preset}: {len(selection.searched)} searched, {len(selection.fixed)} fixed"]
        fixed = [f"{group}.{n} = {_value(v)}" for group, entries in chosen.fixed.items() for n, v in entries.items()]
        facts = {"about": chosen.about, "searched": ", ".join(chosen.search), "fixed": ", ".join(fixed)}
        lines += _facts({name: text for name, text in facts.items() if text})
    return "\n".join(lines)


def _ranges(entries: Mapping[str, ranges.Kind]) -> Iterator[str]:
    width = max(map(len, entries), default=0)
    for name, parameter in entries.items():
        prior = f"; prior {_value(parameter.prior)}" if parameter.prior is not None else ""
        yield f"{name:<{width}}  {parameter.type} {ranges.range_text(parameter)}{prior}"


def render_rewards(rewards: RewardFile) -> str:
    """Return the weights of a reward file by category beside the defaults, at most 80 columns wide."""
    declared = get_environment(rewards.environment).rewards
    lines = [f"Reward weights for {rewards.environment}", *(_wrapped([rewards.about]) if rewards.about else [])]
    width = max((len(name) for terms in rewards.reward.values() for name in terms), default=0)
    for category, terms in rewards.reward.items():
        lines += ["", category]
        for name, value in terms.items():
            usual = declared[name].default
            note = "" if value == usual else f"   default {show(float(usual))}"
            lines.append(f"  {name:<{width}}  {show(value):>10}{note}")
    for preset, chosen in rewards.presets.items():
        changes = [f"{name} {show(value)}" for terms in chosen.reward.values() for name, value in terms.items()]
        facts = {"about": chosen.about, "changes": ", ".join(changes)}
        lines += ["", f"Preset {preset}", *_facts({name: text for name, text in facts.items() if text})]
    return "\n".join(lines)


# --- text -----------------------------------------------------------------------------------------------------------


def _parts(objective: Objective) -> str:
    return ", ".join(f"{name} {term.weight:g}" for name, term in objective.terms().items())


def _facts(facts: Mapping[str, str]) -> Iterator[str]:
    for name, text in facts.items():
        yield from textwrap.wrap(f"  {name:<12} {text}", WIDTH, subsequent_indent=" " * 15, break_on_hyphens=False)


def _wrapped(lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(f"  {line}", WIDTH, subsequent_indent="      ")


def _value(value: Any) -> str:
    return value if isinstance(value, str) else show(value)
