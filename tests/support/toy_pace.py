"""The pace of toy workers and of the clock, so that no test has to be quicker than they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.toy_study import alerts, live_workers
from vbot_campaign import fs
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.supervisor.decisions import Decision
from vbot_campaign.supervisor.supervisor import LONGEST_ROUND_S


class Hold:
    """Lets the toy workers stand still from an iteration on, until they are released or asked to stop.

    Args:
        patch: Sets the environment of the workers that are started from now on.
        file: Tells them, for as long as it is there.
        at: The iteration.
    """

    def __init__(self, patch: pytest.MonkeyPatch, file: Path, at: int) -> None:
        self._file = file
        self.at(at)
        patch.setenv("TOY_HOLD", str(file))

    def at(self, iteration: int) -> None:
        """Let them go on, as far as this iteration."""
        fs.write_text(self._file, str(iteration))

    def release(self) -> None:
        """Let them go on to their end."""
        self._file.unlink(missing_ok=True)

    def until(self, action: str, times: int = 1) -> Callable[[Decision], None]:
        """Return a listener that releases them once a supervisor has decided something so many times."""
        seen = []

        def hear(decision: Decision) -> None:
            seen.append(decision.action)
            if seen.count(action) == times:
                self.release()

        return hear


def checkpoints_at(paths: CampaignPaths, env_steps: int) -> bool:
    """Tell whether both workers of the toy study live and have written a checkpoint as late as this."""
    logs = paths.study("toy").trials.glob("*/checkpoints/checkpoints.jsonl")
    points = [max((line.get("env_steps", 0) for line in fs.read_lines(log)), default=0) for log in logs]
    return len(points) == 2 and min(points) >= env_steps and len(live_workers(paths)) == 2


def hurrying(paths: CampaignPaths, stands_still: Callable[[], Any]) -> Callable[[], float]:
    """Return a clock that hurries while a worker stands still, until a person was told.

    A watchdog with its usual patience is awaited in no time, and does not take a stall of the machine for a hang.

    Args:
        paths: The runs folder.
        stands_still: Whether there is nothing but to wait.
    """
    ahead = 0.0

    def clock() -> float:
        nonlocal ahead
        if stands_still() and not alerts(paths):
            ahead += LONGEST_ROUND_S
        return time.monotonic() + ahead

    return clock
