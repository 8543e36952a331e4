"""What a training must be beyond its shape: names that exist, values that fit together."""

from __future__ import annotations

from collections.abc import Iterable

from vbot_campaign.errors import SpecError, did_you_mean
from vbot_campaign.spec.environments import EnvironmentDeclaration, environment_names, get_environment
from vbot_campaign.spec.groups import name_problem, value_problems
from vbot_campaign.spec.objective import SCORE_PARTS, Objective
from vbot_campaign.spec.problems import Problem
from vbot_campaign.spec.trainer import settings_problems
from vbot_campaign.spec.training import TrainingSpec


def environment_problem(name: str) -> Problem | None:
    """Say that no environment has this name, or return None."""
    valid = environment_names()
    if name in valid:
        return None
    return Problem(("environment",), f"'{name}' does not exist.{did_you_mean(name, valid)} Valid: {', '.join(valid)}.")


def physics_problem(declaration: EnvironmentDeclaration, physics: str) -> Problem | None:
    """Say that the environment does not run on this engine, or return None."""
    if physics in declaration.physics:
        return None
    valid = f"Valid: {', '.join(declaration.physics)}."
    near = did_you_mean(physics, declaration.physics)
    return Problem(("physics",), f"'{physics}' does not run {declaration.name}.{near} {valid}")


def objective_problems(objective: Objective) -> list[Problem]:
    """Return unknown score parts, parts without a scale, and an objective without parts."""
    valid = ", ".join(SCORE_PARTS)
    if not objective.root:
        return [Problem(("objective",), f"is empty; give at least one score part a weight. Valid: {valid}.")]
    problems = []
    for name, term in objective.root.items():
        if name not in SCORE_PARTS:
            near = did_you_mean(name, SCORE_PARTS)
            problems.append(Problem(("objective", name), f"no such score part.{near} Valid: {valid}."))
        elif name == "episode_reward_mean" and term.scale is None:
            text = f"needs a scale, the reward that counts as 1: {{weight: {term.weight:g}, scale: 1000}}."
            problems.append(Problem(("objective", name), text))
    return problems


def combination_problems(training: TrainingSpec) -> list[Problem]:
    """Return valid values that do not go together."""
    problems = []
    batch, parts = training.steps_per_iteration, training.ppo.mini_batches
    if batch % parts:
        size = f"num_envs {training.num_envs} x rollouts {training.ppo.rollouts} = {batch}"
        problems.append(
            Problem(("ppo", "mini_batches"), f"{parts} does not divide {size} samples; {_near_divisors(batch, parts)}.")
        )
    try:
        get_environment(training.environment).resolve_settings(training.env)
    except SpecError as error:
        path, _, message = str(error).partition(": ")
        problems.append(Problem(tuple(path.split(".")), message))
    return problems


def training_problems(training: TrainingSpec) -> list[Problem]:
    """Return everything that keeps a training of the right shape from starting."""
    if (unknown := environment_problem(training.environment)) is not None:
        return [unknown]
    declaration = get_environment(training.environment)
    physics = physics_problem(declaration, training.physics)
    problems = [physics] if physics else []
    problems += objective_problems(training.objective)
    for group, values in (("reward", training.reward), ("env", training.env)):
        for name, value in values.items():
            if (message := name_problem(declaration, group, name)) is not None:
                problems.append(Problem((group, name), message))
            else:
                problems += [p.under(group, name) for p in value_problems(declaration, group, name, value)]
    problems += settings_problems(training)
    return problems or combination_problems(training)


def iteration_problem(training: TrainingSpec) -> Problem | None:
    """Say that the budget is smaller than one iteration, or return None."""
    if training.env_steps >= training.steps_per_iteration:
        return None
    size = f"num_envs {training.num_envs} x rollouts {training.ppo.rollouts} = {training.steps_per_iteration} env steps"
    return Problem(
        ("env_steps",), f"{training.env_steps} is less than one iteration ({size}); raise it or lower num_envs."
    )


def require(problems: Iterable[Problem]) -> None:
    """Raise one error with a line for each problem, if there is any.

    Raises:
        SpecError: There is.
    """
    lines = [str(problem) for problem in problems]
    if lines:
        raise SpecError("\n".join(lines[:10]))


def _near_divisors(batch: int, parts: int) -> str:
    below = next((n for n in range(min(parts, batch), 0, -1) if batch % n == 0), 1)
    above = next((n for n in range(parts, 1025) if batch % n == 0), None)
    return f"the nearest that do: {below}" + (f" and {above}" if above else "")
