"""Study files, training options and ``trial.json``, read and checked.

Every error is a `SpecError` with one line per problem, ``FILE:LINE: key: what is wrong; what is valid.``
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vbot_campaign.errors import SpecError, did_you_mean
from vbot_campaign.spec.checks import study_problems
from vbot_campaign.spec.document import Document, parse_document, parse_value, read_document
from vbot_campaign.spec.groups import GROUPS
from vbot_campaign.spec.kinds import require_kind
from vbot_campaign.spec.plan import PlanSpec
from vbot_campaign.spec.plan_checks import plan_problems
from vbot_campaign.spec.problems import Problem
from vbot_campaign.spec.references import resolve_plan, resolve_study, resolve_training
from vbot_campaign.spec.shape import check_shape
from vbot_campaign.spec.study import StudySpec, WarmStart
from vbot_campaign.spec.trainable import iteration_problem, require, training_problems
from vbot_campaign.spec.trainer import placed_in, trainer_problems
from vbot_campaign.spec.training import TrainingSpec, TrialSpec
from vbot_campaign.spec.training_file import TrainingFile


def load_study(path: Path) -> StudySpec:
    """Read a study file.

    Raises:
        SpecError: The file cannot be read, or something in it is wrong.
    """
    return _study(read_document(path), path.parent)


def study_from_text(text: str, source: str = "study") -> StudySpec:
    """Read a study from YAML text.

    Args:
        text: The YAML. Relative paths in it start at the working folder.
        source: What to call it in messages, where a file's name would stand.

    Raises:
        SpecError: Something in it is wrong.
    """
    return _study(parse_document(text, source))


def _study(document: Document, folder: Path | None = None) -> StudySpec:
    require_kind(document.source, document.value, "study")
    document = resolve_study(document, folder or Path())
    study, problems = check_shape(StudySpec, document.value)
    if study is not None and folder is not None:
        study = study.model_copy(update={"trainer": placed_in(study.trainer, folder)})
    problems = problems or study_problems(study) if study else problems
    if study is None or problems:
        raise document.error(problems)
    return study


def load_training(path: Path) -> TrainingFile:
    """Read a training file; the paths in it come back as they are from the working folder.

    Raises:
        SpecError: The file cannot be read, or something in it is wrong.
    """
    document = read_document(path)
    require_kind(document.source, document.value, "training")
    document = resolve_training(document, path.parent)
    file, problems = check_shape(TrainingFile, document.value)
    if file is not None:
        start = path.parent / file.checkpoint if file.checkpoint is not None else None
        file = file.model_copy(update={"trainer": placed_in(file.trainer, path.parent), "checkpoint": start})
        problems = _training_problems(file)
        if start is not None and not start.exists():
            problems.append(
                Problem(("checkpoint",), f"no file {start.as_posix()}; a relative path starts at this one.")
            )
    if file is None or problems:
        raise document.error(problems)
    return file


def load_plan(path: Path) -> PlanSpec:
    """Read a plan file.

    Raises:
        SpecError: The file cannot be read, or something in it is wrong.
    """
    document = read_document(path)
    require_kind(document.source, document.value, "plan")
    document = resolve_plan(document, path.parent)
    plan, problems = check_shape(PlanSpec, document.value)
    if plan is not None:
        plan = plan.model_copy(update={"trainer": placed_in(plan.trainer, path.parent)})
        problems = plan_problems(plan, path.parent)
    if plan is None or problems:
        raise document.error(problems)
    return plan


def plan_definition(plan: PlanSpec) -> dict[str, Any]:
    """Return a plan as plain JSON values, as the database keeps it."""
    return plan.model_dump(mode="json")


def plan_from_definition(values: Mapping[str, Any], source: str = "stored plan") -> PlanSpec:
    """Return the plan of a `plan_definition`; only its shape is checked.

    Raises:
        SpecError: It has another shape.
    """
    plan, problems = check_shape(PlanSpec, dict(values))
    if plan is None:
        raise Document(source, values).error(problems)
    return plan


def with_warm_start(study: StudySpec, checkpoint: Path) -> StudySpec:
    """Return the study with every trial starting from a file instead of what its own file says.

    Raises:
        SpecError: The study searches what a warm start fixes.
    """
    start = WarmStart(checkpoint=str(checkpoint.absolute()))
    changed = study.model_copy(update={"warm_start": start})
    require(study_problems(changed))
    return changed


def definition(study: StudySpec) -> dict[str, Any]:
    """Return a study as plain JSON values with all defaults filled in, as the database keeps it."""
    return study.model_dump(mode="json")


def study_from_definition(values: Mapping[str, Any], source: str = "stored definition") -> StudySpec:
    """Return the study of a `definition`.

    Only its shape is checked: it was complete when it was stored, and must stay readable after an upgrade that
    takes away a reward term or narrows a range.

    Raises:
        SpecError: It has another shape.
    """
    study, problems = check_shape(StudySpec, dict(values))
    if study is None:
        raise Document(source, values).error(problems)
    return study


def parse_assignment(text: str) -> tuple[str, str, Any]:
    """Split ``ppo.learning_rate=3e-4`` into group, name and value.

    The value is read as in a study file: a number, true, false, a text, or a list such as ``[256, 128]``.

    Raises:
        SpecError: There is no ``=``, no value, or no such group.
    """
    key, equals, value_text = text.partition("=")
    group, dot, name = key.strip().partition(".")
    if not equals or not value_text.strip():
        raise SpecError(f"'{text}': expected GROUP.NAME=VALUE, such as ppo.learning_rate=3e-4.")
    if not dot or not name or group not in GROUPS:
        near = did_you_mean(group, GROUPS) if dot else ""
        raise SpecError(
            f"{key.strip()}: expected a name under {', '.join(GROUPS)}, such as ppo.learning_rate=3e-4.{near}"
        )
    try:
        return group, name, parse_value(value_text)
    except SpecError as error:
        raise SpecError(f"{key.strip()}: {error}") from None


def build_training(
    environment: str | None,
    env_steps: int | None,
    settings: Sequence[str] = (),
    *,
    base: TrainingSpec | None = None,
    **options: Any,
) -> TrainingSpec:
    """Return a training without a study.

    Args:
        environment: Environment name.
        env_steps: Budget in env steps; needed where there is no base.
        settings: Assignments such as ``ppo.learning_rate=3e-4``; the last one for a name counts.
        base: Training that has the values of all that is not given here.
        **options: Other fields of `TrainingSpec` as plain values (num_envs, seed, physics, checkpoints, evaluation, …);
            those that are None keep their default.

    Raises:
        SpecError: A value is wrong; one line for each.
    """
    values: dict[str, Any] = base.model_dump(mode="json") if base is not None else {}
    given = {"environment": environment, "env_steps": env_steps, **options}
    values.update({name: value for name, value in given.items() if value is not None})
    for group, name, value in map(parse_assignment, settings):
        values[group] = {**values.get(group, {}), name: value}
    training, problems = check_shape(TrainingSpec, _plain(values))
    require(problems)
    assert training is not None  # noqa: S101 - no problems means a model
    require(_training_problems(training))
    return training


def _training_problems(training: TrainingSpec) -> list[Problem]:
    problems = [*training_problems(training), *trainer_problems(training.trainer)]
    short = iteration_problem(training)
    return problems or ([short] if short else [])


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.model_dump(mode="json") if hasattr(value, "model_dump") else value for name, value in values.items()
    }


def read_trial_spec(path: Path) -> TrialSpec:
    """Read a ``trial.json``.

    Raises:
        SpecError: The file is missing, no JSON, of another shape, or describes a training that cannot start.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file; a worker runs on a folder that holds one.") from None
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: cannot be read as JSON: {error}.") from None
    spec, problems = check_shape(TrialSpec, values)
    if spec is not None:
        problems = [problem.under("training") for problem in training_problems(spec.training)]
    if spec is None or problems:
        raise Document(str(path), values).error(problems)
    return spec
