"""A study file: search space, objective, sampler, pruner and budget."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from vbot_campaign.spec.objective import Objective
from vbot_campaign.spec.training import (
    CheckpointSettings,
    CommandTrainer,
    EvaluationSettings,
    Recording,
    Strict,
    WarmStartRules,
)

Scalar = int | float | bool | str


class Parameter(Strict):
    """What all parameter kinds share."""

    when: str | None = None
    """Condition over parameters declared before this one; it is sampled only where the condition holds."""


class Uniform(Parameter):
    """A float, uniform between `low` and `high`."""

    type: Literal["uniform"]
    low: float
    high: float
    step: float | None = Field(default=None, gt=0)
    prior: float | None = None


class LogUniform(Parameter):
    """A float whose logarithm is uniform. Both bounds may be negative: then its magnitude is log-uniform."""

    type: Literal["loguniform"]
    low: float
    high: float
    prior: float | None = None


class Integer(Parameter):
    """A whole number between `low` and `high`, both included."""

    type: Literal["int"]
    low: int
    high: int
    step: int = Field(default=1, ge=1)
    log: bool = False
    prior: int | None = None


class Choice(Parameter):
    """One of several single values."""

    type: Literal["choice"]
    values: tuple[Scalar, ...] = Field(min_length=1)
    prior: Scalar | None = None


class Categorical(Parameter):
    """One of several values of any shape, lists (layer sizes) among them."""

    type: Literal["categorical"]
    choices: tuple[Any, ...] = Field(min_length=1)
    prior: Any = None


AnyParameter = Annotated[Uniform | LogUniform | Integer | Choice | Categorical, Field(discriminator="type")]


class PhaseShares(Strict):
    """How hours, GPU-hours and env steps are divided between the phases of a study; together at most 1.

    What a phase leaves of its share goes to the ones after it.
    """

    search: float = Field(gt=0, le=1)
    confirm: float = Field(default=0.0, ge=0, le=1)
    extend: float = Field(default=0.0, ge=0, le=1)


class Budget(Strict):
    """Totals over the whole life of the study, counted from the database. The first one used up ends it."""

    trials: int | None = Field(default=None, ge=1)
    hours: float | None = Field(default=None, gt=0)
    """Wall time while a supervisor runs."""
    gpu_hours: float | None = Field(default=None, gt=0)
    """Wall time of attempts on GPUs, added up; a slot that is a share of a GPU counts as that share."""
    env_steps: int | None = Field(default=None, ge=1)
    shares: PhaseShares | None = None
    """How the totals are divided between search, confirmation and extension; without it the search may use all."""


class SamplerSettings(Strict):
    """How the next point of the space is chosen."""

    name: Literal["tpe", "random", "grid", "cmaes", "gp", "queue"] = "tpe"
    """`queue` draws nothing: the study makes only the trials that were queued."""
    startup_trials: int = Field(default=4, ge=0)
    """Trials drawn at random before the model takes over."""
    seed: int = Field(default=42, ge=0, lt=2**32)


class RungSettings(Strict):
    """Where trials wait for each other."""

    at: float = Field(gt=0, lt=1)
    """Share of a trial's env steps."""
    keep: float = Field(gt=0, lt=1)
    """Share of the trials that came there which go on."""


