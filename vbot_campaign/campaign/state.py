"""How far a campaign has come: what the database keeps of it, and nothing that can be read elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from vbot_campaign.spec.plan import LOWER_IS_BETTER, Gate
from vbot_campaign.study.owner import Owner

CampaignWord = Literal["created", "running", "stopped", "failed", "finished"]


@dataclass(frozen=True)
class Candidate:
    """A point of the search space that is trained fully."""

    parameters: dict[str, Any]
    """Values by name; none where the stage has no search."""
    origin: str
    """Where it is from, in words."""


@dataclass(frozen=True)
class GateResult:
    """What a policy has shown at the gate."""

    value: float
    """The metric of the policy that would go on; with patience, the worst of all that were measured."""
    parts: dict[str, float]
    """Score parts of that policy's evaluation."""
    score: float
    episodes: int
    seconds: float
    """What the evaluation took."""
    env_steps: int
    """Of the training."""
    asked: bool = True
    """False where the training ended before the gate may be asked: then nothing was measured."""

    def passes(self, gate: Gate) -> bool:
        """Tell whether it opens the gate."""
        if not self.asked:
            return False
        return self.value <= gate.threshold if gate.metric in LOWER_IS_BETTER else self.value >= gate.threshold


@dataclass(frozen=True)
class Try:
    """One round of full trainings of a stage that has come to its end."""

    trial: int | None
    """The best of them by score; None where no training left a policy."""
    score: float | None
    gate: GateResult | None = None
    """None until the gate was asked, or where there is none."""


@dataclass(frozen=True)
class Promoted:
    """The policy that a stage hands on, with its back-up."""

    study: str
    trial: int
    score: float | None
    parameters: dict[str, Any]
    env_steps: int
    path: str
    """The back-up, relative to the campaign's folder."""
    sha256: str
    passed: bool
    """Whether it opened the gate, or there was none; False where it went on all the same."""
    last_path: str | None = None
    """Back-up of the checkpoint at the end of its training, where a later stage starts there."""


@dataclass(frozen=True)
class StageState:
    """What is done of a stage."""

    searched: str | None = None
    """How the search ended, in words; None before its end."""
    confirmed: str | None = None
    """How the confirmation ended, in words; None before its end."""
    chosen: tuple[Candidate, ...] | None = None
    """What is trained fully, the best first; None before the choice."""
    tries: tuple[Try, ...] = ()
    promoted: Promoted | None = None
    """Set when the stage is over and its policy is backed up."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StageState:
        """Return the state of `dataclasses.asdict`, also after a way through JSON."""
        chosen, promoted = values["chosen"], values["promoted"]
        return cls(
            searched=values["searched"],
            confirmed=values["confirmed"],
            chosen=None if chosen is None else tuple(Candidate(**one) for one in chosen),
            tries=tuple(_try(one) for one in values["tries"]),
            promoted=None if promoted is None else Promoted(**promoted),
        )


@dataclass(frozen=True)
class CampaignState:
    """A campaign at one instant."""

    word: CampaignWord = "created"
    reason: str = ""
    owner: Owner | None = None
    """Who runs it, or ran it last."""
    stages: Mapping[str, StageState] = field(default_factory=dict)
    """By name; one without an entry has not begun."""

    def stage(self, name: str) -> StageState:
        """Return the state of a stage."""
        return self.stages.get(name, StageState())

    def with_stage(self, name: str, **changes: Any) -> CampaignState:
        """Return the state with some of a stage's facts changed."""
        return replace(self, stages={**self.stages, name: replace(self.stage(name), **changes)})

    @property
    def gate_hours(self) -> float:
        """Time that evaluations at gates took."""
        results = [one.gate for stage in self.stages.values() for one in stage.tries if one.gate is not None]
        return sum(result.seconds for result in results) / 3600.0

    @property
    def is_running(self) -> bool:
        """Whether somebody is at work on it."""
        return self.word == "running" and self.owner is not None and self.owner.is_alive()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CampaignState:
        """Return the state of `as_dict`, also after a way through JSON."""
        owner = values["owner"]
        return cls(
            values["word"],
            values["reason"],
            None if owner is None else Owner(**owner),
            {name: StageState.from_dict(stage) for name, stage in values["stages"].items()},
        )


def _try(values: Mapping[str, Any]) -> Try:
    gate = values["gate"]
    return Try(values["trial"], values["score"], None if gate is None else GateResult(**gate))
