"""What the end of an attempt means for its trial."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from vbot_campaign.events import EXIT_CODES, EXIT_FENCED, Ended, Result


class Fate(StrEnum):
    """What becomes of the trial."""

    COMPLETE = "completed"
    PRUNED = "pruned"
    FAILED = "failed"
    STOPPED = "stopped"
    """Waits to be resumed; it was stopped, by us or by someone else, and is none the worse for it."""
    PAUSED = "paused"
    """Waits at a rung until it is among the best there."""
    DIED = "died"
    """Waits to be resumed, because its worker died."""
    OUT_OF_MEMORY = "out_of_memory"
    """Waits to be resumed with fewer environments."""

    @property
    def goes_on(self) -> bool:
        """Whether the trial gets another attempt."""
        return self in (Fate.STOPPED, Fate.PAUSED, Fate.DIED, Fate.OUT_OF_MEMORY)


@dataclass(frozen=True)
class Verdict:
    """Fate and reason."""

    fate: Fate
    reason: str
    cause: Ended | None = None
    """Of a failure or an interruption from outside: its class."""
    detail: str = ""
    """Of a failure: the line that says what went wrong."""

    @property
    def is_systematic(self) -> bool:
        """Whether the next trial will likely fail in the same way."""
        return self.cause in (Ended.FAILED, Ended.INVALID)

    @property
    def kind(self) -> str:
        """What two failures of the same kind have in common: class and line, without numbers and addresses."""
        return f"{self.cause}: {re.sub(r'0x[0-9a-fA-F]+|[0-9]+', '#', self.detail)}"


@dataclass(frozen=True)
class Ending:
    """Everything that is known of an attempt's end beside its result."""

    code: int | None = None
    """Exit code of the process; None when nobody saw it end."""
    words: str = ""
    """The same in words."""
    asked_to_stop: bool = False
    """It was asked to stop, or killed, by the supervisor."""
    hung: str | None = None
    """Set when the watchdog ended it: why."""
    oom_killed: bool = False
    """The kernel killed it for its memory."""
    progressed: bool = True
    """It left a checkpoint further on than where it began."""


_INTERRUPTED = (None, Ended.STOPPED, Ended.DISK_FULL)
_FAILURES = {code: state for state, code in EXIT_CODES.items() if code != 0}


def judge(result: Result | None, end: Ending, prune_reason: str | None = None, *, is_paused: bool = False) -> Verdict:
    """Say what becomes of a trial whose attempt ended.

    Args:
        result: What the attempt wrote; None when it wrote nothing.
        end: What else is known.
        prune_reason: Set when the pruner stopped the trial.
        is_paused: The pruner paused it at a rung.
    """
    state = result.state if result is not None else _state_of(end)
    reason = result.reason if result is not None else end.words
    if result is not None and state is Ended.FINISHED:
        # A training that reached its end before it saw the stop request has a better score than a pruned one.
        return _judge_finished(result)
    if prune_reason is not None and state in (*_INTERRUPTED, Ended.OUT_OF_MEMORY):
        return Verdict(Fate.PRUNED, prune_reason)
    if state is Ended.OUT_OF_MEMORY:
        return Verdict(Fate.OUT_OF_MEMORY, f"out of memory: {reason}", state)
    if state not in _INTERRUPTED:
        return Verdict(Fate.FAILED, _failure(result, state, reason), state, _detail(result, reason))
    if end.hung is not None:
        return Verdict(Fate.DIED, end.hung)
    if state is not None and not end.asked_to_stop:
        return _judge_interrupted(state, reason, end)
    if is_paused and end.asked_to_stop:
        return Verdict(Fate.PAUSED, reason)
    return Verdict(Fate.STOPPED if end.asked_to_stop or end.code == EXIT_FENCED else Fate.DIED, reason)


def _state_of(end: Ending) -> Ended | None:
    """Return what an end without a result amounts to; None for a death."""
    if end.asked_to_stop or end.hung is not None:
        return None
    if end.oom_killed:
        return Ended.OUT_OF_MEMORY
    return None if end.code is None else _FAILURES.get(end.code)


def _judge_finished(result: Result) -> Verdict:
    if result.score is None or not math.isfinite(result.score):
        return Verdict(Fate.FAILED, "finished without a score", Ended.FAILED, "finished without a score")
    return Verdict(Fate.COMPLETE, result.reason or "trained and evaluated")


def _judge_interrupted(state: Ended, reason: str, end: Ending) -> Verdict:
    what = "stopped from outside" if state is Ended.STOPPED else "disk full"
    if end.progressed:
        return Verdict(Fate.STOPPED, f"{what}: {reason}", state)
    # What ends a worker before its next checkpoint may do so for ever.
    return Verdict(Fate.DIED, f"{what} before its next checkpoint: {reason}", state)


def _failure(result: Result | None, state: Ended | None, reason: str) -> str:
    if result is None or state is None:
        return reason
    where = f" in iteration {result.iteration}" if state is Ended.DIVERGED else ""
    return f"{state.value}{where}: {reason}"


def _detail(result: Result | None, reason: str) -> str:
    """Return the last line of the traceback, which names the exception, or the first line of the reason."""
    lines = (result.error or "").strip().splitlines() if result is not None else []
    return lines[-1] if lines else (reason.splitlines() or [""])[0]
