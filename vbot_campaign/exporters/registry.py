"""``registry.yaml``: every checkpoint of a study, and the best one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from vbot_campaign.exporters import plain_yaml, rows
from vbot_campaign.study.snapshot import CheckpointView, StudySnapshot, TrialView


def render_rows(trial: TrialView) -> str:
    """Return the entries of one trial's checkpoints, in the order of training."""
    ordered = sorted(trial.checkpoints, key=lambda checkpoint: (checkpoint.env_steps, checkpoint.kind))
    return "".join(plain_yaml.item(_row(checkpoint)) for checkpoint in ordered)


def render(snapshot: StudySnapshot, fragments: Iterable[str]) -> str:
    """Return the text of the file from the entries of `render_rows`."""
    best = rows.best_checkpoint(snapshot.best) if snapshot.best else None
    return plain_yaml.document(
        snapshot.spec.study,
        plain_yaml.dump({"best": _row(best) if best else None, **_lineage(snapshot)}),
        plain_yaml.listing("checkpoints", fragments),
    )


def _lineage(snapshot: StudySnapshot) -> dict[str, Any]:
    return {} if snapshot.warm_start is None else {"warm_start": asdict(snapshot.warm_start)}


def _row(checkpoint: CheckpointView) -> dict[str, Any]:
    return {
        "trial": checkpoint.trial,
        "env_steps": checkpoint.env_steps,
        "kind": checkpoint.kind,
        "path": checkpoint.path,
        "sha256": checkpoint.sha256,
        "bytes": checkpoint.bytes,
        "score": checkpoint.score,
        "metrics": checkpoint.metrics,
        "created": checkpoint.created,
        "verified": checkpoint.verified,
    }
