"""User attributes of Optuna's studies and trials that this program keeps its own facts in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vbot_campaign.study import queue
from vbot_campaign.study.snapshot import (
    AlertView,
    AuditView,
    ParentView,
    RungView,
    TrialView,
    WarmStartView,
    WouldPruneView,
)

DEFINITION = "definition"
STATUS = "status"
CREATED = "created"
WARM_START = "warm_start"
AUDIT = "audit"
ALERTS = "alerts"
PARENT = "parent"
CONFIRMED = "confirmed"
SKIPPED = "skipped"
"""Of a trial: combinations that a constraint refused before its own was drawn."""
NUM_ENVS = "num_envs"
"""Of a trial that goes on with fewer environments, because memory ran out."""
RUNG = "rung"
"""Of a trial that came to a rung of a pruner that pauses."""
WOULD_PRUNE = "would_prune"
"""Of a trial that a pruner on a dry run would have stopped."""
TRIAL_KEYS = (SKIPPED, NUM_ENVS, RUNG, WOULD_PRUNE, *queue.TRIAL_KEYS)


def of_study(attributes: Mapping[str, Any], trials: Iterable[TrialView]) -> dict[str, Any]:
    """Return what a study's user attributes say of it, as fields of `StudySnapshot`."""
    return {
        "audit": audit(attributes),
        "alerts": alerts(attributes),
        "queue": queue.waiting(attributes, [trial.queued for trial in trials if trial.queued is not None]),
        "parent": parent(attributes),
        "confirmed": attributes.get(CONFIRMED),
    }


def of_trial(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a trial's user attributes say of it, as fields of `TrialView`."""
    would_prune = attributes.get(WOULD_PRUNE)
    return {
        "num_envs": attributes.get(NUM_ENVS),
        "rung": rung(attributes),
        "would_prune": WouldPruneView(**would_prune) if would_prune is not None else None,
        **queue.trial_facts(attributes),
    }


def rung(attributes: Mapping[str, Any]) -> RungView | None:
    """Return where a trial stands at the rungs; None before its first one."""
    stored = attributes.get(RUNG)
    return RungView(**stored) if stored is not None else None


def pause_reason(attributes: Mapping[str, Any]) -> str | None:
    """Return why a trial is paused at a rung; None where it is not."""
    found = rung(attributes)
    return found.paused if found is not None else None


def warm_start(attributes: Mapping[str, Any]) -> WarmStartView | None:
    """Return what every trial of a study starts from; None for random weights."""
    start = attributes.get(WARM_START)
    return WarmStartView(**start) if start is not None else None


def audit(attributes: Mapping[str, Any]) -> AuditView | None:
    """Return what the audit of the reward found, or None before its end."""
    found = attributes.get(AUDIT)
    return AuditView(**{**found, "warnings": tuple(found["warnings"])}) if found is not None else None


def alerts(attributes: Mapping[str, Any]) -> tuple[AlertView, ...]:
    """Return the newest alerts, the last one last."""
    return tuple(AlertView(**alert) for alert in attributes.get(ALERTS, []))


def parent(attributes: Mapping[str, Any]) -> ParentView | None:
    """Return what a derived study was made from; None for a study of its own."""
    stored = attributes.get(PARENT)
    if stored is None:
        return None
    facts = {name: value for name, value in stored.items() if name not in ("study", "phase")}
    return ParentView(stored["study"], stored["phase"], facts)
