"""A plan file: stages in order, each with its setting, its search, its training and the gate to the next one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from vbot_campaign.spec.groups import Group
from vbot_campaign.spec.objective import Objective, default_objective
from vbot_campaign.spec.study import (
    AlertSettings,
    AnyParameter,
    Constraint,
    PrunerSettings,
    SamplerSettings,
    WorkerSettings,
)
from vbot_campaign.spec.training import (
    CheckpointSettings,
    CommandTrainer,
    EvaluationSettings,
    Part,
    Strict,
    WarmStartRules,
)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Metric = Literal["score", "success_rate", "survival_rate", "goal_progress", "time_to_goal", "episode_reward_mean"]

LOWER_IS_BETTER: tuple[Metric, ...] = ("time_to_goal",)
"""Metrics that pass a gate at or below its threshold; all others pass at or above it."""


class BudgetShares(Strict):
    """How a stage's budget is divided; the shares of what it does not do go to the rest."""

    search: float = Field(default=0.5, ge=0, le=1)
    confirm: float = Field(default=0.1, ge=0, le=1)
    train: float = Field(default=0.4, gt=0, le=1)


class PlanBudget(Strict):
    """Totals over all stages and the whole life of the campaign. The first one used up ends it."""

    hours: float | None = Field(default=None, gt=0)
    """Wall time while it runs."""
    gpu_hours: float | None = Field(default=None, gt=0)
    """Time of attempts on GPUs, added up."""
    env_steps: int | None = Field(default=None, ge=1)
    """Transitions of all trainings."""
    shares: BudgetShares = BudgetShares()
    """How a stage's part of it is divided between search, confirmation and full training."""


class StageSearch(Strict):
    """The study of a stage."""

    trials: int = Field(ge=1)
    """Trials, pruned and failed ones included."""
    env_steps_per_trial: int = Field(gt=0)
    hours: float | None = Field(default=None, gt=0)
    """Wall time after which the search ends, whatever is left of `trials`."""
    sampler: SamplerSettings = SamplerSettings()
    pruner: PrunerSettings = PrunerSettings()
    search_space: dict[Group, dict[str, AnyParameter]]
    """Ranges by group, or `{file: FILE, preset: NAME}`."""
    fixed: dict[Group, dict[str, Any]] = Field(default_factory=dict)
    """Values that hold in the search only."""
    constraints: tuple[Constraint, ...] = ()


class StageConfirm(Strict):
    """The best of a search once more on fresh seeds, before one of them is chosen."""

    top: int = Field(default=3, ge=1)
    """How many of the best trials."""
    seeds: int = Field(default=3, ge=1, le=100)
    """Training seeds of each, none of which the search has used."""
    env_steps: int | None = Field(default=None, gt=0)
    """Length of each training; that of the search's trials if left out."""


class StageTraining(Strict):
    """The full training of a stage."""

    env_steps: int = Field(gt=0)
    top: int = Field(default=1, ge=1)
    """How many of the search's best are trained fully; the best result goes on."""


class Gate(Strict):
    """What the policy of a stage must show before the next stage begins."""

    metric: Metric = "success_rate"
    """A score part, or `score`; measured in evaluation episodes without noise."""
    threshold: float
    """Passed at or above it; `time_to_goal` at or below."""
    seeds: int = Field(default=3, ge=1, le=1000)
    """Seeds of spawns and targets; the episodes of all of them count together."""
    episodes: int = Field(default=128, ge=1, le=100_000)
    """Episodes of each seed."""
    min_env_steps: int = Field(default=0, ge=0)
    """Env steps that the training must have come to, and before which a report point does not count."""
    patience: int = Field(default=1, ge=1)
    """Policies that must pass: the best one, and those at the last report points of its training."""
    tries: int = Field(default=1, ge=1, le=100)
    """Full trainings, each with another seed, before `otherwise` holds."""
    otherwise: Literal["stop", "promote"] = "stop"
    """What follows when no try passed: stop the campaign, or go on with the best policy of the stage."""


class StageWarmStart(Strict):
    """Where the trainings of a stage begin."""

    stage: str | None = None
    """An earlier stage."""
    file: str | None = Field(default=None, min_length=1)
    """Or a policy, of any form that `evaluate` takes; relative to the plan file."""
    take: Literal["best", "last"] = "best"
    """Which checkpoint of the earlier stage: the best by score, or the one at the end."""
    load: tuple[Part, ...] = ("policy", "value", "normalizer")
    """What is taken over; the rest begins anew."""
    freeze: tuple[Literal["policy", "value", "normalizer"], ...] = ()
    """What of it does not change any more."""
    learning_rate_multiplier: float = Field(default=1.0, gt=0, le=10)
    """Factor on the stage's learning rate where no search draws it."""
    reset_schedule: bool = True
    """Begin at the whole learning rate; without it, at the share of it that the earlier training had come down to."""

    @property
    def rules(self) -> WarmStartRules:
        """What is taken over, and what of it stays as it is."""
        return WarmStartRules(load=self.load, freeze=self.freeze, reset_schedule=self.reset_schedule)


class Stage(Strict):
    """One step of a campaign.

    What it does not say is as in the plan. Where it starts from an earlier stage, what that one's search found best
    holds on.
    """

    stage: Name
    """Its name."""
    about: str = ""
    """What it is for."""
    environment: str | None = None
    physics: str | None = None
    ppo: dict[str, Any] = Field(default_factory=dict)
    """PPO settings of this stage."""
    env: dict[str, Any] = Field(default_factory=dict)
    """Environment settings of this stage."""
    reward: dict[str, float] = Field(default_factory=dict)
    """Weights of this stage, or `{file: FILE, preset: NAME}`, or `{library: NAME}`."""
    warm_start: StageWarmStart | None = None
    """Where the trainings begin; without it, from networks of random weights."""
    search: StageSearch | None = None
    """A study whose best values the full training takes."""
    confirm: StageConfirm | None = None
    train: StageTraining
    gate: Gate | None = None
    """Without one, the next stage begins whatever came of this one."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Part of the plan's budget; the stages without one divide what is left."""


class PlanSpec(Strict):
    """A complete plan file."""

    plan: Name
    """Its name; each search and training becomes a study named after plan and stage."""
    about: str = ""
    """What it is for."""
    environment: str = "vbot_navigation_section001"
    physics: str = "mujoco"
    trainer: str | CommandTrainer = "builtin"
    """Who trains: `builtin`, `skrl`, a trainer of an installed package, or a command."""
    seed: int = Field(default=42, ge=0, lt=2**63)
    """Training seed."""
    budget: PlanBudget = PlanBudget()
    objective: Objective = Field(default_factory=default_objective)
    ppo: dict[str, Any] = Field(default_factory=dict)
    """PPO settings of all stages that differ from the defaults."""
    env: dict[str, Any] = Field(default_factory=dict)
    """Environment settings of all stages that differ from the defaults."""
    reward: dict[str, float] = Field(default_factory=dict)
    """Weights of all stages that differ from the defaults, or a reference as in a stage."""
    workers: WorkerSettings = WorkerSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    alerts: AlertSettings = AlertSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    report_points: int = Field(default=30, ge=1, le=200)
    """Points of a training at which the pruner and the gate look at it."""
    stages: tuple[Stage, ...] = Field(min_length=1)
    """In the order in which they run."""

    def position(self, stage: str) -> int | None:
        """Return the position of a stage by name, or None."""
        return next((index for index, one in enumerate(self.stages) if one.stage == stage), None)
