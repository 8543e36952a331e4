"""``experiments/trial_0007.yaml``: what a trial was, what happened to it and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vbot_campaign import fs
from vbot_campaign.exporters import plain_yaml, provenance, rows, trial_config
from vbot_campaign.exporters.trial_config import TrialConfig
from vbot_campaign.paths import StudyPaths, TrialPaths
from vbot_campaign.spec.environments import EnvironmentDeclaration, get_environment
from vbot_campaign.spec.trainer import trainer_words
from vbot_campaign.study.snapshot import TrialView

CATEGORIES = ("navigation", "stability", "efficiency", "termination", "terrain", "gait", "other")
TERM_LINES = 10
"""Iterations over which reward terms are averaged."""


def reward_terms(folder: TrialPaths, env_steps: int) -> dict[str, float]:
    """Return each reward term's mean weighted value per step over the last iterations of a training.

    Args:
        folder: The trial's folder.
        env_steps: Lines beyond this count are left out, so that the answer depends on the database and not on
            how far a worker got after the supervisor last looked.
    """
    lines = [
        line["terms"]
        for line in fs.read_last_lines(folder.metrics)
        if line.get("kind") == "progress" and line.get("terms") and line.get("env_steps", 0) <= env_steps
    ][-TERM_LINES:]
    names = list(lines[-1]) if lines else []
    return {name: sum(float(line.get(name) or 0.0) for line in lines) / len(lines) for name in names}


def by_category(
    terms: Mapping[str, float], weights: Mapping[str, float], environment: EnvironmentDeclaration
) -> dict[str, Any]:
    """Return reward terms grouped by category, and which of them have a weight other than zero."""
    groups: dict[str, Any] = {category: {} for category in CATEGORIES}
    for name, value in terms.items():
        declared = environment.rewards.get(name)
        groups[declared.category if declared else "other"][name] = value
    active = [name for name, weight in weights.items() if weight != 0]
    return {**groups, "active_components": active, "active_count": len(active)}


def render(paths: StudyPaths, trial: TrialView, config: TrialConfig) -> str:
    """Return the text of a trial's summary."""
    name = rows.experiment_id(config.spec.study, trial.number)
    folder = TrialPaths(paths.root / trial.folder) if trial.folder else None
    meta = provenance.read_meta(folder) if folder else None
    ran = provenance.ran_with(config, meta)
    content = {
        "experiment_id": name,
        "config_id": name,
        "campaign_id": config.spec.study,
        "trial_index": trial.number,
        "score": rows.score(trial),
        "env_steps": trial.env_steps,
        "config": _config(ran, meta),
        "execution": _execution(trial),
        "results": _results(folder, trial, ran),
        "outcomes": rows.outcomes(trial),
        "reports": [{"env_steps": step, "score": value} for step, value in sorted(trial.reports.items())],
        "attempts": rows.attempt_rows(trial),
        "ran_on": provenance.ran_on(meta),
        "warnings": provenance.warnings(trial, config, meta, folder) if folder else [],
    }
    return plain_yaml.document(config.spec.study, plain_yaml.dump(content))


def _config(config: TrialConfig, meta: Mapping[str, Any] | None) -> dict[str, Any]:
    training = config.training
    return {
        "environment": config.spec.environment,
        "physics": config.spec.physics,
        "algorithm": trial_config.algorithm(config.spec.trainer),
        "trainer": trainer_words(config.spec.trainer),
        "hyperparameters": config.ppo,
        "env_settings": config.env,
        **({"seed": training.seed, "evaluation_seed": training.evaluation.seed} if training else {}),
        "checked": meta is not None,
        **({"warm_start": config.warm_start} if config.warm_start else {}),
    }


def _execution(trial: TrialView) -> dict[str, Any]:
    return {
        "started_at": trial.started,
        "completed_at": trial.ended,
        "duration_hours": rows.hours(trial),
        "status": rows.status(trial.state),
        "reason": trial.reason,
    }


def _results(folder: TrialPaths | None, trial: TrialView, config: TrialConfig) -> dict[str, Any]:
    terms = reward_terms(folder, trial.env_steps) if folder else {}
    best = rows.best_checkpoint(trial)
    return {
        "final_metrics": rows.metrics(trial),
        "reward_scales": config.reward,
        "reward_components": by_category(terms, config.reward, get_environment(config.spec.environment)),
        "run_dir": trial.folder,
        "best_checkpoint": best.path if best else None,
    }
