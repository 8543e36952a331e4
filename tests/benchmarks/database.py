"""What one report and one decision cost with a study's history in the database."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import Row
from tests.support.builders import study_spec
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import CampaignStudy, open_storage

POINTS = 30
BUDGET = 30_000


def measure(folder: Path, quick: bool) -> list[Row]:
    """Fill a study, then report, prune, ask and look with its history in place."""
    spec = study_spec(
        budget={"trials": 1000},
        sampler={"name": "tpe", "startup_trials": 8, "seed": 1},
        pruner={"name": "median", "startup_trials": 4},
        report_points=POINTS,
    )
    storage = open_storage(CampaignPaths(folder))
    study = CampaignStudy.create(storage, spec)
    for number in range(10 if quick else 50):
        _train(study, number)
    reports: list[float] = []
    decisions: list[float] = []
    asks: list[float] = []
    for _ in range(3 if quick else 10):
        number = study.snapshot().trials[-1].number + 1
        asks.append(_ms(study.ask))
        for point in range(1, POINTS + 1):
            reports.append(_ms(study.report, number, BUDGET * point // POINTS, 0.01 * point))
            decisions.append(_ms(study.prune_reason, number))
        study.complete(number, 0.3, None, None)
    pictures = [_ms(study.snapshot) for _ in range(20)]
    study.close()
    return [
        Row("report", statistics.median(reports), "ms", 2, note=f"slowest {max(reports):.1f}"),
        Row("prune decision", statistics.median(decisions), "ms", 2, note=f"slowest {max(decisions):.1f}"),
        Row("next point (TPE)", statistics.median(asks), "ms", 1, note=f"slowest {max(asks):.0f}"),
        Row("picture of the study", statistics.median(pictures), "ms", 1),
    ]


def _train(study: CampaignStudy, number: int) -> None:
    study.ask()
    for point in range(1, POINTS + 1):
        study.report(number, BUDGET * point // POINTS, point / POINTS * (0.5 + number / 200))
    study.complete(number, 0.5 + number / 200, None, None)


def _ms(call: Callable[..., Any], *arguments: Any) -> float:
    started = time.perf_counter()
    call(*arguments)
    return 1000.0 * (time.perf_counter() - started)
