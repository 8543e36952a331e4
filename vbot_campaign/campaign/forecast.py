"""What a plan will probably cost, from what was measured before.

The low end is a campaign where the searches prune well, each gate passes at the first try and the machine is as fast
as in the fastest tenth of the trials that were trained on it; the high end one where nothing is pruned, every try is
needed and the machine is as slow as in the slowest tenth.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vbot_campaign.campaign import probe
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.plan import PlanSpec, Stage
from vbot_campaign.spec.stages import stage_values
from vbot_campaign.spec.training import PpoSettings
from vbot_campaign.study.reading import read_names, read_snapshot
from vbot_campaign.study.snapshot import StudySnapshot
from vbot_campaign.study.usage import is_gpu
from vbot_campaign.supervisor.slots import Slot

TYPICAL_ENV_STEPS_PER_S = (8_000.0, 26_000.0)
"""Of one CPU core with the default network, where nothing was measured; see docs/benchmarks.md."""
PRUNED_SHARE = 0.4
"""Share of its env steps that a trial of a search with a pruner takes at best, over all its trials."""
EVALUATION_S_PER_EPISODE = (0.02, 0.1)
_TYPICAL_BYTES_PER_WEIGHT = 12
"""Weights and both moments of Adam, float32."""
_ROBOT_BYTES = (2_000, 12_000)
"""What a resume point keeps of each robot."""


@dataclass(frozen=True)
class Span:
    """An interval."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        """Add both ends up."""
        return Span(self.low + other.low, self.high + other.high)

    def over(self, speed: Span) -> Span:
        """Divide by an interval."""
        return Span(self.low / speed.high, self.high / speed.low)


@dataclass(frozen=True)
class StageForecast:
    """What a stage will probably cost."""

    name: str
    does: str
    """In words: ``8 trials, 3 x 2 confirmed, 1 to 2 trainings``."""
    env_steps: Span
    hours: Span
    """Wall time with all slots busy where there is enough to do."""
    slot_hours: Span
    disk_gb: Span


@dataclass(frozen=True)
class Forecast:
    """What a plan will probably cost."""

    stages: tuple[StageForecast, ...]
    slots: int
    on_gpus: bool
    notes: tuple[str, ...]
    """Where the speeds are from, and what the budget leaves of it."""

    @property
    def env_steps(self) -> Span:
        """Of all stages."""
        return sum((stage.env_steps for stage in self.stages), Span(0, 0))

    @property
    def hours(self) -> Span:
        """Of all stages."""
        return sum((stage.hours for stage in self.stages), Span(0, 0))

    @property
    def slot_hours(self) -> Span:
        """Of all stages."""
        return sum((stage.slot_hours for stage in self.stages), Span(0, 0))

    @property
    def disk_gb(self) -> Span:
        """Of all stages."""
        return sum((stage.disk_gb for stage in self.stages), Span(0, 0))


@dataclass(frozen=True)
class Speed:
    """Env steps per second of one slot, and how that is known."""

    span: Span
    source: str


def forecast(
    paths: CampaignPaths, plan: PlanSpec, slots: Sequence[Slot], *, probed: Sequence[probe.Probed] = ()
) -> Forecast:
    """Return what a plan will probably cost.

    Args:
        paths: The runs folder, whose studies tell how fast this machine is.
        plan: The plan.
        slots: Where it would run.
        probed: What short trainings have measured, which goes before all else.
    """
    snapshots = [read_snapshot(paths, name) for name in read_names(paths)]
    speeds = {stage.stage: _speed(plan, stage, snapshots, probed, slots) for stage in plan.stages}
    stages = tuple(_stage(plan, stage, speeds[stage.stage].span, len(slots)) for stage in plan.stages)
    on_gpus = any(is_gpu(slot.name) for slot in slots)
    made = Forecast(stages, len(slots), on_gpus, ())
    kind = "GPU-hours" if on_gpus else "slot-hours"
    busy = made.slot_hours
    notes = [
        f"{len(slots)} slots; {busy.low:.1f} - {busy.high:.1f} {kind}",
        *dict.fromkeys(s.source for s in speeds.values()),
    ]
    return Forecast(stages, len(slots), on_gpus, (*notes, *_budget_notes(plan, made)))


def _speed(
    plan: PlanSpec,
    stage: Stage,
    snapshots: Sequence[StudySnapshot],
    probed: Sequence[probe.Probed],
    slots: Sequence[Slot],
) -> Speed:
    physics = stage.physics or plan.physics
    here = [one.env_steps_per_s for one in probed if one.physics == physics]
    if here:
        return Speed(Span(0.8 * min(here), 1.1 * max(here)), f"speed with {physics}: from a probe just now")
    measured = sorted(
        trial.env_steps_per_s
        for snapshot in snapshots
        if snapshot.spec.physics == physics
        for trial in snapshot.trials
        if trial.env_steps_per_s
    )
    if len(measured) > 1:
        deciles = statistics.quantiles(measured, n=10, method="inclusive")
        source = f"speed with {physics}: from {len(measured)} trials in this runs folder"
        return Speed(Span(deciles[0], deciles[-1]), source)
    if measured:
        return Speed(
            Span(0.7 * measured[0], 1.3 * measured[0]), f"speed with {physics}: from 1 trial in this runs folder"
        )
    cores = max(1.0, sum(slot.threads.physics for slot in slots) / max(len(slots), 1))
    low, high = TYPICAL_ENV_STEPS_PER_S
    return Speed(
        Span(low * cores, high * cores), f"speed with {physics}: a guess, nothing was trained here; try --probe"
    )


@dataclass(frozen=True)
class _Part:
    """Trainings of one kind in a stage."""

    count: int
    """Of one round; those of a round run side by side."""
    rounds: Span
    length: Span
    """Env steps of each."""
    words: str

    @property
    def env_steps(self) -> Span:
        return self._times(self.count, self.length)

    def seconds(self, speed: Span, slots: int) -> Span:
        """Return the wall time: one training keeps one slot busy, however many there are."""
        return self._times(math.ceil(self.count / max(slots, 1)), self.length.over(speed))

    def _times(self, count: int, each: Span) -> Span:
        return Span(self.rounds.low * count * each.low, self.rounds.high * count * each.high)


def _parts(stage: Stage) -> Iterator[_Part]:
    once, search = Span(1, 1), stage.search
    if search is not None:
        length = search.env_steps_per_trial
        least = 1.0 if search.pruner.name == "none" else PRUNED_SHARE
        yield _Part(search.trials, once, Span(least * length, length), f"{search.trials} trials")
    if search is not None and stage.confirm is not None:
        count, length = stage.confirm.top * stage.confirm.seeds, stage.confirm.env_steps or search.env_steps_per_trial
        yield _Part(count, once, Span(length, length), f"{count} confirmed")
    top, tries = stage.train.top, stage.gate.tries if stage.gate is not None else 1
    words = _counted(Span(top, top * tries), "training")
    yield _Part(top, Span(1, tries), Span(stage.train.env_steps, stage.train.env_steps), words)


def _stage(plan: PlanSpec, stage: Stage, speed: Span, slots: int) -> StageForecast:
    parts = list(_parts(stage))
    tries = stage.gate.tries if stage.gate is not None else 1
    steps = sum((part.env_steps for part in parts), Span(0, 0))
    wall = sum((part.seconds(speed, slots) for part in parts), _gate_seconds(stage, tries))
    busy = steps.over(speed)
    return StageForecast(
        name=stage.stage,
        does=", ".join(part.words for part in parts),
        env_steps=steps,
        hours=Span(wall.low / 3600, wall.high / 3600),
        slot_hours=Span(busy.low / 3600, busy.high / 3600),
        disk_gb=_disk(plan, stage, tries),
    )


def _gate_seconds(stage: Stage, tries: int) -> Span:
    if stage.gate is None:
        return Span(0, 0)
    episodes = stage.gate.seeds * stage.gate.episodes * stage.gate.patience
    low, high = EVALUATION_S_PER_EPISODE
    return Span(episodes * low, tries * episodes * high)


def _disk(plan: PlanSpec, stage: Stage, tries: int) -> Span:
    """Return gigabytes: checkpoints of all trials that are kept, within the disk budget of each study."""
    weights = _weights(plan, stage)
    kept = plan.checkpoints
    policies = max(kept.keep_best, 1) * weights * _TYPICAL_BYTES_PER_WEIGHT
    patience = stage.gate.patience - 1 if stage.gate is not None else 0

    def gigabytes(trials: int, points: int, robot: int) -> float:
        point = weights * _TYPICAL_BYTES_PER_WEIGHT + plan.workers.num_envs * robot
        return float(min(trials * (policies + points * point) / 1e9, kept.disk_budget_gb))

    searched = stage.search.trials if stage.search is not None else 0
    confirmed = stage.confirm.top * stage.confirm.seeds if stage.confirm is not None else 0
    low, high = _ROBOT_BYTES
    counts = ((searched, kept.keep_last), (confirmed, kept.keep_last))
    top = stage.train.top
    return Span(
        sum(gigabytes(n, points, low) for n, points in (*counts, (top, kept.keep_last + patience))),
        sum(gigabytes(n, points, high) for n, points in (*counts, (top * tries, kept.keep_last + patience))),
    )


def _weights(plan: PlanSpec, stage: Stage) -> int:
    ppo = stage_values(plan, stage)["ppo"]
    total = 0
    for name, outputs in (("policy_hidden_layer_sizes", 12), ("value_hidden_layer_sizes", 1)):
        sizes = [54, *ppo.get(name, PpoSettings.model_fields[name].default), outputs]
        total += sum(before * after + after for before, after in itertools.pairwise(sizes))
    return total


def _counted(count: Span, word: str) -> str:
    low, high = int(count.low), int(count.high)
    number = str(low) if low == high else f"{low} to {high}"
    return f"{number} {word}" + ("" if number == "1" else "s")


def _budget_notes(plan: PlanSpec, made: Forecast) -> list[str]:
    notes = []
    hours, steps, gpu_hours = plan.budget.hours, plan.budget.env_steps, plan.budget.gpu_hours
    if hours is not None and made.hours.high > hours:
        likely = "certainly" if made.hours.low > hours else "perhaps"
        notes.append(f"the budget of {hours:g} hours is {likely} too small; searches end with their share of it")
    if steps is not None and made.env_steps.high > steps:
        notes.append(f"the budget of {steps:,} env steps is perhaps too small; searches end with their share of it")
    if gpu_hours is not None and made.on_gpus and made.slot_hours.high > gpu_hours:
        notes.append(f"the budget of {gpu_hours:g} GPU-hours is perhaps too small")
    return notes
