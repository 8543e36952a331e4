"""What has become of a study or plan whose process has gone: read from the database, which alone knows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from vbot_campaign.campaign import budget
from vbot_campaign.campaign.budget import phases_of
from vbot_campaign.campaign.confirm import PHASE as CONFIRM
from vbot_campaign.campaign.derived import is_over
from vbot_campaign.campaign.extend import PHASE as EXTEND
from vbot_campaign.campaign.plans import stored_plan
from vbot_campaign.campaign.state import CampaignState
from vbot_campaign.errors import StudyError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.service.decisions import Word
from vbot_campaign.spec.stages import study_name
from vbot_campaign.study.liveness import DEAD_SUPERVISOR
from vbot_campaign.study.plans import load_plan_record, plan_names
from vbot_campaign.study.reading import read_names, read_snapshot
from vbot_campaign.study.snapshot import StudySnapshot
from vbot_campaign.study.study import is_stored
from vbot_campaign.study.submissions import Kind

_ENDS = ("finished", "stopped")
"""Causes of the alert that a supervisor leaves as its last word."""
_ROUNDING = timedelta(seconds=0.1)


@dataclass(frozen=True)
class Standing:
    """The word, and the reason that the database has for it."""

    word: Word
    reason: str = ""


def standing(paths: CampaignPaths, kind: Kind, name: str, *, since: datetime | None = None) -> Standing:
    """Return how a study or plan stands.

    Args:
        paths: The runs folder.
        kind: What it is.
        name: Its name.
        since: A stop before that does not count: it was that of an earlier process. None where every one counts.

    Raises:
        CampaignError: The database cannot be read.
    """
    if kind == "plan":
        return _of_plan(paths, name, since)
    found = [_of_study(paths, part, since) for part in _snapshots(paths, name)]
    # A search whose budget was raised goes on before its confirmation of before does.
    unfinished = [part for part in found if part.word not in (Word.FINISHED, Word.USED_UP)]
    busy = [part for part in unfinished if part.word is Word.RUNNING]
    return [*busy, *unfinished, *reversed(found), Standing(Word.UNTOUCHED)][0]


def _snapshots(paths: CampaignPaths, name: str) -> Iterator[StudySnapshot]:
    for part in study_parts(paths, "study", name):
        with contextlib.suppress(StudyError):  # the making of it was cut off: made good by the next process
            yield read_snapshot(paths, part)


def study_parts(paths: CampaignPaths, kind: Kind, name: str) -> list[str]:
    """Return all stored studies that a study or plan may have a supervisor at, in the order in which they run."""
    there = set(read_names(paths))
    if kind == "study":
        return [part for part in (name, f"{name}.{CONFIRM}", f"{name}.{EXTEND}") if part in there]
    if name not in plan_names(paths):
        return []
    plan = stored_plan(paths, name)
    parts = [study_name(plan, stage, phase) for stage in plan.stages for phase in phases_of(stage)]
    return [part for part in parts if part in there]


def is_known(paths: CampaignPaths, kind: Kind, name: str) -> bool:
    """Tell whether a study or plan is stored, so that it can be resumed by name."""
    return name in plan_names(paths) if kind == "plan" else is_stored(paths, name)


def _of_study(paths: CampaignPaths, snapshot: StudySnapshot, since: datetime | None) -> Standing:
    if snapshot.supervisor is not None:
        return Standing(Word.RUNNING)
    if snapshot.state == "finished":
        return Standing(Word.FINISHED, snapshot.reason)
    if snapshot.state == "stopped" and snapshot.reason == DEAD_SUPERVISOR:
        return Standing(Word.DIED, snapshot.reason)
    last = next((alert for alert in reversed(snapshot.alerts) if alert.cause in _ENDS), None)
    if last is None or (since is not None and datetime.fromisoformat(last.time) < since - _ROUNDING):
        return Standing(Word.UNTOUCHED, snapshot.reason)
    if last.level == "error":
        return Standing(Word.FAILED, snapshot.reason)
    return Standing(Word.USED_UP if is_over(paths, snapshot) else Word.STOPPED, snapshot.reason)


def _of_plan(paths: CampaignPaths, name: str, since: datetime | None) -> Standing:
    if name not in plan_names(paths):
        return Standing(Word.UNTOUCHED)
    record = load_plan_record(paths, name)
    state = CampaignState.from_dict(record.state)
    if state.is_running:
        return Standing(Word.RUNNING)
    if state.word == "running":
        return Standing(Word.DIED, state.reason)
    if state.word == "finished":
        return Standing(Word.FINISHED, state.reason)
    if state.word == "created" or (since is not None and record.updated < since - _ROUNDING):
        return Standing(Word.UNTOUCHED, state.reason)
    if state.word == "failed":
        return Standing(Word.FAILED, state.reason)
    plan = stored_plan(paths, name)
    used_up = budget.used_up(plan, budget.read_spent(paths, plan, state))
    return Standing(Word.STOPPED if used_up is None else Word.USED_UP, state.reason)
