"""A read-only picture of a study at one instant, for schedulers, exporters and screens."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from vbot_campaign.errors import StudyError
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study.queue import QueuedStart, QueueEntry


class TrialState(StrEnum):
    """Where a trial is in its life."""

    WAITING = "waiting"
    """Asked, no worker at the moment: waits for a slot, or was interrupted."""
    RUNNING = "running"
    """A worker trains it."""
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"

    @property
    def is_finished(self) -> bool:
        """Whether the trial will never run again."""
        return self in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)


@dataclass(frozen=True)
class AttemptView:
    """One worker process on a trial. Times are aware UTC."""

    number: int
    token: str
    host: str
    pid: int | None
    pid_started: float | None
    """Of `vbot_campaign.study.owner.process_started`, so that a reused pid is not mistaken for it."""
    slot: str
    started: datetime
    ended: datetime | None
    reason: str | None
    exit_code: int | None
    first_env_step: int
    last_env_step: int
    memory_peak_mb: float | None


@dataclass(frozen=True)
class CheckpointView:
    """One checkpoint file of a trial."""

    trial: int
    env_steps: int
    kind: str
    """``resume`` or ``best``."""
    path: str
    """Relative to the study's folder, with forward slashes."""
    sha256: str
    bytes: int
    score: float | None
    metrics: dict[str, float] | None
    created: datetime
    verified: datetime | None


@dataclass(frozen=True)
class RungView:
    """Where a trial stands in successive halving with pauses."""

    passed: int
    """Rungs that it was let go beyond."""
    paused: str | None = None
    """Why it is paused at the next one; None where it is not."""
    env_step: int | None = None
    """Of the report that it was paused for; later ones count only when it goes on."""


@dataclass(frozen=True)
class WouldPruneView:
    """What a pruner that stops nothing would have stopped a trial for."""

    env_step: int
    reason: str


@dataclass(frozen=True)
class TrialView:
    """One point of the search space and what came of it."""

    number: int
    state: TrialState
    reason: str
    """Why it is in this state, in words."""
    parameters: dict[str, Any]
    """Sampled values by name, decoded (layer sizes are lists); inactive conditional parameters are absent."""
    score: float | None
    """Final score; for a pruned trial the last reported one."""
    parts: dict[str, float] | None
    """Score parts of the evaluation, or of the last report point."""
    env_steps: int
    """Trained so far."""
    reports: dict[int, float]
    """Reported scores by env step of the canonical grid."""
    started: datetime | None
    ended: datetime | None
    folder: str | None
    """Relative to the study's folder."""
    attempts: tuple[AttemptView, ...] = ()
    checkpoints: tuple[CheckpointView, ...] = ()
    evaluation: dict[str, float] | None = None
    """`EpisodeTotals` of the evaluation."""
    env_steps_per_s: float | None = None
    """Speed at the last report."""
    num_envs: int | None = None
    """Environments that it goes on with since memory ran out, here or where it starts; None where it never did."""
    origin: str | None = None
    """Who chose its point and why; None where the sampler drew it."""
    seed: int | None = None
    """Its own training seed; None where it is the study's."""
    queued: int | None = None
    """Entry of the queue that it was made of."""
    start: QueuedStart | None = None
    """The complete state that it goes on from; None where it starts as every trial of the study."""
    rung: RungView | None = None
    """Where the pruner pauses trials: where it stands; None before its first rung."""
    would_prune: WouldPruneView | None = None
    """Where the pruner is on a dry run: what it would have been stopped for, the first time."""

    @property
    def is_paused(self) -> bool:
        """Whether it waits at a rung until it is among the best there."""
        return self.state is TrialState.WAITING and self.rung is not None and self.rung.paused is not None

    @property
    def new_env_steps(self) -> int:
        """Trained here: without what its start had been trained before."""
        return max(0, self.env_steps - (self.start.env_steps if self.start is not None else 0))


@dataclass(frozen=True)
class AuditView:
    """What the audit of the reward at the study's start found."""

    time: str
    """UTC."""
    warnings: tuple[str, ...]
    """Ways to earn more than by finishing, in words; none where finishing pays most."""
    points: int
    """Points of the search space that were tried beside the priors."""
    failing: int
    """How many of these something else than finishing pays most in."""
    seconds: float
    """What it took."""


@dataclass(frozen=True)
class WarmStartView:
    """The policy that every trial starts from: what the study's copy of it must be, and where it came from."""

    sha256: str
    bytes: int
    env_steps: int | None
    """Transitions it had been trained for; None in files of other programs."""
    source: str
    """The file that was copied, absolute."""
    study: str | None = None
    """Study and trial that it is from; None for a file that was named."""
    trial: int | None = None
    score: float | None = None
    """What it scored there."""

    def __str__(self) -> str:
        """Say in words where every trial starts."""
        steps = f" after {self.env_steps:,} env steps" if self.env_steps is not None else ""
        if self.study is None:
            return f"the policy of {self.source}{steps}"
        score = f", score {self.score:.4f}" if self.score is not None else ""
        return f"the policy of trial {self.trial} of {self.study}{steps}{score}"


@dataclass(frozen=True)
class AlertView:
    """Something a person should know about a study."""

    time: str
    """UTC, ISO."""
    level: str
    """``info``, ``warning`` or ``error``."""
    cause: str
    """A word by which scripts tell alerts apart, such as ``low_disk``."""
    message: str
    """What is the case."""
    advice: str = ""
    """What to do about it."""
    trial: int | None = None
    """The trial it is about; None where it is about the study or the machine."""


@dataclass(frozen=True)
class ParentView:
    """What a derived study was made from."""

    study: str
    """The study, or the campaign, that it belongs to."""
    phase: str
    """What it is for: ``confirm``, ``extend``, a stage."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What that phase keeps besides, as plain values."""


@dataclass(frozen=True)
class StudySnapshot:
    """A study with all its trials."""

    spec: StudySpec
    created: datetime
    state: str
    """``created``, ``running``, ``stopped`` (resumable) or ``finished``."""
    reason: str
    hours_used: float
    env_steps_used: int
    skipped: int
    """Combinations that a constraint refused."""
    trials: tuple[TrialView, ...] = ()
    supervisor: dict[str, Any] | None = None
    """Host, pid and start of the live supervisor, or None."""
    slots: tuple[str, ...] = field(default=())
    warm_start: WarmStartView | None = None
    audit: AuditView | None = None
    """None until the audit at the start has come to an end, or where it was left out."""
    alerts: tuple[AlertView, ...] = ()
    """The newest ones, the last one last."""
    queue: tuple[QueueEntry, ...] = ()
    """Trials that are still to be made before the sampler draws any."""
    parent: ParentView | None = None
    """What it was made from; None for a study of its own."""
    confirmed: dict[str, Any] | None = None
    """How the confirmation of its best trials ended, as `vbot_campaign.campaign.confirm.Confirmed`; None before."""

    def trial(self, number: int) -> TrialView:
        """Return a trial by its number.

        Raises:
            StudyError: The study has no such trial.
        """
        found = next((trial for trial in self.trials if trial.number == number), None)
        if found is None:
            have = f"it has 0 to {self.trials[-1].number}" if self.trials else "it has none yet"
            raise StudyError(f"trial {number}: study '{self.spec.study}' has no such trial; {have}.")
        return found

    @property
    def best(self) -> TrialView | None:
        """The complete trial with the highest score."""
        complete = [t for t in self.trials if t.state is TrialState.COMPLETE and t.score is not None]
        return max(complete, key=lambda t: t.score or 0.0, default=None)
