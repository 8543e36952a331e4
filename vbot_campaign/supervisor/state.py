"""What the supervisor's loop remembers between two rounds; all of it can be read from the database again."""

from __future__ import annotations

from dataclasses import dataclass, field

from vbot_campaign.study.snapshot import AttemptView
from vbot_campaign.supervisor.monitor import TrialMonitor
from vbot_campaign.supervisor.process import WorkerProcess
from vbot_campaign.supervisor.scheduler import Stop
from vbot_campaign.supervisor.slots import Slot


@dataclass
class Worker:
    """A live attempt."""

    trial: int
    slot: Slot
    attempt: AttemptView
    process: WorkerProcess
    monitor: TrialMonitor
    stop_asked: float | None = None
    """Monotonic time of the stop request."""


@dataclass
class StopOrder:
    """What is known of a wish to stop. Signal handlers write it, the loop reads it."""

    level: Stop = Stop.NO
    reason: str = ""
    failed: bool = False

    def raise_to(self, level: Stop, reason: str) -> None:
        """Stop at least this urgently; the first reason stays."""
        if level > self.level:
            self.level, self.reason = level, self.reason or reason


@dataclass
class State:
    """The trials as the loop sees them."""

    workers: dict[int, Worker] = field(default_factory=dict)
    waiting: dict[int, int] = field(default_factory=dict)
    """Attempts that died, by unfinished trial without a worker."""
    monitors: dict[int, TrialMonitor] = field(default_factory=dict)
    asked: int = 0
    env_steps: dict[int, int] = field(default_factory=dict)
    exhausted: bool = False
    failures: int = 0
    """Systematic failures since the last trial that ended otherwise."""
    changed: bool = True
