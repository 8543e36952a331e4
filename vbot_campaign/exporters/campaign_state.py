"""``campaign_state.yaml``: a campaign of several stages for people and scripts that read YAML."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from vbot_campaign import fs
from vbot_campaign.campaign.view import CampaignView, StageView, read_campaign
from vbot_campaign.exporters import plain_yaml
from vbot_campaign.paths import CampaignPaths

EVERY_S = 5.0
"""Least time between two writes while a study of the campaign changes."""

_PROGRESS = {"pending": "pending", "halted": "failed", "passed": "completed", "promoted": "completed"}


class CampaignMirror:
    """Keeps the mirror of a campaign up to date.

    Args:
        paths: The runs folder.
        name: The campaign.
        clock: Monotonic seconds.
    """

    def __init__(self, paths: CampaignPaths, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._paths = paths
        self._name = name
        self._clock = clock
        self._written = -EVERY_S

    def update(self) -> None:
        """Write the mirror, unless that was done a moment ago."""
        if self._clock() - self._written >= EVERY_S:
            self.write()

    def write(self) -> None:
        """Write the mirror."""
        self._written = self._clock()
        fs.write_text(self._paths.plan(self._name).state, render(read_campaign(self._paths, self._name)))


def render(view: CampaignView) -> str:
    """Return the text of the file."""
    comment = (
        f"# A mirror of campaign '{view.plan.plan}', made from the database. Delete it freely: "
        f"`vbot-campaign export {view.plan.plan}` makes it again.\n"
    )
    return comment + plain_yaml.dump({"schema_version": plain_yaml.SCHEMA_VERSION, **campaign_values(view)})


def campaign_values(view: CampaignView) -> dict[str, Any]:
    """Return a campaign as plain values."""
    return {
        "campaign": view.plan.plan,
        "state": view.state,
        "reason": view.reason,
        "pid": view.pid,
        "start_time": plain_yaml.utc(view.created),
        "current_stage": view.current_stage,
        "curriculum_progress": {stage.name: _PROGRESS.get(stage.status, "in_progress") for stage in view.stages},
        "elapsed_hours": round(view.spent.hours, 6),
        "gpu_hours": round(view.spent.gpu_hours, 6),
        "env_steps": int(view.spent.env_steps),
        "budget": view.plan.budget.model_dump(mode="json"),
        "stages": [_stage(stage) for stage in view.stages],
    }


def _stage(stage: StageView) -> dict[str, Any]:
    known = stage.state
    return {
        "number": stage.number,
        "stage": stage.name,
        "about": stage.about,
        "status": stage.status,
        "env_steps": int(stage.spent.env_steps),
        "hours": round(stage.spent.hours, 6),
        "gpu_hours": round(stage.spent.gpu_hours, 6),
        "score": stage.score,
        "searched": known.searched,
        "confirmed": known.confirmed,
        "chosen": None if known.chosen is None else [asdict(one) for one in known.chosen],
        "gate": None if stage.gate is None else {**stage.gate.model_dump(mode="json"), "value": stage.value},
        "passed": stage.passed,
        "tries": [asdict(one) for one in known.tries],
        "warm_start": stage.start,
        "promoted": None if known.promoted is None else asdict(known.promoted),
        "studies": list(stage.studies),
    }
