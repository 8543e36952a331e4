"""``automl_state.yaml``: the study at a glance, under the names that earlier tools used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from vbot_campaign.exporters import plain_yaml, rows
from vbot_campaign.exporters.trial_config import TrialConfig
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView

SHOWN_ALERTS = 20
"""Newest alerts in the mirror."""

_STATUS = {"created": "initialized", "running": "running", "stopped": "paused", "finished": "completed"}
_PROGRESS = {"initialized": "pending", "running": "in_progress", "paused": "in_progress"}


def status(snapshot: StudySnapshot) -> str:
    """Return initialized, running, paused, completed, or failed where a finished study has no score at all."""
    states = {trial.state for trial in snapshot.trials}
    if snapshot.state == "finished" and states == {TrialState.FAILED}:
        return "failed"
    return _STATUS[snapshot.state]


def render_row(trial: TrialView, config: TrialConfig) -> str:
    """Return a finished trial's entry of the history; an unfinished trial has none."""
    if not trial.state.is_finished:
        return ""
    return plain_yaml.item(
        {
            "trial": trial.number,
            "state": trial.state.value,
            "reason": trial.reason,
            "score": rows.score(trial),
            "metrics": rows.metrics(trial),
            "hp_config": config.hp_config,
            "reward_config": config.reward_config,
            "env_config": config.env_config,
            "env_steps": trial.env_steps,
            "duration_hours": rows.hours(trial),
            "run_dir": trial.folder,
        }
    )


def render(
    snapshot: StudySnapshot,
    fragments: Iterable[str],
    best: TrialConfig | None,
    current: TrialConfig | None,
) -> str:
    """Return the text of the file.

    Args:
        snapshot: The study.
        fragments: Entries of `render_row`, by trial.
        best: Configuration of the best trial.
        current: Configuration of the newest running trial.
    """
    spec, word = snapshot.spec, status(snapshot)
    head = {
        "automl_id": spec.study,
        "status": word,
        "reason": snapshot.reason,
        "mode": "hp-search",
        "current_phase": "reward_search" if set(spec.search_space) == {"reward"} else "hp_search",
        "current_stage": spec.study,
        "current_iteration": sum(trial.state.is_finished for trial in snapshot.trials),
        "environment": spec.environment,
        **({"warm_start": asdict(snapshot.warm_start)} if snapshot.warm_start else {}),
        "start_time": snapshot.created,
        "elapsed_hours": round(snapshot.hours_used, 6),
        "budget_hours": spec.budget.hours,
        "budget": spec.budget.model_dump(mode="json"),
        "env_steps_used": snapshot.env_steps_used,
        "trials_by_state": dict(sorted(Counter(trial.state.value for trial in snapshot.trials).items())),
        "skipped_combinations": snapshot.skipped,
        "best_results": {spec.study: _best(snapshot.best, best)} if snapshot.best and best else {},
        "curriculum_progress": {spec.study: _PROGRESS.get(word, "completed")},
        "current_hp_config": current.hp_config if current else {},
        "current_reward_config": current.reward_config if current else {},
        "alerts": [asdict(alert) for alert in snapshot.alerts[-SHOWN_ALERTS:]],
    }
    return plain_yaml.document(spec.study, plain_yaml.dump(head), plain_yaml.listing("hp_search_history", fragments))


def _best(trial: TrialView, config: TrialConfig) -> dict[str, Any]:
    checkpoint = rows.best_checkpoint(trial)
    return {
        "trial": trial.number,
        "score": trial.score,
        "hp_config": config.hp_config,
        "reward_config": config.reward_config,
        "env_config": config.env_config,
        "metrics": rows.metrics(trial),
        "checkpoint": checkpoint.path if checkpoint else None,
    }
