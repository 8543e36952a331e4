"""What the service does next, as a function of what is the case. No process, no clock and no database in here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from vbot_campaign.study.submissions import QueueState, Wanted

MAX_DEATHS = 5
"""Deaths in a row after which a study is given up."""
FIRST_PAUSE_S = 5.0
PAUSE_FACTOR = 3.0
"""Each pause after a death is so many times the one before."""
LONG_LIFE_S = 600.0
"""A supervisor that lived for so long was well: its death begins a new row."""
REFUSED = 2
"""Exit code of the command line for what a person has to put right."""

Share = tuple[str, ...]
"""GPUs and CPU cores; an empty one is the whole machine."""


class Stop(IntEnum):
    """How urgently the service is to stop."""

    NO = 0
    DRAIN = 1
    """Studies are stopped with checkpoints and go back to the head of the queue."""
    KILL = 2
    """Their workers are killed; they go back all the same."""


class Word(Enum):
    """What the database says of a study or plan, given who is at work."""

    UNTOUCHED = "as it was before its process began"
    RUNNING = "somebody is at work on it"
    DIED = "interrupted: nobody is at work on it, and nobody has ended it"
    STOPPED = "stopped on request"
    USED_UP = "stopped, a total of its budget is used"
    FAILED = "stopped because something is wrong"
    FINISHED = "all is done"


@dataclass(frozen=True)
class Ending:
    """What is left of a process that has gone."""

    word: Word
    reason: str = ""
    """As in the database."""
    exit_code: int | None = None
    """Negative for a signal; None where another process was its parent."""
    last_words: str = ""
    """The end of what it printed, where it did not end well."""


@dataclass(frozen=True)
class Item:
    """A submission as far as a decision depends on it."""

    id: int
    state: QueueState
    wanted: Wanted = ""
    share: Share = ()
    was_begun: bool = False
    """A process has run it before."""
    deaths: int = 0
    lived_s: float = 0.0
    """Of the process that has gone."""
    ending: Ending | None = None
    """Running: None while somebody is at work on it."""
    pause_s: float | None = None
    """Between two processes: seconds until the next may be started."""
    is_foreign: bool = False
    """Queued: somebody else is at work on it."""


@dataclass(frozen=True)
class Situation:
    """Everything a decision depends on."""

    items: Sequence[Item]
    """What runs, then what is queued, in its order."""
    shares: Sequence[Share]
    """Places, each with its part of the machine."""
    stop: Stop = Stop.NO


@dataclass(frozen=True)
class Launch:
    """Start a process for a submission."""

    id: int
    share: Share
    again: bool
    """It goes on with what a process before has begun."""


@dataclass(frozen=True)
class Adopt:
    """Take a queued one that somebody else runs already for one that runs, and wait for it."""

    id: int


@dataclass(frozen=True)
class AskToStop:
    """Ask whoever runs a submission to stop it with checkpoints."""

    id: int
    wanted: Wanted
    """What becomes of it then."""


@dataclass(frozen=True)
class Kill:
    """Have the workers of a submission killed."""

    id: int


@dataclass(frozen=True)
class End:
    """Take a submission out of the queue."""

    id: int
    state: QueueState
    reason: str


@dataclass(frozen=True)
class Requeue:
    """Put a submission back at the head of the queue."""

    id: int
    reason: str


@dataclass(frozen=True)
class Rest:
    """Count a death, and start the next process after a pause."""

    id: int
    deaths: int
    pause_s: float
    reason: str


@dataclass(frozen=True)
class Leave:
    """End the service."""


Action = Launch | Adopt | AskToStop | Kill | End | Requeue | Rest | Leave


def plan(now: Situation) -> list[Action]:
    """Return what to do, in order.

    One that has ended well leaves the queue; one whose process died is started again after a pause, up to
    `MAX_DEATHS` times in a row; one that was stopped for the service's sake goes back to the head. What is queued
    starts in its order as soon as a place is free whose part of the machine nobody has.
    """
    running = [item for item in now.items if item.state is QueueState.RUNNING]
    if now.stop is not Stop.NO and not running:
        return [Leave()]
    actions = [action for item in running for action in _for_running(item, now.stop)]
    if now.stop is Stop.NO:
        actions += _for_queued(now, running)
    return actions


def _for_running(item: Item, stop: Stop) -> Iterator[Action]:
    if item.pause_s is not None:
        yield from _for_resting(item, stop)
    elif item.ending is not None:
        yield _settled(item, item.ending, stop)
    elif item.wanted or stop is not Stop.NO:
        yield AskToStop(item.id, item.wanted or "requeue")
        if stop is Stop.KILL:
            yield Kill(item.id)


def _for_resting(item: Item, stop: Stop) -> Iterator[Action]:
    if item.wanted == "cancel":
        yield End(item.id, QueueState.CANCELLED, "on request; its trials can be resumed")
    elif stop is not Stop.NO or item.wanted == "requeue":
        yield Requeue(item.id, "the service was stopped")
    elif item.pause_s is not None and item.pause_s <= 0:
        yield Launch(item.id, item.share, again=True)


def _settled(item: Item, ending: Ending, stop: Stop) -> Action:
    if ending.word is Word.FINISHED and ending.exit_code == 0:
        return End(item.id, QueueState.FINISHED, ending.reason)
    if item.wanted == "cancel":
        return End(item.id, QueueState.CANCELLED, "on request; its trials can be resumed")
    if ending.word is Word.FAILED:
        return End(item.id, QueueState.FAILED, ending.reason)
    if ending.word is Word.USED_UP and ending.exit_code == 0:
        return End(item.id, QueueState.FINISHED, ending.reason)
    if stop is not Stop.NO or item.wanted == "requeue":
        return Requeue(item.id, "the service was stopped")
    if ending.word is Word.STOPPED:
        return End(item.id, QueueState.CANCELLED, f"by another hand: {ending.reason}")
    return _interrupted(item, ending)


def _interrupted(item: Item, ending: Ending) -> Action:
    if ending.word in (Word.FINISHED, Word.USED_UP) and ending.exit_code is None:
        # What follows a search may be left, or nothing: the command that resumes it knows.
        return Launch(item.id, item.share, again=True)
    if ending.exit_code == REFUSED and ending.word is not Word.DIED:
        return End(item.id, QueueState.FAILED, ending.last_words)
    deaths = 1 if item.lived_s >= LONG_LIFE_S else item.deaths + 1
    how = how_it_ended(ending)
    if deaths >= MAX_DEATHS:
        return End(item.id, QueueState.FAILED, f"its supervisor died {deaths} times in a row, the last time: {how}")
    return Rest(item.id, deaths, FIRST_PAUSE_S * PAUSE_FACTOR ** (deaths - 1), f"its supervisor died: {how}")


def how_it_ended(ending: Ending) -> str:
    """Say how a process that died has ended."""
    if ending.exit_code is None:
        return "nobody saw how"
    how = f"signal {-ending.exit_code}" if ending.exit_code < 0 else f"exit code {ending.exit_code}"
    return f"{how}: {ending.last_words}" if ending.last_words else how


def _for_queued(now: Situation, running: Sequence[Item]) -> Iterator[Action]:
    taken = [item.share for item in running]
    for item in now.items:
        if item.state is not QueueState.QUEUED:
            continue
        share = free_share(now.shares, taken)
        if share is None:
            return
        # Whoever else runs it has the machine as much as one of ours.
        yield Adopt(item.id) if item.is_foreign else Launch(item.id, share, again=item.was_begun)
        taken.append(() if item.is_foreign else share)


def free_share(shares: Sequence[Share], taken: Sequence[Share]) -> Share | None:
    """Return a place that is free, or None.

    Args:
        shares: All places.
        taken: What those that run were given; of an earlier service that divided the machine otherwise, perhaps.
    """
    if len(taken) >= len(shares):
        return None
    for share in shares:
        if all(_apart(share, other) for other in taken):
            return share
    return None


def _apart(one: Share, other: Share) -> bool:
    return bool(one) and bool(other) and not set(one) & set(other)
