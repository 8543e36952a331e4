"""What the supervisor's loop remembers between two rounds; all of it can be read from the database again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vbot_campaign.paths import StudyPaths
from vbot_campaign.study.snapshot import AttemptView
from vbot_campaign.study.study import CampaignStudy
from vbot_campaign.supervisor.alerts import Alert
from vbot_campaign.supervisor.decisions import Decision, DecisionLog
from vbot_campaign.supervisor.monitor import TrialMonitor
from vbot_campaign.supervisor.process import Process
from vbot_campaign.supervisor.scheduler import Running, Stop
from vbot_campaign.supervisor.teller import Teller


@dataclass
class Worker:
    """A live attempt."""

    trial: int
    slot: str
    attempt: AttemptView
    process: Process
    monitor: TrialMonitor
    is_placed: bool = True
    """Whether it is written down where it runs."""
    stop_asked: float | None = None
    """Monotonic time of the stop request."""
    silent_s: float = 0.0
    """Seconds without a new env step."""
    signs: int = 0
    """`TrialMonitor.signs` when it was last looked at."""
    memory_mb: float | None = None
    """Most memory seen before it told of its own."""
    hung: str | None = None
    """Set when the watchdog has found that it hangs: why."""
    hung_since: float = 0.0
    """Monotonic time of that."""

    def seen(self, now: float, *, is_trained: bool) -> Running:
        """Return the attempt as the scheduler sees it.

        Args:
            now: Monotonic time.
            is_trained: Only the evaluation is left.
        """
        return Running(
            self.trial,
            self.slot,
            stopping_s=None if self.stop_asked is None else now - self.stop_asked,
            silent_s=self.silent_s,
            is_slow=self.signs == 0 or is_trained,
            hung_s=None if self.hung is None else now - self.hung_since,
        )


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
    gpu_hours: dict[tuple[int, int], float] = field(default_factory=dict)
    """By trial and attempt."""
    exhausted: bool = False
    failures: list[str] = field(default_factory=list)
    """Kinds of the systematic failures since the last trial that ended otherwise, all the same."""
    paused: bool = False
    """Nothing is started, for want of space."""
    artifacts_failed: bool = False
    """The dashboard's store could not be written; it is said once."""
    changed: bool = True


@dataclass(frozen=True)
class Context:
    """What the parts of a supervisor work on together."""

    study: CampaignStudy
    paths: StudyPaths
    state: State
    stop: StopOrder
    log: DecisionLog
    teller: Teller
    clock: Callable[[], float]

    def decide(self, decision: Decision) -> None:
        """Write down a decision that changed something."""
        self.state.changed = True
        self.log.add(decision)

    def alert(self, alert: Alert, attempt: int | None = None) -> None:
        """Tell an alert, unless it was told before."""
        self.state.changed |= self.teller.tell(alert, attempt)
