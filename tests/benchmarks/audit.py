"""What the audit of a reward costs, which stands before every study."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

from tests.benchmarks.rows import Row
from vbot_campaign.envs.vbot.audit import audit_study
from vbot_campaign.spec.loading import load_study

STUDY = Path(__file__).parents[2] / "studies" / "section001.yaml"


def measure(folder: Path, quick: bool) -> list[Row]:
    """Audit a study with many reward parameters on one thread; processor time, as the audit runs beside workers."""
    torch.set_num_threads(1)
    study, spent = load_study(STUDY), []
    for _ in range(1 if quick else 5):
        started = time.process_time()
        audit_study(study)
        spent.append(time.process_time() - started)
    return [
        Row("a study's reward, one core", statistics.median(spent), "s", 2, ceiling=2, note=f"slowest {max(spent):.2f}")
    ]
