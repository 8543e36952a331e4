"""What goes into the queue: checked as if it were started now, and made independent of the files it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vbot_campaign.campaign.plans import check_plan, refuse_changes
from vbot_campaign.errors import SpecError, StudyBusyError, StudyError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.service.children import ask_to_stop
from vbot_campaign.service.decisions import Word
from vbot_campaign.service.standing import standing
from vbot_campaign.spec.document import read_document
from vbot_campaign.spec.kinds import KINDS, kind_of
from vbot_campaign.spec.loading import definition, load_plan, load_study, plan_definition
from vbot_campaign.spec.physics import require_engine
from vbot_campaign.spec.resolve import with_defaults
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.spec.trainable import require
from vbot_campaign.spec.trainer import trainer_problems
from vbot_campaign.study.plans import plan_names
from vbot_campaign.study.storage import finish_making
from vbot_campaign.study.study import check_buildable, is_stored, load_snapshot, raises_budget
from vbot_campaign.study.submissions import Kind, QueueState, Submission, Submissions
from vbot_campaign.supervisor.warm_start import find_warm_start

MAX_PRIORITY = 1000


@dataclass(frozen=True)
class Checked:
    """A study or plan that could be started now."""

    name: str
    kind: Kind
    definition: dict[str, Any]
    """With all that it refers to resolved and all paths absolute."""


def check_file(paths: CampaignPaths, file: Path) -> Checked:
    """Read a study or plan file and refuse what `run` or `campaign run` would refuse. Stores nothing.

    Raises:
        CampaignError: What is wrong, in the same words.
    """
    kind = kind_of(read_document(file).value)
    if kind is not None and kind.name not in ("study", "plan"):
        raise SpecError(
            f"{file}: is {kind.words}; the queue takes studies and plans. What takes it: "
            f"{KINDS[kind.name].use.replace('FILE', str(file))}."
        )
    finish_making(paths)
    if kind is not None and kind.name == "plan":
        plan = check_plan(paths, load_plan(file), file.parent)
        require_engine(plan.physics)
        refuse_changes(paths, plan)
        return Checked(plan.plan, "plan", plan_definition(plan))
    spec = load_study(file)
    _check_study(paths, spec, file.parent)
    return Checked(spec.study, "study", definition(_placed(spec, file.parent)))


def _check_study(paths: CampaignPaths, spec: StudySpec, folder: Path) -> None:
    if spec.study in plan_names(paths):
        raise StudyError(f"study: a campaign has the name '{spec.study}' already; give the study another one.")
    require_engine(spec.physics)
    require(trainer_problems(spec.trainer))
    check_buildable(spec)
    if is_stored(paths, spec.study):
        raises_budget(load_snapshot(paths, spec.study).spec, with_defaults(spec))
    else:
        find_warm_start(paths, spec, folder)


def _placed(spec: StudySpec, folder: Path) -> StudySpec:
    """Return the study with the path of its policy as it is from anywhere."""
    start = spec.warm_start
    if start is None or start.checkpoint is None:
        return spec
    file = (folder / start.checkpoint).absolute().as_posix()
    return spec.model_copy(update={"warm_start": start.model_copy(update={"checkpoint": file})})


def submit(paths: CampaignPaths, queue: Submissions, checked: Checked, *, priority: int) -> Submission:
    """Put a study or plan into the queue.

    Args:
        paths: The runs folder.
        queue: The queue.
        checked: From `check_file`.
        priority: The highest goes first; among equals the oldest.

    Raises:
        SpecError: No such priority.
        StudyError: One of that name is in the queue already.
        StudyBusyError: Somebody is at work on it.
    """
    if not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
        raise SpecError(f"--priority {priority}: expected -{MAX_PRIORITY} to {MAX_PRIORITY}; 0 is usual.")
    name, kind = checked.name, checked.kind
    is_open = any(one.name == name for one in queue.open())
    if not is_open and standing(paths, kind, name).word is Word.RUNNING:
        raise StudyBusyError(
            f"'{name}': somebody is at work on it just now. Submit it when that has ended, or stop it first: "
            f"vbot-campaign {'campaign ' if kind == 'plan' else ''}stop {name}"
        )
    return queue.add(name, kind, checked.definition, priority=priority)


def cancel(paths: CampaignPaths, queue: Submissions, name: str, *, served: Callable[[], bool]) -> str:
    """Take a submission out of the queue, or have it stopped with checkpoints where it runs.

    Args:
        paths: The runs folder.
        queue: The queue.
        name: Of the study or plan.
        served: Tells whether a service is at work.

    Returns:
        What was done, in words.

    Raises:
        StudyNotFoundError: Nothing of that name is in the queue.
    """
    for _ in range(3):  # between a look and a change it may have been started, or have ended
        one = queue.find_open(name)
        if one.state is QueueState.QUEUED:
            if queue.end(one, QueueState.CANCELLED, "on request, before its turn"):
                return f"{name}: taken out of the queue."
        elif queue.change(one, wanted="cancel"):
            return _stop_running(paths, queue, one, served=served())
    raise StudyError(f"'{name}': changes its state just now; try again.")


def _stop_running(paths: CampaignPaths, queue: Submissions, one: Submission, *, served: bool) -> str:
    at_work = (one.owner is not None and one.owner.is_alive()) or standing(
        paths, one.kind, one.name
    ).word is Word.RUNNING
    if at_work or served:
        ask_to_stop(paths, one, "cancelled")
        return f"{one.name}: asked to stop; its workers write a checkpoint first. See: vbot-campaign queue"
    queue.end(one, QueueState.CANCELLED, "on request; its trials can be resumed")
    return f"{one.name}: taken out of the queue; nobody was at work on it."