class PrunerSettings(Strict):
    """Which trials are stopped early."""

    name: Literal[
        "none", "median", "percentile", "hyperband", "successive_halving", "noise_aware", "rungs", "threshold"
    ] = "rungs"
    warmup: float = Field(default=0.15, ge=0, lt=1)
    """Share of a trial's env steps before it may be pruned."""
    startup_trials: int | None = Field(default=None, ge=0)
    """Trials that must have ended before any is pruned (median, percentile; 4 if not given), or have come as far
    (noise_aware; 2 if not given)."""
    percentile: float = Field(default=25.0, gt=0, lt=100)
    """Kept share in percent (percentile)."""
    reduction_factor: int = Field(default=3, ge=2)
    """Eta of hyperband, successive_halving and noise_aware."""
    smoothing: int = Field(default=3, ge=1)
    """Report points whose median is compared (rungs, noise_aware)."""
    noise_factor: float = Field(default=1.0, ge=0)
    """Standard deviations of the noise by which a trial must fall short (noise_aware)."""
    rungs: tuple[RungSettings, ...] = Field(default=(RungSettings(at=0.4, keep=0.25),), min_length=1)
    """In order. Early ones should keep most, since little is known there (rungs)."""
    pause: bool = False
    """Pause a trial at a rung instead of stopping it, and let it go on when it is among the best by then
    (successive_halving)."""
    dry_run: bool = False
    """Stop no trial; only note which would have been, and why."""
    lower: float | None = None
    """Scores below this are pruned (threshold)."""
    upper: float | None = None
    """Scores above this are pruned (threshold)."""
    patience: int = Field(default=0, ge=0)
    """Report points without improvement before the pruner may act; 0 leaves the patient wrapper out. With noise_aware:
    points in a row at which a trial must fall short, 2 where it is 0."""

    @property
    def pauses(self) -> bool:
        """Whether a trial waits at a rung instead of being stopped."""
        return self.pause or self.name == "rungs"

    @property
    def least_trials(self) -> int:
        """`startup_trials`, or what the pruner takes without it."""
        if self.startup_trials is not None:
            return self.startup_trials
        return 2 if self.name == "noise_aware" else 4


class Constraint(Strict):
    """Combinations that are drawn again instead of trained."""

    skip_if: str
    reason: str = ""


class WorkerSettings(Strict):
    """How many trainings run at once and how large each is."""

    num_envs: int = Field(default=1024, ge=1)
    slots: int | None = Field(default=None, ge=1, le=64)
    """CPU slots where there is no GPU; default one per core, at most 8."""
    slots_per_gpu: int = Field(default=1, ge=1, le=16)
    memory_gb: float | None = Field(default=None, gt=0)
    """Memory that an attempt asks its node for on a Ray cluster; no limit, and nothing on a single machine."""
    max_attempts: int = Field(default=3, ge=1)
    """Attempts before a trial that keeps dying is given up."""
    watchdog_s: float = Field(default=300.0, gt=0)
    """Seconds without a new env step after which a worker is ended and followed by another; three times that for the
    first iteration and the evaluation."""
    min_free_gb: float = Field(default=1.0, ge=0)
    """Free space in the runs folder below which no attempt is started; 0 switches the guard off."""
    recording: Recording = "gif"
    """What a trial that is trained and evaluated draws of its policy: `gif` for a plot of its paths and a short film,
    `path` for the plot alone, or `none`."""


class CollapseSettings(Strict):
    """When the score of a training counts as collapsed."""

    drop: float = Field(default=0.3, gt=0, le=1)
    """Share of its best smoothed score that a training must lose; 1 switches the alert off."""
    stop: bool = False
    """End the trial as the pruner does; its best policy stays."""


class RewardHackingSettings(Strict):
    """When a training counts as one that games its reward: the reward rises while the success rate falls."""

    window: float = Field(default=0.2, gt=0, le=1)
    """Share of a trial's env steps over which the two are compared."""
    stop: bool = False
    """End the trial as the pruner does; its best policy stays."""


class NotifySettings(Strict):
    """Which alerts are sent to the addresses in the environment variable VBOT_CAMPAIGN_NOTIFY."""

    level: Literal["info", "warning", "error"] = "warning"
    """The least level that is sent; the end of the study always is."""
    per_hour: int = Field(default=10, ge=1, le=1000)
    """Messages in an hour; what is more is summed up in a later one."""


class AlertSettings(Strict):
    """When a person is told that something needs a look."""

    gpu_memory_percent: float = Field(default=90.0, gt=0, le=100)
    """Share of a GPU's memory in use above which an alert is raised."""
    gpu_temperature_c: float = Field(default=87.0, gt=0, le=150)
    """Temperature of a GPU in °C above which an alert is raised."""
    no_improvement_trials: int = Field(default=20, ge=0)
    """Trials that ended since the best one, after which an alert is raised; 0 switches it off."""
    collapse: CollapseSettings = CollapseSettings()
    reward_hacking: RewardHackingSettings = RewardHackingSettings()
    notify: NotifySettings = NotifySettings()


