"""From a study and a sampled point to what is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vbot_campaign.errors import SpecError, did_you_mean
from vbot_campaign.spec import groups
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.expression import parse
from vbot_campaign.spec.problems import show
from vbot_campaign.spec.ranges import contains, find, middle, options
from vbot_campaign.spec.shape import check_shape
from vbot_campaign.spec.study import Categorical, Choice, Constraint, StudySpec
from vbot_campaign.spec.trainable import combination_problems, require, training_problems
from vbot_campaign.spec.training import TrainingSpec


def resolve_training(study: StudySpec, parameters: Mapping[str, Any]) -> TrainingSpec:
    """Return what a trial trains: defaults, then the study's fixed values, then the sampled ones.

    Args:
        study: The study.
        parameters: Sampled values by Optuna name (``ppo.learning_rate``); inactive conditional ones may be absent and
            then keep their default.

    Raises:
        SpecError: A name that the study does not search, or values that do not go together.
    """
    training = _merge(study, parameters)
    require(training_problems(training))
    return training


def _merge(study: StudySpec, parameters: Mapping[str, Any]) -> TrainingSpec:
    merged: dict[str, dict[str, Any]] = {group: {**study.fixed.get(group, {})} for group in groups.GROUPS}
    searched = study.parameters
    for name, value in parameters.items():
        if name not in searched:
            near = did_you_mean(name, searched)
            raise SpecError(f"{name}: study '{study.study}' does not search it.{near} Searched: {', '.join(searched)}.")
        group, short = groups.split_name(name)
        merged[group][short] = value
    shared = study.model_dump(
        mode="json",
        include={
            "environment",
            "physics",
            "trainer",
            "seed",
            "objective",
            "evaluation",
            "checkpoints",
            "report_points",
        },
    )
    sizes = {"env_steps": study.env_steps_per_trial, "num_envs": study.workers.num_envs}
    training, problems = check_shape(TrainingSpec, {**shared, **sizes, **merged})
    require(problems)
    assert training is not None  # noqa: S101 - no problems means a model
    return training


def fixed_values(study: StudySpec) -> dict[str, Any]:
    """Return the fixed values by dotted name."""
    return {f"{group}.{name}": value for group, entries in study.fixed.items() for name, value in entries.items()}


def unsearched_values(study: StudySpec) -> dict[str, Any]:
    """Return what everything is where it is not sampled: fixed values and defaults, by dotted name."""
    return {**groups.defaults(get_environment(study.environment)), **fixed_values(study)}


def with_defaults(study: StudySpec) -> StudySpec:
    """Return the study with every default written out as a fixed value.

    This is what is stored: a study that is resumed under a later version of the program, whose defaults may differ,
    goes on with those it began with.
    """
    fixed: dict[groups.Group, dict[str, Any]] = {group: {} for group in groups.GROUPS}
    for name, value in unsearched_values(study).items():
        group, short = groups.split_name(name)
        fixed[group][short] = list(value) if isinstance(value, tuple) else value
    return study.model_copy(update={"fixed": fixed})


def condition_values(study: StudySpec, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what conditions may ask for: sampled values, and fixed values and defaults of what is not searched."""
    searched = study.parameters
    plain = {name: value for name, value in unsearched_values(study).items() if name not in searched}
    return {**plain, **parameters}


def is_active(study: StudySpec, name: str, parameters: Mapping[str, Any]) -> bool:
    """Tell whether a parameter is sampled at this point.

    Args:
        study: The study.
        name: Optuna name of the parameter.
        parameters: Values of the parameters declared before it. A condition over one that is itself inactive
            does not hold.
    """
    when = study.parameters[name].when
    return when is None or parse(when).holds(condition_values(study, parameters))


def skipped_by(study: StudySpec, parameters: Mapping[str, Any]) -> Constraint | None:
    """Return the constraint that excludes a point, or None.

    A constraint that cannot be evaluated here (it uses an inactive parameter) does not exclude. Points whose values do
    not go together (mini-batches that do not divide the rollout) are excluded as if a constraint said so.
    """
    values = condition_values(study, parameters)
    for constraint in study.constraints:
        if parse(constraint.skip_if).holds(values):
            return constraint
    problems = combination_problems(_merge(study, parameters))
    return Constraint(skip_if="it cannot be trained", reason=str(problems[0])) if problems else None


def prior_point(study: StudySpec) -> dict[str, Any]:
    """Return the point of the first trial.

    Each parameter takes its prior; without one the default of what it stands for, if that lies in the range; else the
    middle of the range or the first choice. Inactive conditional parameters are left out.
    """
    point: dict[str, Any] = {}
    for name in study.parameters:
        if is_active(study, name, point):
            point[name] = first_value(study, name)
    return point


def first_value(study: StudySpec, name: str) -> Any:
    """Return a parameter's value in the first trial, whether it is active there or not."""
    parameter = study.parameters[name]
    value = parameter.prior
    if value is None:
        value = groups.default(get_environment(study.environment), *groups.split_name(name))
    if not contains(parameter, value):
        return middle(parameter)
    return find(value, options(parameter)) if isinstance(parameter, Choice | Categorical) else value


@dataclass(frozen=True)
class DefinitionChanges:
    """How a study file differs from the definition stored under its name. True when there is a difference."""

    differences: tuple[str, ...]
    """In words: ``search_space.ppo.learning_rate.high: 0.001 -> 0.01``."""
    only_raises_budget: bool
    """Whether nothing but totals of the budget differ, and each of those grew or was lifted. The folder of a trainer's
    command may differ too: the study file has moved. So may what follows the search."""

    def __bool__(self) -> bool:
        return bool(self.differences)


def definition_changes(stored: StudySpec, new: StudySpec) -> DefinitionChanges:
    """Compare two definitions of one study."""
    return changes_between(stored.model_dump(mode="json"), new.model_dump(mode="json"), raises_budget)


def changes_between(
    stored: Mapping[str, Any],
    new: Mapping[str, Any],
    is_allowed: Callable[[str, Mapping[str, Any], Mapping[str, Any]], bool],
) -> DefinitionChanges:
    """Compare two definitions as plain values.

    Args:
        stored: The one before.
        new: The one after.
        is_allowed: Tells of a dotted path and the values before and after, by such paths, whether the change only
            raises a budget.
    """
    before, after = dict(_leaves(stored)), dict(_leaves(new))
    changed = [path for path in {**before, **after} if before.get(path, _ABSENT) != after.get(path, _ABSENT)]
    words = tuple(_difference(path, before.get(path, _ABSENT), after.get(path, _ABSENT)) for path in changed)
    return DefinitionChanges(words, all(is_allowed(path, before, after) for path in changed))


_ABSENT = object()


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else key)
    elif value not in ({}, None):
        yield path, value


def _difference(path: str, before: Any, after: Any) -> str:
    if before is _ABSENT:
        return f"{path}: added {_shown(after)}"
    if after is _ABSENT:
        return f"{path}: removed (was {_shown(before)})"
    return f"{path}: {_shown(before)} -> {_shown(after)}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_shown(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    return value if isinstance(value, str) else show(value)


def raises_budget(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Tell whether a change of one value does no more than raise or lift a total of a budget."""
    if path == "trainer.folder" or path == "confirm" or path.startswith("confirm."):
        return True
    if not path.startswith("budget.") or path not in before:
        return False
    return path not in after or after[path] > before[path]
