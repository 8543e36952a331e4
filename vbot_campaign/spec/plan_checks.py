"""What a plan of the right shape must fulfil before anything of it may start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vbot_campaign.errors import did_you_mean
from vbot_campaign.paths import MAX_NAME
from vbot_campaign.spec import groups
from vbot_campaign.spec.checks import rule_problems, run_name_problems, study_problems
from vbot_campaign.spec.environments import environment_names, get_environment
from vbot_campaign.spec.plan import LOWER_IS_BETTER, Gate, PlanSpec, Stage
from vbot_campaign.spec.problems import KeyPath, Problem, show
from vbot_campaign.spec.stages import env_steps, stage_study, stage_training, stage_values, study_name
from vbot_campaign.spec.starting_policy import LAYER_SIZES
from vbot_campaign.spec.trainable import iteration_problem, objective_problems, training_problems
from vbot_campaign.spec.trainer import trainer_problems
from vbot_campaign.spec.training import TrainingSpec

_RATES = ("success_rate", "survival_rate", "goal_progress")


def plan_problems(plan: PlanSpec, folder: Path) -> list[Problem]:
    """Return everything that is wrong with a plan, in no order; empty when it can run.

    Args:
        plan: The plan.
        folder: Where relative paths in it start.
    """
    problems = [*run_name_problems(plan.plan, "plan"), *_stage_names(plan), *_budgets(plan)]
    problems += [*objective_problems(plan.objective), *trainer_problems(plan.trainer)]
    for index, stage in enumerate(plan.stages):
        here: KeyPath = ("stages", index)
        problems += [problem.under(*here) for problem in (*_confirmation(stage), *_warm_start(plan, index, folder))]
    # The rest needs settings that can be trained.
    return problems or [found for index in range(len(plan.stages)) for found in _settings(plan, index)]


# --- the plan as a whole --------------------------------------------------------------------------------------------


def _stage_names(plan: PlanSpec) -> Iterator[Problem]:
    for index, stage in enumerate(plan.stages):
        path: KeyPath = ("stages", index, "stage")
        if plan.position(stage.stage) != index:
            yield Problem(path, f"'{stage.stage}' is the name of an earlier stage too; give each its own.")
        if len(name := study_name(plan, stage, "confirm" if stage.search else "train")) > MAX_NAME:
            yield Problem(path, f"with the plan's name it is too long for a study: '{name}' has {len(name)} letters.")


def _budgets(plan: PlanSpec) -> Iterator[Problem]:
    shares = plan.budget.shares
    if abs((total := shares.search + shares.confirm + shares.train) - 1) > 1e-6:
        text = f"search {show(shares.search)} + confirm {show(shares.confirm)} + train {show(shares.train)}"
        yield Problem(("budget", "shares"), f"{text} = {total:g}; they must add up to 1.")
    given = [stage.share for stage in plan.stages if stage.share is not None]
    if given and plan.budget.hours is None and plan.budget.gpu_hours is None and plan.budget.env_steps is None:
        yield Problem(
            ("budget",), "the stages name shares of it, but it sets no limit; give hours, gpu_hours, env_steps."
        )
    if (total := sum(given)) > 1 + 1e-6 or (total > 1 - 1e-6 and len(given) < len(plan.stages)):
        left = "more than all of it" if total > 1 + 1e-6 else "which leaves nothing for the stages without one"
        yield Problem(("stages",), f"their shares of the budget add up to {total:g}, {left}.")
    needed = sum(stage.train.env_steps for stage in plan.stages)
    if plan.budget.env_steps is not None and plan.budget.env_steps < needed:
        text = (
            f"{plan.budget.env_steps} is less than the {needed} env steps that one full training of each stage takes."
        )
        yield Problem(("budget", "env_steps"), text)


# --- one stage at a time --------------------------------------------------------------------------------------------


def _confirmation(stage: Stage) -> Iterator[Problem]:
    if stage.search is None:
        if stage.confirm is not None:
            yield Problem(("confirm",), "compares the best trials of a search; add a search, or leave it out.")
        if stage.train.top > 1:
            yield Problem(("train", "top"), f"{stage.train.top} of a search, but the stage has none; leave it out.")
        return
    for key, part in (("confirm", stage.confirm), ("train", stage.train)):
        if part is not None and part.top > stage.search.trials:
            yield Problem((key, "top"), f"{part.top} is more than the {stage.search.trials} trials of the search.")


def _warm_start(plan: PlanSpec, index: int, folder: Path) -> Iterator[Problem]:
    start = plan.stages[index].warm_start
    if start is None:
        return
    if (start.stage is None) == (start.file is None):
        yield Problem(("warm_start",), "needs either stage (an earlier one) or file (a policy).")
    elif start.file is not None and not (folder / start.file).exists():
        near = did_you_mean(Path(start.file).name, [path.name for path in (folder / start.file).parent.glob("*")])
        text = f"no policy {(folder / start.file).as_posix()}.{near} A relative path starts at the plan's folder."
        yield Problem(("warm_start", "file"), text)
    if start.stage is None and "take" in start.model_fields_set:
        yield Problem(("warm_start", "take"), "chooses a checkpoint of a stage; with a file leave it out.")
    if start.stage is not None and (message := _order_problem(plan, index, start.stage)) is not None:
        yield Problem(("warm_start", "stage"), message)
    yield from (problem.under("warm_start") for problem in rule_problems(start.rules, plan.trainer))


def _order_problem(plan: PlanSpec, index: int, wanted: str) -> str | None:
    """Say that a stage cannot start from another one, or return None."""
    own, position = plan.stages[index].stage, plan.position(wanted)
    if position is None:
        names = [stage.stage for stage in plan.stages]
        earlier = ", ".join(names[:index]) or "none, it is the first"
        return f"no stage '{wanted}'.{did_you_mean(wanted, names)} Earlier stages: {earlier}."
    if position < index:
        return None
    chain = _chain(plan, index)
    if chain[-1] == own:
        return f"goes round in a circle: {' <- '.join(chain)}. A stage may start from an earlier one only."
    return f"'{wanted}' comes after '{own}'; stages run in the order of the file, so move it up."


def _chain(plan: PlanSpec, index: int) -> list[str]:
    """Follow the warm starts from a stage until there is none, or one appears again."""
    chain = [plan.stages[index].stage]
    position: int | None = index
    while position is not None and chain.count(chain[-1]) < 2:
        start = plan.stages[position].warm_start
        if start is None or start.stage is None:
            break
        chain.append(start.stage)
        position = plan.position(start.stage)
    return chain


# --- settings -------------------------------------------------------------------------------------------------------


def _settings(plan: PlanSpec, index: int) -> list[Problem]:
    stage = plan.stages[index]
    training, problems = stage_training(plan, stage)
    if training is not None:
        problems = training_problems(training)
        short = None if problems else iteration_problem(training)
        problems += [short] if short else []
    if problems or training is None:
        return [_placed(plan, index, problem) for problem in problems]
    found = [*_gate(plan, stage, training), *_layer_sizes(plan, index, training)]
    found = [problem.under("stages", index) for problem in found]
    study = stage_study(plan, stage)
    return found + [_placed(plan, index, problem) for problem in (study_problems(study) if study else [])]


_OF_SEARCH = ("search_space", "sampler", "pruner", "constraints", "env_steps_per_trial")


def _placed(plan: PlanSpec, index: int, problem: Problem) -> Problem:
    """Return a problem of a stage's training or study at the place in the plan that it comes from."""
    stage, here = plan.stages[index], ("stages", index)
    path = problem.path[1:] if problem.path[:1] == ("fixed",) else problem.path
    key = path[0] if path else ""
    if key in groups.GROUPS:
        return Problem(_setting_place(plan, index, path), problem.message)
    if key in _OF_SEARCH:
        return problem.under(*here, "search")
    if key == "env_steps":
        return problem.under(*here, "train")
    if key == "num_envs":
        return problem.under("workers")
    if key in ("environment", "physics") and getattr(stage, str(key)) is not None:
        return problem.under(*here)
    return problem if key in PlanSpec.model_fields else Problem(here, str(problem))


