"""What a Prometheus server may ask for. Needs the package prometheus-client, which is an extra."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.snapshot import StudySnapshot, TrialState
from vbot_campaign.study.submissions import QueueState, Submission

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from vbot_campaign.supervisor.gpus import GpuReading

INSTALL = "prometheus-client is not installed. Install it with: pip install 'vbot-campaign[serve]'"
PREFIX = "vbot_campaign_"


@dataclass(frozen=True)
class Facts:
    """Everything that is measured, at one instant."""

    studies: Sequence[StudySnapshot]
    submissions: Sequence[Submission]
    gpus: Sequence[GpuReading]
    mirror_age_s: dict[str, float]
    """Of the newest mirror, by study; without those that have none."""
    uptime_s: float
    is_draining: bool


def render(facts: Facts) -> tuple[bytes, str]:
    """Return the text of all metrics and its media type.

    Raises:
        ImportError: The package is not installed.
    """
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
    from prometheus_client.registry import Collector

    class Once(Collector):
        def collect(self) -> Iterator[Metric]:
            yield from _studies(facts)
            yield from _service(facts)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Once())
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def _studies(facts: Facts) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    trials = GaugeMetricFamily(f"{PREFIX}trials", "Trials of a study by state.", labels=["study", "state"])
    best = GaugeMetricFamily(f"{PREFIX}best_score", "Highest score of a complete trial.", labels=["study"])
    steps = CounterMetricFamily(f"{PREFIX}env_steps", "Env steps that were trained.", labels=["study"])
    speed = GaugeMetricFamily(
        f"{PREFIX}env_steps_per_second", "Speed of the running trials at their last report, added up.", labels=["study"]
    )
    age = GaugeMetricFamily(f"{PREFIX}mirror_age_seconds", "Age of the study's newest YAML mirror.", labels=["study"])
    for snapshot in facts.studies:
        name = snapshot.spec.study
        states = Counter(trial.state for trial in snapshot.trials)
        for state in TrialState:
            trials.add_metric([name, state.value], states[state])
        if snapshot.best is not None and snapshot.best.score is not None:
            best.add_metric([name], snapshot.best.score)
        steps.add_metric([name], snapshot.env_steps_used)
        running = [trial for trial in snapshot.trials if trial.state is TrialState.RUNNING]
        speed.add_metric([name], sum(trial.env_steps_per_s or 0.0 for trial in running))
        if name in facts.mirror_age_s:
            age.add_metric([name], facts.mirror_age_s[name])
    yield from (trials, best, steps, speed, age)


def _service(facts: Facts) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    used = GaugeMetricFamily(f"{PREFIX}gpu_memory_used_bytes", "Memory in use on a GPU.", labels=["gpu", "uuid"])
    total = GaugeMetricFamily(f"{PREFIX}gpu_memory_total_bytes", "Memory of a GPU.", labels=["gpu", "uuid"])
    for gpu in facts.gpus:
        used.add_metric([str(gpu.index), gpu.uuid], gpu.memory_used_mb * 1e6)
        total.add_metric([str(gpu.index), gpu.uuid], gpu.memory_total_mb * 1e6)
    queue = GaugeMetricFamily(f"{PREFIX}queue_length", "Studies and plans in the queue by state.", labels=["state"])
    states = Counter(one.state for one in facts.submissions)
    for state in QueueState:
        queue.add_metric([state.value], states[state])
    supervisors = sum(snapshot.supervisor is not None for snapshot in facts.studies)
    restarts = CounterMetricFamily(
        f"{PREFIX}restarts", "Processes of queued studies and plans that were started again, since the queue began."
    )
    restarts.add_metric([], sum(one.restarts for one in facts.submissions))
    yield from (used, total, queue, restarts)
    yield GaugeMetricFamily(f"{PREFIX}supervisors_running", "Live supervisors, of whoever.", value=supervisors)
    yield GaugeMetricFamily(f"{PREFIX}uptime_seconds", "Age of this service.", value=facts.uptime_s)
    yield GaugeMetricFamily(f"{PREFIX}draining", "1 while the service is being stopped.", value=int(facts.is_draining))


def mirror_ages(paths: CampaignPaths, names: Sequence[str]) -> dict[str, float]:
    """Return the age of each study's newest mirror in seconds; studies without one are left out."""
    ages = {}
    for name in names:
        study = paths.study(name)
        there = [path for path in (study.automl_state, study.registry, study.index) if path.exists()]
        if there:
            ages[name] = max(0.0, time.time() - max(path.stat().st_mtime for path in there))
    return ages
