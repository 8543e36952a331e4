"""A training file: what ``vbot-campaign train --config FILE`` trains."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from vbot_campaign.spec.training import TrainingSpec


class TrainingFile(TrainingSpec):
    """A complete training file: a training, and where it begins and runs."""

    run_tag: str = Field(default="", max_length=200)
    """What people call it; noted in the run's `experiment_meta.json`."""
    checkpoint: Path | None = None
    """Policy to start from, of any form that `evaluate` takes, relative to this file; random weights if left out."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda:0`."""
    threads: int | None = Field(default=None, ge=1, le=256)
    """Threads of torch and of the physics engine, which take turns; one per core if left out."""

    @property
    def training(self) -> TrainingSpec:
        """The training alone."""
        return TrainingSpec.model_validate({name: getattr(self, name) for name in TrainingSpec.model_fields})
