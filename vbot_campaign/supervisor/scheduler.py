"""What to do next, as a function of what is the case. No process, no clock and no database in here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

DUMP_S = 1.0
"""Time for a worker that hangs to print its stacks before it is asked to stop."""
ROOM_AGAIN = 1.1
"""Share of the least free space at which a pause for want of it ends: so that it does not end at every byte."""


class Stop(IntEnum):
    """How urgently the study is to stop."""

    NO = 0
    ASK = 1
    """Workers write a checkpoint and end; their trials can be resumed."""
    KILL = 2
    """Workers are killed; their trials can be resumed from the last checkpoint."""


@dataclass(frozen=True)
class Running:
    """A trial with a live worker."""

    trial: int
    slot: str
    stopping_s: float | None = None
    """Seconds since its worker was asked to stop; None when it was not."""
    silent_s: float = 0.0
    """Seconds without a new env step."""
    is_slow: bool = False
    """It is in its first iteration or in the evaluation, which take longer than any other."""
    hung_s: float | None = None
    """Seconds since it was found to hang and asked for its stacks; None when it was not."""


@dataclass(frozen=True)
class Waiting:
    """An unfinished trial without a worker."""

    trial: int
    deaths: int = 0
    """Attempts that died."""
    paused: str | None = None
    """Where it is paused at a rung: its standing there, in words."""
    promotable: int | None = None
    """Its turn, from 0, among the paused ones that are among the best of their rung by now; None where it is not."""

    @property
    def is_left(self) -> bool:
        """Whether it is paused and may not go on."""
        return self.paused is not None and self.promotable is None


@dataclass(frozen=True)
class Situation:
    """Everything a decision depends on."""

    slots: tuple[str, ...]
    running: tuple[Running, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    may_ask: bool = True
    """There is budget for another trial, and the sampler has one."""
    used_up: str | None = None
    """Which budget ends the study now."""
    stop: Stop = Stop.NO
    stop_reason: str = ""
    max_attempts: int = 3
    grace_s: float = 120.0
    """Time for a worker to stop after it was asked."""
    watchdog_s: float = 300.0
    """Time without a new env step after which a worker hangs; three times that where it is slow."""
    free_gb: float = float("inf")
    min_free_gb: float = 0.0
    """Free space below which nothing is started."""
    paused: bool = False
    """Nothing is started at the moment, for want of space."""
    elsewhere: int = 0
    """Unfinished trials of other supervisors; where one of those dies, its trials come here."""

    @property
    def has_room(self) -> bool:
        """Whether there is space for another attempt."""
        return self.free_gb >= self.min_free_gb * (ROOM_AGAIN if self.paused else 1.0)


@dataclass(frozen=True)
class Start:
    """Start an attempt on a waiting trial."""

    trial: int
    slot: str


@dataclass(frozen=True)
class Promote:
    """Let a paused trial go beyond its rung and start an attempt on it."""

    trial: int
    slot: str


@dataclass(frozen=True)
class EndPaused:
    """End a paused trial for good."""

    trial: int
    reason: str


@dataclass(frozen=True)
class Ask:
    """Ask the sampler for a new trial and start it."""

    slot: str


@dataclass(frozen=True)
class DumpStacks:
    """Ask a worker that hangs to print what its threads do."""

    trial: int
    reason: str


@dataclass(frozen=True)
class StopWorker:
    """Ask a worker to write a checkpoint and end."""

    trial: int
    reason: str


@dataclass(frozen=True)
class Kill:
    """Kill a worker."""

    trial: int
    reason: str


@dataclass(frozen=True)
class GiveUp:
    """End a trial whose attempts keep dying."""

    trial: int
    reason: str


@dataclass(frozen=True)
class Pause:
    """Start nothing until there is space again."""

    reason: str


@dataclass(frozen=True)
class Unpause:
    """There is space again."""

    reason: str


@dataclass(frozen=True)
class Finish:
    """End the supervisor."""

    state: str
    """``finished`` or ``stopped``."""
    reason: str


Action = Start | Promote | EndPaused | Ask | DumpStacks | StopWorker | Kill | GiveUp | Pause | Unpause | Finish


def plan(now: Situation) -> list[Action]:
    """Return what to do, in order.

    An interrupted trial goes before a new one, the lowest number first, and a paused one that is among the best of its
    rung goes between them. When nothing runs and nothing more may be asked, the paused ones that are left end: nobody
    comes that could let them go on. A study stops when it is told to, or when its
    hours or env steps are used up: then its workers are asked to stop, and those that do not are killed. It is finished
    when nothing runs, nothing waits and nothing more may be asked. A worker that hangs is asked for its stacks, then to
    stop, then killed; what runs goes on when space is short.
    """
    stop_reason = now.stop_reason if now.stop is not Stop.NO else now.used_up
    if stop_reason is not None:
        return list(_winding_down(now, stop_reason))
    if not now.running and not now.waiting and not now.may_ask and not now.elsewhere:
        return [Finish("finished", "all trials have ended")]
    if now.waiting and not now.running and not now.may_ask and all(trial.is_left for trial in now.waiting):
        return [EndPaused(trial.trial, f"{trial.paused}; no more trials come") for trial in now.waiting]
    return [*_overdue(now), *_hung(now), *_given_up(now), *_room(now), *_placed(now)]


def _winding_down(now: Situation, reason: str) -> Iterator[Action]:
    if not now.running:
        # Hours that run out when nothing is left to train leave nothing to resume.
        done = now.stop is Stop.NO and not now.waiting
        yield Finish("finished" if done else "stopped", reason)
    elif now.stop is Stop.KILL:
        yield from (Kill(worker.trial, reason) for worker in now.running)
    else:
        yield from (StopWorker(worker.trial, reason) for worker in now.running if worker.stopping_s is None)
        yield from _overdue(now)


def _overdue(now: Situation) -> Iterator[Action]:
    for worker in now.running:
        # One that was silent for so long will hardly stir again, and a frozen one hears nothing but SIGKILL.
        hangs = worker.hung_s is not None or worker.silent_s > _limit_s(now, worker)
        grace_s = min(now.grace_s, now.watchdog_s) if hangs else now.grace_s
        if worker.stopping_s is not None and worker.stopping_s > grace_s:
            yield Kill(worker.trial, f"did not stop within {grace_s:g} s")


def _hung(now: Situation) -> Iterator[Action]:
    for worker in now.running:
        if worker.stopping_s is not None:
            continue
        if worker.hung_s is not None and worker.hung_s >= DUMP_S:
            yield StopWorker(worker.trial, "hangs")
        elif worker.hung_s is None and worker.silent_s > _limit_s(now, worker):
            yield DumpStacks(worker.trial, f"no env step for {worker.silent_s:.0f} s")


def _limit_s(now: Situation, worker: Running) -> float:
    return now.watchdog_s * (3 if worker.is_slow else 1)


def _given_up(now: Situation) -> Iterator[Action]:
    for trial in now.waiting:
        if trial.deaths >= now.max_attempts:
            yield GiveUp(trial.trial, f"{trial.deaths} attempts died")


def _room(now: Situation) -> Iterator[Action]:
    if now.has_room == now.paused:
        there = f"{now.free_gb:.2f} GB are free in the runs folder"
        if now.paused:
            yield Unpause(f"{there}: attempts are started again")
        else:
            yield Pause(f"{there}, less than workers.min_free_gb ({now.min_free_gb:g}): no attempt is started")


def _placed(now: Situation) -> Iterator[Action]:
    if not now.has_room:
        return
    taken = {worker.slot for worker in now.running}
    free = [slot for slot in now.slots if slot not in taken]
    ready = _ready(now)
    yield from (action(trial, slot) for (action, trial), slot in zip(ready, free, strict=False))
    if now.may_ask and len(free) > len(ready):
        # One at a time: the sampler is to know the trial that was just started before it draws the next.
        yield Ask(free[len(ready)])


def _ready(now: Situation) -> list[tuple[type[Start] | type[Promote], int]]:
    living = [trial for trial in now.waiting if trial.deaths < now.max_attempts]
    turns = {trial.promotable: trial.trial for trial in living if trial.promotable is not None}
    interrupted = sorted(trial.trial for trial in living if trial.paused is None)
    return [*((Start, trial) for trial in interrupted), *((Promote, turns[turn]) for turn in sorted(turns))]
