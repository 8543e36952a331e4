"""What the end of an attempt means for its trial."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from vbot_campaign.events import EXIT_CODES, Ended, Result


class Fate(StrEnum):
    """What becomes of the trial."""

    COMPLETE = "completed"
    PRUNED = "pruned"
    FAILED = "failed"
    STOPPED = "stopped"
    """Waits to be resumed, because it was asked to stop."""
    DIED = "died"
    """Waits to be resumed, because its worker died."""


@dataclass(frozen=True)
class Verdict:
    """Fate and reason."""

    fate: Fate
    reason: str
    cause: Ended | None = None
    """Of a failure: its class."""

    @property
    def is_systematic(self) -> bool:
        """Whether the next trial will likely fail in the same way."""
        return self.cause in (Ended.FAILED, Ended.INVALID)


_FAILURES = {code: state for state, code in EXIT_CODES.items() if code != 0}


def judge(
    result: Result | None, exit_code: int | None, exit_text: str, *, prune_reason: str | None, asked_to_stop: bool
) -> Verdict:
    """Say what becomes of a trial whose attempt ended.

    Args:
        result: What the attempt wrote; None when it wrote nothing.
        exit_code: Of its process, None when nobody saw it end.
        exit_text: The same in words.
        prune_reason: Set when the pruner stopped the trial.
        asked_to_stop: Whether it was asked to stop, or killed, by the supervisor.
    """
    if result is not None:
        return _judge_result(result, prune_reason)
    if prune_reason is not None:
        return Verdict(Fate.PRUNED, prune_reason)
    if asked_to_stop:
        return Verdict(Fate.STOPPED, exit_text)
    if exit_code in _FAILURES:
        return Verdict(Fate.FAILED, exit_text, _FAILURES[exit_code])
    return Verdict(Fate.DIED, exit_text)


def _judge_result(result: Result, prune_reason: str | None) -> Verdict:
    if result.state is Ended.FINISHED:
        # A training that reached its end before it saw the stop request has a better score than a pruned one.
        if result.score is None or not math.isfinite(result.score):
            return Verdict(Fate.FAILED, "finished without a score", Ended.FAILED)
        return Verdict(Fate.COMPLETE, result.reason or "trained and evaluated")
    if result.state is Ended.STOPPED:
        return Verdict(Fate.STOPPED, result.reason) if prune_reason is None else Verdict(Fate.PRUNED, prune_reason)
    if result.state is Ended.OUT_OF_MEMORY:
        return Verdict(Fate.FAILED, f"out of memory: {result.reason}. Lower workers.num_envs.", result.state)
    return Verdict(Fate.FAILED, f"{result.state.value}: {result.reason}", result.state)
