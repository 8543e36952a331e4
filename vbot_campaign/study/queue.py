"""Trials that somebody has chosen: they are made before the sampler draws any.

The study's user attribute ``queue`` is a list to which entries are appended; each has a number, its ``id``. A trial
that was made of an entry carries that number from the instant it exists (``queued``), so a crash between two writes
neither loses an entry nor runs one twice. Entries that are not to be run any more are named in ``queue_dropped``. Both
lists only grow, and each has one writer at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vbot_campaign.errors import StudyError, did_you_mean
from vbot_campaign.spec.problems import show
from vbot_campaign.spec.ranges import contains
from vbot_campaign.spec.resolve import first_value, is_active, skipped_by
from vbot_campaign.spec.study import StudySpec

QUEUE = "queue"
DROPPED = "queue_dropped"
QUEUED = "queued"
"""Of a trial: the entry it was made of."""
ORIGIN = "origin"
"""Of a trial: why somebody chose it."""
SEED = "seed"
"""Of a trial: its own training seed, in place of the study's."""
START = "start"
"""Of a trial: the checkpoint that it goes on from."""

TRIAL_KEYS = (QUEUED, ORIGIN, SEED, START)


@dataclass(frozen=True)
class QueuedStart:
    """The complete state of an earlier training that a trial goes on from."""

    checkpoint: str
    """Absolute path of a resume point (``agent_<env_steps>.pt``)."""
    sha256: str
    env_steps: int
    """Trained when it was written; the trial counts on from there."""
    study: str | None = None
    """Study and trial that it is from."""
    trial: int | None = None
    num_envs: int | None = None
    """Environments that it was trained with; None for the study's."""
    schedule: Literal["continue", "restart"] = "continue"
    """What the learning rate's schedule does, see `vbot_campaign.spec.training.Continuation`."""
    schedule_begin: int = 0
    schedule_end: int | None = None
    lr_factor: float = 1.0


@dataclass(frozen=True)
class QueuedTrial:
    """A trial to be made."""

    parameters: dict[str, Any]
    """Values by name (``ppo.learning_rate``); those left out take their prior or default."""
    origin: str
    """Who chose it and why, in words: ``confirm trial 7``."""
    seed: int | None = None
    """Training seed; None for the study's."""
    start: QueuedStart | None = None
    """Where it goes on from; None for the start that every trial of the study has."""


@dataclass(frozen=True)
class QueueEntry:
    """A queued trial with its number in the queue."""

    id: int
    trial: QueuedTrial


def entries(attributes: Mapping[str, Any]) -> tuple[QueueEntry, ...]:
    """Return all entries that were ever queued.

    Args:
        attributes: User attributes of the study.
    """
    return tuple(_entry(record) for record in attributes.get(QUEUE, ()))


def waiting(attributes: Mapping[str, Any], made: Collection[int]) -> tuple[QueueEntry, ...]:
    """Return the entries that are still to be made into trials, the first one first.

    Args:
        attributes: User attributes of the study.
        made: Entries that there are trials of.
    """
    done = {*made, *attributes.get(DROPPED, ())}
    return tuple(entry for entry in entries(attributes) if entry.id not in done)


def appended(attributes: Mapping[str, Any], trials: Sequence[QueuedTrial]) -> list[dict[str, Any]]:
    """Return the value of ``queue`` with further trials."""
    before = list(attributes.get(QUEUE, ()))
    return before + [{"id": len(before) + i, **asdict(trial)} for i, trial in enumerate(trials)]


def dropped(attributes: Mapping[str, Any], ids: Collection[int]) -> list[int]:
    """Return the value of ``queue_dropped`` with further entries.

    Raises:
        StudyError: An entry that was never queued.
    """
    known = {entry.id for entry in entries(attributes)}
    if unknown := sorted(set(ids) - known):
        raise StudyError(f"queue: has no entry {unknown[0]}; it has {len(known)}, numbered from 0.")
    return sorted({*attributes.get(DROPPED, ()), *ids})


def trial_attributes(entry: QueueEntry) -> dict[str, Any]:
    """Return the user attributes of the trial that is made of an entry."""
    start = None if entry.trial.start is None else asdict(entry.trial.start)
    values = {QUEUED: entry.id, ORIGIN: entry.trial.origin, SEED: entry.trial.seed, START: start}
    return {name: value for name, value in values.items() if value is not None}


def trial_facts(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the user attributes of a trial say of the entry it was made of, as fields of `TrialView`."""
    start = attributes.get(START)
    return {
        "origin": attributes.get(ORIGIN),
        "seed": attributes.get(SEED),
        "queued": attributes.get(QUEUED),
        "start": None if start is None else QueuedStart(**start),
    }


def complete_point(spec: StudySpec, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole point of the search space: the given values, and first values for those left out.

    Raises:
        StudyError: A name that the study does not search, a value outside of its range, or a point that a constraint
            excludes.
    """
    searched = spec.parameters
    point: dict[str, Any] = {}
    for name in parameters:
        if name not in searched:
            near = did_you_mean(name, searched)
            raise StudyError(f"{name}: study '{spec.study}' does not search it.{near} Searched: {', '.join(searched)}.")
    for name, parameter in searched.items():
        if is_active(spec, name, point):
            point[name] = parameters.get(name, first_value(spec, name))
            if not contains(parameter, point[name]):
                raise StudyError(
                    f"{name}: {show(point[name])} is outside of what study '{spec.study}' searches. "
                    "Clip it, or widen the range in a study of another name."
                )
    if (constraint := skipped_by(spec, point)) is not None:
        why = f" ({constraint.reason})" if constraint.reason else ""
        raise StudyError(f"study '{spec.study}': the point is excluded by '{constraint.skip_if}'{why}; choose another.")
    return point


def _entry(record: Mapping[str, Any]) -> QueueEntry:
    values = {name: record[name] for name in QueuedTrial.__dataclass_fields__ if name in record}
    start = values.get("start")
    return QueueEntry(int(record["id"]), QueuedTrial(**{**values, "start": start and QueuedStart(**start)}))
