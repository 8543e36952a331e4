"""``index.yaml``: one row per trial, failures among them."""

from __future__ import annotations

from collections.abc import Iterable

from vbot_campaign.exporters import plain_yaml, rows
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study.snapshot import TrialView


def render_row(spec: StudySpec, trial: TrialView) -> str:
    """Return the entry of one trial."""
    metrics = rows.metrics(trial)
    return plain_yaml.item(
        {
            "experiment_id": rows.experiment_id(spec.study, trial.number),
            "trial": trial.number,
            "environment": spec.environment,
            "status": rows.status(trial.state),
            "reason": trial.reason,
            "started_at": trial.started,
            "completed_at": trial.ended,
            "score": rows.score(trial),
            "final_reward": metrics.get("episode_reward_mean"),
            "success_rate": metrics.get("success_rate"),
            "env_steps": trial.env_steps,
            "attempts": len(trial.attempts),
            "run_dir": trial.folder,
        }
    )


def render(spec: StudySpec, fragments: Iterable[str]) -> str:
    """Return the text of the file from the entries of `render_row`."""
    return plain_yaml.document(spec.study, plain_yaml.listing("experiments", fragments))
