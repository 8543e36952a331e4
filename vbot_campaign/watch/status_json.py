"""The state of a study as JSON, and the JSON schema that it keeps to.

``python -m vbot_campaign.watch.status_json`` prints the schema.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from vbot_campaign.exporters import plain_yaml, rows
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.snapshot import StudySnapshot, TrialState
from vbot_campaign.study.usage import total_gpu_hours
from vbot_campaign.watch.devices import DeviceReader
from vbot_campaign.watch.estimate import TrialProgress, expected_share, study_eta_s, trial_progress
from vbot_campaign.watch.facts import best_policy
from vbot_campaign.watch.standing import standing

STATUS_SCHEMA = 2

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_State = Literal["waiting", "running", "complete", "pruned", "failed"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class Budget(_Model):
    """Totals over the whole life of the study; null where it has no such limit."""

    trials: int | None
    hours: float | None
    gpu_hours: float | None
    env_steps: int | None
    shares: dict[str, float] | None
    """Of hours, GPU-hours and env steps, by phase: ``search``, ``confirm``, ``extend``."""


class Used(_Model):
    """How much of the budget is used."""

    trials: int
    hours: float
    gpu_hours: float
    """Of all attempts; 0 on a machine without a GPU."""
    env_steps: int


class Best(_Model):
    """The complete trial with the highest score."""

    trial: int
    score: float
    policy: str | None
    """Path of its best policy; null where none is on disk."""


class Supervisor(_Model):
    """The live supervisor."""

    host: str
    pid: int
    started: str


class Audit(_Model):
    """What the audit of the reward at the start found."""

    time: str
    warnings: list[str]
    points: int
    failing: int
    seconds: float


class WarmStart(_Model):
    """The policy that every trial starts from."""

    path: str
    """The study's copy, relative to its folder."""
    sha256: str
    bytes: int
    env_steps: int | None
    source: str
    study: str | None
    trial: int | None
    score: float | None


class Alert(_Model):
    """Something a person should know."""

    time: str
    level: str
    """`info`, `warning` or `error`."""
    cause: str
    message: str
    advice: str
    trial: int | None


class Device(_Model):
    """A slot, and what it runs on. Null where the machine does not tell, or is another one."""

    slot: str
    trial: int | None
    """The trial that runs there."""
    device: str
    memory_used_mb: float | None
    """Of the whole GPU, or of the worker on a CPU slot."""
    memory_total_mb: float | None
    utilisation: float | None
    """Of the GPU, 0 to 1; of a worker on a CPU slot in cores, over its life."""
    temperature_c: float | None
    throttled: str | None
    """Why the GPU runs slower than it could."""


class PrunerView(_Model):
    """A running trial beside the others at its last report point."""

    env_step: int
    score: float | None
    rank: int
    """1 for the best of the trials that reported there."""
    of: int
    bar: float | None
    """Score below which the pruner stops a trial there; null where it compares otherwise, or not yet."""
    bar_name: str
    margin: float | None
    """Best score reported so far less the bar."""
    note: str


class Trial(_Model):
    """One trial."""

    trial: int
    state: _State
    reason: str
    score: float | None
    """The final score, or the last reported one."""
    parts: dict[str, float | None]
    """Score parts of the evaluation, or of the last report point."""
    parameters: dict[str, Any]
    env_steps: int
    env_steps_budget: int
    env_steps_per_s: float | None
    eta_s: float | None
    silent_s: float | None
    """Seconds since the worker's last line."""
    attempts: int
    slot: str | None
    """Where it runs."""
    started: str | None
    ended: str | None
    run_dir: str | None
    """Its folder, relative to the study's."""
    pruner: PrunerView | None
    """Null unless it runs and has reported."""


