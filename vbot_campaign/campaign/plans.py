"""Campaigns before they run: checked, stored, compared with what is stored, stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vbot_campaign import fs
from vbot_campaign.campaign.stage import training_spec
from vbot_campaign.campaign.state import CampaignState
from vbot_campaign.errors import SpecError, StudyChangedError, StudyError
from vbot_campaign.events import utc_now
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.loading import plan_definition, plan_from_definition
from vbot_campaign.spec.physics import require_engine
from vbot_campaign.spec.plan import PlanSpec
from vbot_campaign.spec.resolve import changes_between, raises_budget
from vbot_campaign.spec.stages import study_name
from vbot_campaign.spec.trainable import require
from vbot_campaign.spec.trainer import trainer_problems
from vbot_campaign.study.plans import create_plan, load_plan_record, plan_names, update_plan
from vbot_campaign.study.storage import finish_making
from vbot_campaign.study.study import is_stored, study_names
from vbot_campaign.supervisor import request_study_stop
from vbot_campaign.supervisor.warm_start import find_warm_start

STOP_TIMEOUT_S = 30.0


def store(paths: CampaignPaths, plan: PlanSpec, folder: Path) -> PlanSpec:
    """Check a plan and store it, or compare it with the one that is stored under its name.

    Args:
        paths: The runs folder.
        plan: The plan.
        folder: Where relative paths in it start.

    Returns:
        The plan as it is stored.

    Raises:
        StudyChangedError: It differs in more than a raised budget or an easier gate.
        CampaignError: It cannot be run; nothing was stored.
    """
    finish_making(paths)
    plan = check_plan(paths, plan, folder)
    if plan.plan not in plan_names(paths):
        create_plan(paths, plan.plan, plan_definition(plan), CampaignState().as_dict())
        return plan
    if refuse_changes(paths, plan):
        update_plan(paths, plan.plan, definition=plan_definition(plan))
    return plan


def refuse_changes(paths: CampaignPaths, plan: PlanSpec) -> bool:
    """Tell whether a plan differs from the one that is stored under its name; where none is, it does not.

    Raises:
        StudyChangedError: It differs in more than a raised budget or an easier gate.
    """
    if plan.plan not in plan_names(paths):
        return False
    stored = stored_plan(paths, plan.plan)
    changes = changes_between(_by_name(stored), _by_name(plan), _may_change)
    if changes and not changes.only_raises_budget:
        raise StudyChangedError(
            f"campaign '{plan.plan}': the file differs from the stored plan: {'; '.join(changes.differences)}. "
            "Give the changed plan a new name, or put the file back; a budget may be raised, and threshold, tries and "
            "otherwise of a gate may change."
        )
    return bool(changes)


def check_plan(paths: CampaignPaths, plan: PlanSpec, folder: Path) -> PlanSpec:
    """Refuse a plan that cannot be run here, and return it with absolute paths.

    Raises:
        CampaignError: What is wrong; nothing was stored.
    """
    plan = _placed(plan, folder)
    if plan.plan in study_names(paths):
        raise StudyError(f"plan: a study has the name '{plan.plan}' already; give the plan another one.")
    check_start(paths, plan)
    return plan


def stored_plan(paths: CampaignPaths, name: str) -> PlanSpec:
    """Return the plan of a stored campaign.

    Raises:
        StudyNotFoundError: There is none of that name.
    """
    return plan_from_definition(load_plan_record(paths, name).definition)


def with_budget_hours(paths: CampaignPaths, plan: PlanSpec, text: str) -> PlanSpec:
    """Raise the hours of a stored plan.

    Args:
        paths: The runs folder.
        plan: The stored plan.
        text: The new total (``12``), or what is added (``+4``).

    Raises:
        SpecError: No number, or not more than before.
    """
    before = plan.budget.hours
    if before is None:
        raise SpecError(
            f"--budget-hours: the budget of campaign '{plan.plan}' has no hours; there is nothing to raise."
        )
    try:
        hours = float(text) + (before if text.startswith("+") else 0.0)
    except ValueError:
        hours = math.nan
    if not before < hours < math.inf:
        raise SpecError(
            f"--budget-hours {text}: give more than the present {before:g} hours, or an addition such as +4."
        )
    raised = plan.model_copy(update={"budget": plan.budget.model_copy(update={"hours": hours})})
    update_plan(paths, plan.plan, definition=plan_definition(raised))
    return raised


def check_start(paths: CampaignPaths, plan: PlanSpec) -> None:
    """Refuse a plan that cannot be run on this machine: engines, trainer, policies to start from.

    Raises:
        CampaignError: What is missing.
    """
    for name in {stage.physics or plan.physics for stage in plan.stages}:
        require_engine(name)
    require(trainer_problems(plan.trainer))
    for stage in plan.stages:
        file = stage.warm_start is not None and stage.warm_start.file is not None
        if file and not is_stored(paths, study_name(plan, stage, "train")):
            find_warm_start(paths, training_spec(plan, CampaignState(), stage, trials=1), Path())


def stop_campaign(paths: CampaignPaths, name: str, reason: str = "stopped on request") -> None:
    """Ask whoever runs a campaign to stop it; workers write a checkpoint first.

    Raises:
        StudyNotFoundError: There is none of that name.
        StudyError: Nobody runs it.
    """
    state = CampaignState.from_dict(load_plan_record(paths, name).state)
    if not state.is_running:
        why = f": {state.reason}" if state.reason else ""
        raise StudyError(f"campaign '{name}' is not running (it is {state.word}{why}); there is nothing to stop.")
    fs.write_json(paths.plan(name).stop_request, {"v": 1, "reason": reason, "time": utc_now()})
    # Between two steps the campaign sees that by itself. A supervisor has to be asked, and one may be starting just
    # now, which has looked already.
    plan = stored_plan(paths, name)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline and not _ask_supervisor(paths, plan, reason):
        if not CampaignState.from_dict(load_plan_record(paths, name).state).is_running:
            return
        time.sleep(0.2)


def _ask_supervisor(paths: CampaignPaths, plan: PlanSpec, reason: str) -> bool:
    names = [study_name(plan, stage, phase) for stage in plan.stages for phase in ("search", "confirm", "train")]
    for name in sorted(set(names) & set(study_names(paths))):
        try:
            request_study_stop(paths, name, reason)
        except StudyError:
            continue
        return True
    return False


def _placed(plan: PlanSpec, folder: Path) -> PlanSpec:
    """Return the plan with the paths of policies as they are from anywhere."""
    stages = []
    for stage in plan.stages:
        start = stage.warm_start
        if start is not None and start.file is not None:
            file = (folder / start.file).absolute().as_posix()
            stage = stage.model_copy(update={"warm_start": start.model_copy(update={"file": file})})
        stages.append(stage)
    return plan.model_copy(update={"stages": tuple(stages)})


def _by_name(plan: PlanSpec) -> dict[str, Any]:
    values = plan_definition(plan)
    return {**values, "stages": {stage["stage"]: stage for stage in values["stages"]}}


def _may_change(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    parts = path.split(".")
    if parts[0] == "stages":
        return parts[-2:-1] == ["gate"] and parts[-1] in ("threshold", "tries", "otherwise") and path in after
    return not path.startswith("budget.shares") and raises_budget(path, before, after)
