"""What state a study and its trials are in, given who is at work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vbot_campaign.study.owner import Owner
from vbot_campaign.study.snapshot import AttemptView, TrialState

INTERRUPTED = "interrupted: its worker and its supervisor are gone"
DEAD_SUPERVISOR = "its supervisor is gone; resume it"


def study_state(status: Mapping[str, str], *, supervised: bool) -> tuple[str, str]:
    """Return the state of a study and why.

    Args:
        status: What is stored.
        supervised: Whether a live supervisor holds the study.
    """
    if status["state"] == "running" and not supervised:
        return "stopped", DEAD_SUPERVISOR
    return status["state"], status["reason"]


def unfinished_state(reason: str, attempts: Sequence[AttemptView], supervised: bool) -> tuple[TrialState, str]:
    """Return the state of a trial that has not ended, and why.

    Args:
        reason: What is stored.
        attempts: All of the trial.
        supervised: Whether a live supervisor watches the open attempts.
    """
    still_open = [attempt for attempt in attempts if attempt.ended is None]
    if not still_open:
        return TrialState.WAITING, reason or "waits for a slot"
    if supervised or any(map(_is_alive, still_open)):
        return TrialState.RUNNING, reason or f"attempt {still_open[-1].number} on {still_open[-1].slot}"
    return TrialState.WAITING, INTERRUPTED


def _is_alive(attempt: AttemptView) -> bool:
    if attempt.pid is None or attempt.pid_started is None:
        return False
    return Owner(attempt.host, attempt.pid, attempt.pid_started).is_alive()
