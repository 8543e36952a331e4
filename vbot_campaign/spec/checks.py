"""What a study of the right shape must fulfil before anything of it may start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import Any

from vbot_campaign.errors import did_you_mean
from vbot_campaign.paths import name_problem
from vbot_campaign.spec import groups, ranges
from vbot_campaign.spec.environments import EnvironmentDeclaration, environment_names, get_environment
from vbot_campaign.spec.expression import Expression, ExpressionError, parse
from vbot_campaign.spec.problems import KeyPath, Problem, show
from vbot_campaign.spec.resolve import (
    condition_values,
    first_value,
    fixed_values,
    prior_point,
    resolve_training,
    skipped_by,
    unsearched_values,
)
from vbot_campaign.spec.starting_policy import LAYER_SIZES
from vbot_campaign.spec.study import Integer, LogUniform, PrunerSettings, StudySpec, Uniform
from vbot_campaign.spec.trainable import environment_problem, objective_problems, physics_problem
from vbot_campaign.spec.trainer import setting_problem, trainer_problems
from vbot_campaign.spec.training import CommandTrainer, WarmStartRules

_RESERVED = (
    "backups",
    "reward_library",
    "campaign.db",
    "campaign.db-lock",
    "campaign.db-wal",
    "campaign.db-shm",
    "readme.md",
)


def study_problems(study: StudySpec) -> list[Problem]:
    """Return everything that is wrong with a study, in no order; empty when it can run."""
    problems = [*run_name_problems(study.study, "study"), *_budget_problems(study), *_pruner_problems(study)]
    problems += [
        *_sampler_problems(study),
        *objective_problems(study.objective),
        *_warm_start_problems(study),
        *trainer_problems(study.trainer),
    ]
    if (unknown := environment_problem(study.environment)) is not None:
        return [*problems, unknown]
    declaration = get_environment(study.environment)
    if (unknown := physics_problem(declaration, study.physics)) is not None:
        problems.append(unknown)
    problems += [*_space_problems(study, declaration), *_fixed_problems(study, declaration)]
    problems += _condition_problems(study, declaration)
    # The rest needs a study whose parts are all in order.
    return problems or list(_whole_problems(study))


# --- one section at a time ------------------------------------------------------------------------------------------


def run_name_problems(name: str, key: str) -> Iterator[Problem]:
    """Yield what keeps a name from being that of a folder in ``runs/``; ``key`` is where it stands in its file."""
    if (problem := name_problem(name)) is not None:
        yield Problem((key,), problem)
    if name.casefold() in environment_names():
        yield Problem((key,), f"'{name}' is the name of an environment, whose runs lie in that folder; pick another.")
    if name.casefold() in _RESERVED:
        yield Problem((key,), f"'{name}' is the name of a file or folder in runs/; pick another.")


def _budget_problems(study: StudySpec) -> Iterator[Problem]:
    budget = study.budget
    totals = (budget.hours, budget.gpu_hours, budget.env_steps)
    if budget.trials is None and totals == (None, None, None):
        yield Problem(("budget",), "sets no limit; give at least one of trials, hours, gpu_hours, env_steps.")
    if budget.shares is None:
        return
    if totals == (None, None, None):
        text = "divide hours, gpu_hours or env_steps, but the budget has none of them; give one, or leave shares out."
        yield Problem(("budget", "shares"), text)
    if (whole := budget.shares.search + budget.shares.confirm + budget.shares.extend) > 1 + 1e-9:
        yield Problem(("budget", "shares"), f"add up to {show(whole)}; together they are at most 1.")


def _pruner_problems(study: StudySpec) -> Iterator[Problem]:
    pruner = study.pruner
    if pruner.pauses:
        yield from _pause_problems(pruner)
    if pruner.name != "threshold":
        return
    if pruner.lower is None and pruner.upper is None:
        yield Problem(("pruner",), "threshold needs lower (scores below it are pruned), upper, or both.")
    if pruner.lower is not None and pruner.upper is not None and pruner.lower >= pruner.upper:
        text = f"lower {show(pruner.lower)} is not below upper {show(pruner.upper)}; every score would be pruned."
        yield Problem(("pruner", "lower"), text)


def _pause_problems(pruner: PrunerSettings) -> Iterator[Problem]:
    if pruner.name not in ("rungs", "successive_halving"):
        yield Problem(
            ("pruner", "pause"), f"'{pruner.name}' has no rungs to pause at; use rungs or successive_halving."
        )
    places = [rung.at for rung in pruner.rungs]
    if places != sorted(set(places)):
        yield Problem(
            ("pruner", "rungs"), f"lie at {', '.join(map(show, places))}; each must lie above the one before it."
        )
    if pruner.dry_run:
        text = f"stops nothing, and {pruner.name} pauses; leave it out, or name a pruner that stops: noise_aware."
        yield Problem(("pruner", "dry_run"), text)
    if pruner.patience:
        text = "is for trials that are stopped; one that is paused may go on later, so leave it out."
        yield Problem(("pruner", "patience"), text)


def _sampler_problems(study: StudySpec) -> Iterator[Problem]:
    parameters = study.parameters
    if study.sampler.name == "grid":
        for name, parameter in parameters.items():
            if ranges.is_continuous(parameter):
                hint = "use type choice" if isinstance(parameter, LogUniform) else "give it a step or use type choice"
                yield Problem(
                    ("search_space", *groups.path_of(name)),
                    f"is continuous, but the grid sampler needs a finite list; {hint}.",
                )
    numeric = any(isinstance(parameter, Uniform | LogUniform | Integer) for parameter in parameters.values())
    if study.sampler.name == "cmaes" and not numeric:
        text = "'cmaes' needs at least one numeric parameter (uniform, loguniform, int); use tpe, random or grid."
        yield Problem(("sampler", "name"), text)


def _warm_start_problems(study: StudySpec) -> Iterator[Problem]:
    start = study.warm_start
    if start is None:
        return
    if (start.study is None) == (start.checkpoint is None):
        yield Problem(("warm_start",), "needs either study (whose best policy is taken) or checkpoint (a file).")
    if start.trial is not None and start.study is None:
        yield Problem(("warm_start", "trial"), "is a trial of another study; name it: {study: NAME, trial: NUMBER}.")
    if start.study == study.study:
        yield Problem(("warm_start", "study"), f"'{start.study}' is this study itself; name another one.")
    yield from (p.under("warm_start") for p in rule_problems(start.rules, study.trainer))
    for name in LAYER_SIZES:
        if f"ppo.{name}" in study.parameters:
            text = "cannot be searched with a warm_start, whose networks have their sizes already; put it under fixed."
            yield Problem(("search_space", "ppo", name), text)


def rule_problems(rules: WarmStartRules, trainer: str | CommandTrainer) -> Iterator[Problem]:
    """Yield what is wrong with what a training takes over from the policy it starts from."""
    if "policy" not in rules.load:
        yield Problem(("load",), "must have policy; without it there is nothing to start from.")
    if "optimizer" in rules.load and "value" not in rules.load:
        yield Problem(("load",), "optimizer is that of policy and value together; load value too, or leave it out.")
    for position, part in enumerate(rules.freeze):
        if part not in rules.load:
            yield Problem(("freeze", position), f"{part} is not loaded; a new one cannot stay as it is.")
    if {"policy", "value"} <= set(rules.freeze):
        yield Problem(("freeze",), "policy and value both; nothing would be trained.")
    if trainer == "skrl" and rules != WarmStartRules():
        yield Problem((), "skrl takes over networks and normalizers as they are; leave load and freeze out.")


def _space_problems(study: StudySpec, declaration: EnvironmentDeclaration) -> Iterator[Problem]:
    if not study.parameters:
        yield Problem(("search_space",), "is empty; search at least one parameter under ppo, reward or env.")
    for name, parameter in study.parameters.items():
        group, short = groups.path_of(name)
        path = ("search_space", group, short)
        if (message := groups.name_problem(declaration, str(group), str(short))) is not None:
            yield Problem(path, message)
            continue
        if group == "ppo" and (message := setting_problem(study.trainer, str(short))) is not None:
            yield Problem(path, message)
        problems = ranges.range_problems(parameter)
        problems = problems or groups.parameter_problems(declaration, str(group), str(short), parameter)
        yield from (problem.under(*path) for problem in problems)


def _fixed_problems(study: StudySpec, declaration: EnvironmentDeclaration) -> Iterator[Problem]:
    for group, entries in study.fixed.items():
        for name, value in entries.items():
            path = ("fixed", group, name)
            if (message := groups.name_problem(declaration, group, name)) is not None:
                yield Problem(path, message)
                continue
            if name in study.search_space.get(group, {}):
                yield Problem(path, f"is both searched and fixed; remove it here or under search_space.{group}.")
            yield from (problem.under(*path) for problem in groups.value_problems(declaration, group, name, value))


# --- conditions -----------------------------------------------------------------------------------------------------


def _condition_problems(study: StudySpec, declaration: EnvironmentDeclaration) -> Iterator[Problem]:
    known = [*groups.defaults(declaration)]
    searched = list(study.parameters)
    for position, (name, parameter) in enumerate(study.parameters.items()):
        if parameter.when is None:
            continue
        path = ("search_space", *groups.path_of(name), "when")
        expression, problem = _read(parameter.when, known)
        if expression is None:
            yield Problem(path, str(problem))
            continue
        for late in sorted(expression.names & set(searched[position:])):
            what = "its own value" if late == name else f"'{late}', which is declared after it"
            yield Problem(path, f"depends on {what}; a condition may use parameters declared before.")
    for index, constraint in enumerate(study.constraints):
        expression, problem = _read(constraint.skip_if, known)
        if expression is None:
            yield Problem(("constraints", index, "skip_if"), str(problem))


def _read(text: str, known: list[str]) -> tuple[Expression | None, str | None]:
    try:
        expression = parse(text)
    except ExpressionError as error:
        return None, f"{error} (in: {_one_line(text)})"
    for name in sorted(expression.names):
        if name not in known:
            near = did_you_mean(name, known)
            return (
                None,
                f"'{name}' does not exist.{near} Valid are names such as ppo.learning_rate (ppo, reward, env).",
            )
    return expression, None


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."


# --- the study as a whole -------------------------------------------------------------------------------------------


def _whole_problems(study: StudySpec) -> Iterator[Problem]:
    problems = [*_misfits(study), *_evaluations(study)]
    yield from problems
    if not problems:
        yield from _first_trial_problems(study)


def _misfits(study: StudySpec) -> Iterator[Problem]:
    """Yield values of which no combination can be trained."""
    rollouts, parts = possible_values(study, "ppo.rollouts"), possible_values(study, "ppo.mini_batches")
    envs = study.workers.num_envs
    if study.env_steps_per_trial < envs * min(rollouts):
        size = f"num_envs {envs} x rollouts {min(rollouts)} = {envs * min(rollouts)} env steps"
        text = f"{study.env_steps_per_trial} is less than one iteration ({size}); raise it or lower workers.num_envs."
        yield Problem(("env_steps_per_trial",), text)
    if not any((envs * rollout) % part == 0 for rollout, part in product(rollouts, parts)):
        text = f"no value divides num_envs {envs} x rollouts; a rollout must split into equal mini-batches."
        yield Problem(where(study, "ppo.mini_batches", "ppo.rollouts"), text)
    inner, outer = ends(study, "env.spawn_inner_radius"), ends(study, "env.spawn_outer_radius")
    if inner and outer and inner[0] > outer[1]:
        text = f"inner radius {show(inner[0])} is above outer radius {show(outer[1])}; robots spawn between the two."
        yield Problem(where(study, "env.spawn_inner_radius", "env.spawn_outer_radius"), text)


def _evaluations(study: StudySpec) -> Iterator[Problem]:
    """Yield conditions that are not true or false, tried with the first values and then with each end of each range."""
    conditions: list[tuple[KeyPath, str]] = [
        (("search_space", *groups.path_of(name), "when"), parameter.when)
        for name, parameter in study.parameters.items()
        if parameter.when is not None
    ]
    conditions += [(("constraints", i, "skip_if"), c.skip_if) for i, c in enumerate(study.constraints)]
    first = condition_values(study, {name: first_value(study, name) for name in study.parameters})
    for path, text in conditions:
        expression = parse(text)
        trials = (_complaint(expression, values) for values in _variations(study, expression, first))
        if (complaint := next((c for c in trials if c is not None), None)) is not None:
            yield Problem(path, f"{complaint} (in: {_one_line(text)})")


def _variations(study: StudySpec, expression: Expression, first: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield first
    for name, parameter in study.parameters.items():
        if name in expression.names:
            yield from ({**first, name: value} for _, value in islice(ranges.extremes(parameter), 20))


def _complaint(expression: Expression, values: Mapping[str, Any]) -> str | None:
    try:
        result = expression.evaluate(values)
    except ExpressionError as error:
        return str(error)
    return (
        None
        if isinstance(result, bool)
        else f"gives {show(result)}, which is neither true nor false; compare it with something"
    )


def _first_trial_problems(study: StudySpec) -> Iterator[Problem]:
    point = prior_point(study)
    skipped = skipped_by(study, point)
    if skipped is None:
        resolve_training(study, point)
        return
    for index, constraint in enumerate(study.constraints):
        if constraint is skipped:
            shown = ", ".join(f"{n} = {show(point[n])}" for n in sorted(parse(constraint.skip_if).names) if n in point)
            text = f"excludes the first trial, which has the priors ({shown}); change a prior or the condition."
            yield Problem(("constraints", index, "skip_if"), text)
            return
    yield Problem(("search_space",), f"the first trial, which has the priors, cannot be trained: {skipped.reason}")


def possible_values(study: StudySpec, name: str) -> list[Any]:
    """Return all values a whole-number setting can take in a study: searched, fixed or the default."""
    parameter = study.parameters.get(name)
    values = [] if parameter is None else list(ranges.discrete_values(parameter) or [])
    return values if parameter is not None and parameter.when is None else [*values, unsearched_values(study)[name]]


def ends(study: StudySpec, name: str) -> tuple[float, float] | None:
    """Return the smallest and largest value a number can take in a study; None where the environment lacks it."""
    plain = unsearched_values(study)
    if name not in plain:
        return None
    parameter = study.parameters.get(name)
    values = [] if parameter is None else [value for _, value in ranges.extremes(parameter)]
    if parameter is None or parameter.when is not None:
        values.append(plain[name])
    return min(values), max(values)


def where(study: StudySpec, *names: str) -> KeyPath:
    """Return the path of the first of these names that the study searches or fixes."""
    for name in names:
        if name in study.parameters:
            return ("search_space", *groups.path_of(name))
        if name in fixed_values(study):
            return ("fixed", *groups.path_of(name))
    return groups.path_of(names[0])