def _setting_place(plan: PlanSpec, index: int, path: KeyPath) -> KeyPath:
    group, name = str(path[0]), path[1] if len(path) > 1 else ""
    stage = plan.stages[index]
    if stage.search is not None and name in dict(stage.search.fixed).get(group, {}):  # type: ignore[call-overload]
        return ("stages", index, "search", "fixed", *path)
    if name not in getattr(stage, group) and name in getattr(plan, group):
        return path
    return ("stages", index, *path)


def _layer_sizes(plan: PlanSpec, index: int, training: TrainingSpec) -> Iterator[Problem]:
    start = plan.stages[index].warm_start
    position = plan.position(start.stage) if start is not None and start.stage is not None else None
    if position is None:
        return
    before = plan.stages[position]
    if before.search is not None and before.search.search_space.get("ppo", {}).keys() & set(LAYER_SIZES):
        return  # known only when that search is over
    earlier = stage_values(plan, before)["ppo"]
    for name in LAYER_SIZES:
        wanted = list(getattr(training.ppo, name))
        found = list(earlier.get(name, training.ppo.__class__.model_fields[name].default))
        if found != wanted:
            text = f"{show(wanted)} differs from the {show(found)} of stage '{before.stage}', whose networks it loads."
            yield Problem(("ppo", name), text)