class WarmStart(WarmStartRules):
    """The policy that every trial starts from: the best of another study, or a file."""

    study: str | None = None
    """Another study in the same runs folder; its best policy is taken."""
    trial: int | None = Field(default=None, ge=0)
    """Trial of that study, if not the best one."""
    take: Literal["best", "last"] = "best"
    """Which checkpoint of it: the best by score, or the one at its end."""
    checkpoint: str | None = None
    """A checkpoint of this program, skrl or rsl_rl, or a run's folder; relative to the study file."""

    def words(self) -> str:
        """Say in words what it asks for."""
        if self.study is None:
            return f"the policy of {self.checkpoint}"
        return f"the best policy of study {self.study}" if self.trial is None else f"trial {self.trial} of {self.study}"

    @property
    def rules(self) -> WarmStartRules:
        """What is taken over from it."""
        return WarmStartRules(load=self.load, freeze=self.freeze, reset_schedule=self.reset_schedule)


class ConfirmSettings(Strict):
    """Whether the search is followed by more seeds for its best trials, and how many."""

    top: int = Field(default=3, ge=1, le=100)
    """Best trials that are trained again."""
    seeds: int = Field(default=5, ge=1, le=100)
    """Training seeds for each, none of which the search has used."""
    env_steps: int | None = Field(default=None, ge=1)
    """Env steps of each training; those of the study's trials if left out."""


class SearchSpaceReference(Strict):
    """A search space in a file of its own."""

    file: str = Field(min_length=1)
    """The file, relative to the one that names it."""
    preset: str | None = None
    """Which of its parameters are searched; all if left out. The others are fixed at their prior."""


class RewardReference(Strict):
    """Reward weights in a file of their own, or in the reward library."""

    file: str | None = Field(default=None, min_length=1)
    """A reward file, relative to the one that names it."""
    library: str | None = None
    """Or an entry of the reward library; `vbot-campaign rewards list` has them."""
    preset: str | None = None
    """Preset of the reward file."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Weights that go before those of the file."""


def _add_reward(schema: dict[str, Any]) -> None:
    """Say in the JSON schema that a study file may refer to reward weights, which a loaded study has under `fixed`."""
    schema["properties"]["reward"] = RewardReference.model_json_schema()


class StudySpec(Strict):
    """A complete study file."""

    model_config = ConfigDict(json_schema_extra=_add_reward)

    study: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Name; also the folder under `runs/`."""
    environment: str
    physics: str = "mujoco"
    trainer: str | CommandTrainer = "builtin"
    """Who trains: `builtin`, `skrl`, a trainer of an installed package, or a command."""
    env_steps_per_trial: int = Field(gt=0)
    budget: Budget
    objective: Objective
    sampler: SamplerSettings = SamplerSettings()
    pruner: PrunerSettings = PrunerSettings()
    search_space: dict[Literal["ppo", "reward", "env"], dict[str, AnyParameter]]
    fixed: dict[Literal["ppo", "reward", "env"], dict[str, Any]] = Field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()
    warm_start: WarmStart | None = None
    """Where every trial starts; without it from networks of random weights."""
    confirm: ConfirmSettings | None = None
    """Train the best trials again on fresh seeds once the search has ended."""
    workers: WorkerSettings = WorkerSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    alerts: AlertSettings = AlertSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    report_points: int = Field(default=30, ge=1, le=200)
    seed: int = Field(default=42, ge=0, lt=2**63)
    """Training seed, the same for all trials (common random numbers)."""

    @property
    def parameters(self) -> dict[str, Uniform | LogUniform | Integer | Choice | Categorical]:
        """Search space by Optuna parameter name: ``ppo.learning_rate``."""
        return {f"{group}.{name}": p for group, entries in self.search_space.items() for name, p in entries.items()}
