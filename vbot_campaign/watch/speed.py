"""How fast a study will probably train."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study.reading import read_names, read_snapshot
from vbot_campaign.supervisor.slots import Slot

TYPICAL_ENV_STEPS_PER_S = 16_000.0
"""Of one CPU core with the default network, where nothing was trained yet; see docs/benchmarks.md."""


def expected_speed(paths: CampaignPaths, spec: StudySpec, slots: Sequence[Slot]) -> float:
    """Return env steps per second over all slots: measured on this machine's earlier studies, or typical ones.

    Args:
        paths: The runs folder.
        spec: The study that is planned.
        slots: Where it would run.
    """
    measured = [
        trial.env_steps_per_s
        for name in read_names(paths)
        for trial in read_snapshot(paths, name).trials
        if trial.env_steps_per_s
    ]
    if measured:
        return statistics.median(measured) * len(slots)
    return sum(slot.threads.physics for slot in slots) * TYPICAL_ENV_STEPS_PER_S