# --- gates ----------------------------------------------------------------------------------------------------------


def _gate(plan: PlanSpec, stage: Stage, training: TrainingSpec) -> Iterator[Problem]:
    gate = stage.gate
    if gate is None:
        return
    if (message := _threshold_problem(plan, gate, training)) is not None:
        yield Problem(("gate", "threshold"), message)
    if gate.min_env_steps > training.env_steps:
        text = (
            f"{gate.min_env_steps} is more than the {training.env_steps} env steps of the training; it is never asked."
        )
        yield Problem(("gate", "min_env_steps"), text)
        return
    points = [p for p in range(1, plan.report_points + 1) if training.report_step(p) >= gate.min_env_steps]
    if gate.patience > len(points):
        text = f"{gate.patience} report points in a row, but only {len(points)} of {plan.report_points} come after "
        yield Problem(("gate", "patience"), f"{text}min_env_steps {gate.min_env_steps}; it can never pass.")


def _threshold_problem(plan: PlanSpec, gate: Gate, training: TrainingSpec) -> str | None:
    """Say that no policy, or every policy, passes a gate, or return None."""
    low, high = 0.0, float("inf")
    if gate.metric in _RATES:
        high = 1.0
    elif gate.metric == "score":
        high = sum(term.weight for term in plan.objective.terms().values())
    elif gate.metric == "episode_reward_mean":
        low = float("-inf")
    else:
        high = _clock_seconds(training)
    if not low < gate.threshold <= high + 1e-9:
        never = (gate.threshold > high) != (gate.metric in LOWER_IS_BETTER)
        valid = f"above {low:g}" + ("" if high == float("inf") else f", at most {high:g}")
        return f"{show(gate.threshold)} of {gate.metric}: {'no' if never else 'every'} policy passes; valid: {valid}."
    return None


def _clock_seconds(training: TrainingSpec) -> float:
    if training.environment not in environment_names():
        return float("inf")
    settings = get_environment(training.environment).resolve_settings(training.env)
    return float(settings.get("episode_seconds", float("inf")))


def total_env_steps(plan: PlanSpec) -> int:
    """Return the env steps of all stages if nothing is pruned and each gate passes at the first try."""
    return sum(env_steps(plan, stage) for stage in plan.stages)
