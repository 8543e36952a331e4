"""Which fault, when: drawn from a seed, without a process or a clock.

An instant is told in progress (env steps, and what appears in the folder), not in seconds, so that a seed means the
same on a slow machine.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A fault; the value is its name in tables."""

    WORKER_KILLED = "worker killed"
    SUPERVISOR_KILLED = "supervisor killed"
    BOTH_KILLED = "worker and supervisor killed"
    ALL_KILLED = "all processes killed"
    """In one instant, as by a power cut."""
    WORKER_FROZEN = "worker frozen"
    """SIGSTOP; the supervisor must notice by itself."""
    WORKER_FROZEN_SUPERVISOR_KILLED = "worker frozen, other killed"
    """The next supervisor finds a worker that is alive and does nothing."""
    SUPERVISOR_FROZEN = "supervisor frozen"
    """SIGSTOP, and SIGCONT some seconds later."""
    SUPERVISOR_FROZEN_KILLED = "supervisor frozen, killed"
    WORKER_DISK_FULL = "disk full for the worker"
    SUPERVISOR_DISK_FULL = "disk full for the supervisor"
    METRICS_TORN = "last line of metrics torn"
    CHECKPOINT_TRUNCATED = "newest checkpoint truncated"
    MIRROR_REMOVED = "a mirror removed"
    MIRRORS_REMOVED = "all mirrors removed"
    DATABASE_LOCKED = "database locked"
    """Another process holds its write lock: for longer than a report takes, shorter than the busy timeout."""

    @property
    def needs_worker(self) -> bool:
        """Whether it can only strike while a worker lives; the others may come between two attempts too."""
        return self in _ON_WORKER

    @property
    def needs_unfinished_trial(self) -> bool:
        """Whether it damages what only a trial that goes on can make good."""
        return self in (Kind.METRICS_TORN, Kind.CHECKPOINT_TRUNCATED)

    @property
    def may_end_supervisor(self) -> bool:
        """Whether the supervisor may end by it, so that the study has to be resumed."""
        return self in _ENDING


_ON_WORKER = frozenset(
    {
        Kind.WORKER_KILLED,
        Kind.BOTH_KILLED,
        Kind.WORKER_FROZEN,
        Kind.WORKER_FROZEN_SUPERVISOR_KILLED,
        Kind.WORKER_DISK_FULL,
    }
)
_ENDING = frozenset(
    {
        Kind.SUPERVISOR_KILLED,
        Kind.BOTH_KILLED,
        Kind.ALL_KILLED,
        Kind.WORKER_FROZEN_SUPERVISOR_KILLED,
        Kind.SUPERVISOR_FROZEN_KILLED,
        Kind.SUPERVISOR_DISK_FULL,
        Kind.METRICS_TORN,
        Kind.CHECKPOINT_TRUNCATED,
    }
)


class Moment(StrEnum):
    """What the fault waits for, once the study has come far enough."""

    ANY = "any time"
    SPAWN = "start of an attempt"
    """``trial.json`` is new."""
    LOADED = "first iteration"
    """The worker has loaded its checkpoint, if any, and is about to train."""
    WRITING = "a checkpoint being written"
    """Its temporary file has appeared."""
    WRITTEN = "a new checkpoint"
    """The file has its name; its line may be missing yet."""
    RESULT = "end of an attempt"
    """``result.json`` is new."""


_WEIGHTS = {
    Moment.ANY: 10,
    Moment.SPAWN: 1,
    Moment.LOADED: 1,
    Moment.WRITING: 2,
    Moment.WRITTEN: 2,
    Moment.RESULT: 1,
}

MIN_GAP, MAX_GAP = 0.01, 0.18
"""Env steps that are trained before a fault, as shares of a trial; less than one interval leaves no new checkpoint."""
MIN_SECONDS, MAX_SECONDS = 1.0, 2.5


@dataclass(frozen=True)
class PlannedRound:
    """One fault."""

    number: int
    """Counted from 1 over all studies of the run."""
    kind: Kind
    moment: Moment
    gap: float
    """Progress before it since the last one, as a share of a trial's env steps."""
    seconds: float
    """How long a passing fault lasts: a freeze, a lock, a full disk."""
    choice: float
    """0 to 1: which file, where it is torn, in which order two processes are killed."""


def available_kinds(platform: str = sys.platform) -> tuple[Kind, ...]:
    """Return the faults that can be made on a system; another process's limits can be set on Linux only."""
    if platform.startswith("linux"):
        return tuple(Kind)
    return tuple(kind for kind in Kind if kind not in (Kind.WORKER_DISK_FULL, Kind.SUPERVISOR_DISK_FULL))


def plan_rounds(rounds: int, seed: int, kinds: Sequence[Kind]) -> tuple[PlannedRound, ...]:
    """Return the faults of a run.

    Args:
        rounds: How many.
        seed: The same seed gives the same faults.
        kinds: What may happen. They come in shuffled blocks of one each, so none is left out when there are as many
            rounds as kinds.
    """
    generator = random.Random(seed)
    drawn: list[Kind] = []
    while len(drawn) < rounds:
        drawn += generator.sample(list(kinds), len(kinds))
    return tuple(_plan_round(number, kind, seed) for number, kind in enumerate(drawn[:rounds], start=1))


def _plan_round(number: int, kind: Kind, seed: int) -> PlannedRound:
    generator = random.Random(f"{seed}/{number}")
    (moment,) = generator.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
    return PlannedRound(
        number=number,
        kind=kind,
        moment=moment,
        gap=generator.uniform(MIN_GAP, MAX_GAP),
        seconds=generator.uniform(MIN_SECONDS, MAX_SECONDS),
        choice=generator.random(),
    )