class Status(_Model):
    """What `vbot-campaign status NAME --json` prints. Times are UTC."""

    schema_version: Literal[2]
    study: str
    state: Literal["created", "running", "stopped", "finished"]
    reason: str
    time: str
    created: str
    environment: str
    warm_start: WarmStart | None
    audit: Audit | None
    budget: Budget
    used: Used
    trials_by_state: dict[_State, int]
    skipped_combinations: int
    """Combinations that a constraint refused."""
    eta_s: float | None
    """Seconds until the first budget is used up; null unless it runs."""
    expected_share: float
    """Share of its env steps that a trial is expected to be trained for before it ends."""
    supervisor: Supervisor | None
    slots: list[str]
    devices: list[Device]
    best: Best | None
    alerts: list[Alert]
    """The newest ones, the last one last."""
    trials: list[Trial]


def status_json(paths: CampaignPaths, snapshot: StudySnapshot, *, now: datetime | None = None) -> dict[str, Any]:
    """Return the state of a study as plain values, as `Status` describes them."""
    now = now or datetime.now(UTC)
    study, best = paths.study(snapshot.spec.study), snapshot.best
    progress = [trial_progress(study, snapshot, trial, now) for trial in snapshot.trials]
    content = {
        "schema_version": STATUS_SCHEMA,
        "study": snapshot.spec.study,
        "state": snapshot.state,
        "reason": snapshot.reason,
        "time": now,
        "created": snapshot.created,
        "environment": snapshot.spec.environment,
        "warm_start": rows.warm_start(study, snapshot.warm_start),
        "audit": snapshot.audit and asdict(snapshot.audit),
        "budget": snapshot.spec.budget.model_dump(mode="json"),
        **_counts(snapshot, progress, now),
        "supervisor": snapshot.supervisor,
        "slots": snapshot.slots,
        "devices": [asdict(reading) for reading in DeviceReader().read(snapshot)],
        "best": best and {"trial": best.number, "score": best.score, "policy": best_policy(paths, snapshot)},
        "alerts": [asdict(alert) for alert in snapshot.alerts],
        "trials": [_trial_json(snapshot, row) for row in progress],
    }
    plain: dict[str, Any] = plain_yaml.plain(content)
    return plain


def _counts(snapshot: StudySnapshot, progress: Sequence[TrialProgress], now: datetime) -> dict[str, Any]:
    return {
        "used": {
            "trials": len(snapshot.trials),
            "hours": snapshot.hours_used,
            "gpu_hours": total_gpu_hours(snapshot.spec.workers, snapshot.trials, now),
            "env_steps": snapshot.env_steps_used,
        },
        "trials_by_state": dict(sorted(Counter(trial.state.value for trial in snapshot.trials).items())),
        "skipped_combinations": snapshot.skipped,
        "eta_s": study_eta_s(snapshot, progress),
        "expected_share": expected_share(snapshot),
    }


def _trial_json(snapshot: StudySnapshot, row: TrialProgress) -> dict[str, Any]:
    trial = row.trial
    attempt = trial.attempts[-1] if trial.attempts else None
    running = trial.state is TrialState.RUNNING
    place = standing(snapshot, trial) if running else None
    return {
        "trial": trial.number,
        "state": trial.state.value,
        "reason": trial.reason,
        "score": row.score,
        "parts": {} if trial.state is TrialState.FAILED else trial.parts or {},
        "parameters": trial.parameters,
        "env_steps": row.env_steps,
        "env_steps_budget": row.budget,
        "env_steps_per_s": row.env_steps_per_s,
        "eta_s": row.eta_s,
        "silent_s": row.silent_s,
        "attempts": len(trial.attempts),
        "slot": attempt.slot if attempt and running else None,
        "started": trial.started,
        "ended": trial.ended,
        "run_dir": trial.folder,
        "pruner": place and asdict(place),
    }


def status_schema() -> dict[str, Any]:
    """Return the JSON schema of `status_json`."""
    schema = Status.model_json_schema(mode="serialization")
    return {"$schema": _DIALECT, **schema, "title": "vbot-campaign status"}


if __name__ == "__main__":
    json.dump(status_schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")
