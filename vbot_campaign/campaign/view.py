"""A read-only picture of a campaign at one instant, for the terminal, scripts and the mirror."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from vbot_campaign.campaign import budget, steps
from vbot_campaign.campaign.stage import number_of
from vbot_campaign.campaign.state import CampaignState, StageState
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.loading import plan_from_definition
from vbot_campaign.spec.plan import Gate, PlanSpec, Stage
from vbot_campaign.spec.stages import Phase, study_name
from vbot_campaign.study.plans import PlanRecord, load_plan_record
from vbot_campaign.study.reading import read_names


@dataclass(frozen=True)
class StageView:
    """A stage and what came of it."""

    number: int
    name: str
    about: str
    status: str
    """``pending``, ``search``, ``confirm``, ``train``, ``gate``, ``backup``, ``halted``, ``passed``, ``promoted`` (the
    gate stayed shut and it went on all the same)."""
    tries: int
    """Rounds of full trainings that have begun."""
    score: float | None
    """Of the policy that goes on, or of the last try."""
    gate: Gate | None
    value: float | None
    """What the policy showed at the gate."""
    passed: bool | None
    """None before the gate was asked, or where there is none."""
    spent: budget.Spent
    studies: tuple[str, ...]
    """Those that exist."""
    start: dict[str, str | int | None] | None
    """Study, trial and env steps of the policy that its trainings start from, or its file."""
    policy: str | None
    """Back-up of the policy that goes on, relative to the campaign's folder."""
    sha256: str | None
    state: StageState

    @property
    def is_over(self) -> bool:
        """Whether its policy is backed up."""
        return self.policy is not None


@dataclass(frozen=True)
class CampaignView:
    """A campaign with its stages."""

    plan: PlanSpec
    state: str
    """``created``, ``running``, ``stopped``, ``failed``, ``finished``."""
    reason: str
    created: datetime
    pid: int | None
    """Of who runs it."""
    current_stage: str | None
    """The first one that is not over; None at the end."""
    stages: tuple[StageView, ...]
    spent: budget.Spent


def read_campaign(paths: CampaignPaths, name: str) -> CampaignView:
    """Return a picture of a campaign, without changing anything.

    Raises:
        StudyNotFoundError: There is none of that name.
        StorageError: The database cannot be read.
    """
    return view_of(paths, load_plan_record(paths, name))


def view_of(paths: CampaignPaths, record: PlanRecord) -> CampaignView:
    """Return the picture of a stored campaign."""
    plan, state = plan_from_definition(record.definition), CampaignState.from_dict(record.state)
    spent, names = budget.read_spent(paths, plan, state), set(read_names(paths))
    stages = tuple(_stage(plan, state, stage, spent, names) for stage in plan.stages)
    word, reason = state.word, state.reason
    if word == "running" and not state.is_running:
        word, reason = "stopped", "whoever ran it has died"
    return CampaignView(
        plan=plan,
        state=word,
        reason=reason,
        created=record.created,
        pid=state.owner.pid if state.owner is not None and state.is_running else None,
        current_stage=next((stage.name for stage in stages if not stage.is_over), None),
        stages=stages,
        spent=sum(spent.values(), budget.Spent()),
    )


def _stage(plan: PlanSpec, state: CampaignState, stage: Stage, spent: budget.Ledger, names: set[str]) -> StageView:
    known = state.stage(stage.stage)
    phases: tuple[Phase, ...] = ("search", "confirm", "train")
    studies = [name for phase in phases if (name := study_name(plan, stage, phase)) in names]
    promoted, last = known.promoted, known.tries[-1] if known.tries else None
    chosen = next((one for one in known.tries if promoted is not None and one.trial == promoted.trial), last)
    result = chosen.gate if chosen is not None else None
    return StageView(
        number=number_of(plan, stage.stage),
        name=stage.stage,
        about=stage.about,
        status=_status(plan, state, stage, studies),
        tries=len(known.tries),
        score=chosen.score if chosen is not None else None,
        gate=stage.gate,
        value=result.value if result is not None and result.asked else None,
        passed=None if result is None or stage.gate is None else result.passes(stage.gate),
        spent=sum((spent[stage.stage, phase] for phase in budget.phases_of(stage)), budget.Spent()),
        studies=tuple(studies),
        start=_start(plan, state, stage),
        policy=promoted.path if promoted is not None else None,
        sha256=promoted.sha256 if promoted is not None else None,
        state=known,
    )


def _status(plan: PlanSpec, state: CampaignState, stage: Stage, studies: list[str]) -> str:
    known = state.stage(stage.stage)
    if known.promoted is not None:
        return "passed" if known.promoted.passed else "promoted"
    step = steps.next_step(plan, state)
    if isinstance(step, steps.Finish) or step.stage != stage.stage:
        return "pending"
    if not studies and known == StageState() and state.word in ("created", "stopped"):
        return "pending"
    words = {
        steps.Search: "search",
        steps.Confirm: "confirm",
        steps.Choose: "train",
        steps.Train: "train",
        steps.AskGate: "gate",
        steps.Promote: "backup",
        steps.Halt: "halted",
    }
    return words[type(step)]


def _start(plan: PlanSpec, state: CampaignState, stage: Stage) -> dict[str, str | int | None] | None:
    start = stage.warm_start
    if start is None:
        return None
    if start.stage is None:
        return {"file": start.file}
    promoted = state.stage(start.stage).promoted
    known: dict[str, str | int | None] = {}
    if promoted is not None:
        known = {"study": promoted.study, "trial": promoted.trial}
    return {"stage": start.stage, "take": start.take, **known}
