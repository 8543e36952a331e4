"""What one worker trains: the content of ``trial.json``.

Everything a worker needs is in this file; nothing else reaches it.
Hyperparameters have the names of skrl and MotrixLab.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vbot_campaign.spec.objective import Objective, default_objective

LayerSizes = Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=6)]


class Strict(BaseModel):
    """Base of everything a person writes: unknown keys and surprising numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PpoSettings(Strict):
    """Hyperparameters of PPO (Schulman et al. 2017, arXiv 1707.06347) under their skrl names."""

    learning_rate: float = Field(default=1.0e-3, gt=0, le=1)
    """Adam's step size, at the start when a scheduler is used."""
    lr_scheduler_type: Literal["none", "linear", "kl_adaptive"] = "linear"
    """`linear` falls to 1 % at the end of the env step budget; `kl_adaptive` follows the policy's KL divergence."""
    learning_rate_scheduler_kl_threshold: float = Field(default=0.01, gt=0)
    """Target KL divergence of `kl_adaptive`."""
    rollouts: int = Field(default=24, ge=2, le=1024)
    """Steps taken in every environment before an update."""
    learning_epochs: int = Field(default=5, ge=1, le=100)
    """Passes over the rollout in an update."""
    mini_batches: int = Field(default=4, ge=1, le=1024)
    """Gradient steps per epoch."""
    discount_factor: float = Field(default=0.99, gt=0, le=1)
    lambda_param: float = Field(default=0.95, ge=0, le=1)
    """Lambda of generalized advantage estimation (arXiv 1506.02438)."""
    ratio_clip: float = Field(default=0.2, gt=0)
    """Clip range of the probability ratio."""
    value_clip: float = Field(default=0.2, gt=0)
    """Clip range of the value prediction, in normalized units."""
    clip_predicted_values: bool = True
    entropy_loss_scale: float = Field(default=0.003, ge=0)
    value_loss_scale: float = Field(default=2.0, ge=0)
    grad_norm_clip: float = Field(default=1.0, ge=0)
    """Largest gradient norm; 0 switches clipping off."""
    kl_threshold: float = Field(default=0.0, ge=0)
    """Ends an update early when the mean KL divergence passes it; 0 switches it off. On a GPU it slows updates down."""
    rewards_shaper_scale: float = Field(default=1.0, gt=0)
    """Factor on every reward before the update; logged rewards are not scaled."""
    time_limit_bootstrap: bool = True
    """Add the discounted value of the last state when an episode was cut by the clock."""
    initial_log_std: float = Field(default=0.0, ge=-20, le=2)
    """Logarithm of the action noise at the start, the same for all joints."""
    mixed_precision: bool = False
    """Compute the hidden layers in bfloat16 during updates; weights, losses and actions stay float32."""
    freeze_normalizers: bool = False
    """Keep the normalizers of observations and values as loaded."""
    policy_hidden_layer_sizes: LayerSizes = (256, 128, 64)
    value_hidden_layer_sizes: LayerSizes = (256, 128, 64)


class CheckpointSettings(Strict):
    """When checkpoints are written and which are kept."""

    every_iterations: int = Field(default=50, ge=1)
    """Iterations between two checkpoints; one more is written at the end."""
    keep_last: int = Field(default=2, ge=1)
    """How many resume points stay on disk; two, so that a torn one costs one interval and not the trial."""
    keep_best: int = Field(default=1, ge=0)
    """How many policies stay, by score: `best_agent.pt` and the next as `best_<env_steps>.pt`. With 0, the last one."""
    milestones: tuple[Annotated[int, Field(ge=1)], ...] | Annotated[int, Field(ge=1)] = ()
    """Env steps after which a point to continue from is written and stays for good: a list, or one number for every
    multiple of it."""
    disk_budget_gb: float = Field(default=50.0, gt=0)
    """Size of all checkpoints of a study above which those of ended trials are removed."""

    def milestones_passed(self, env_steps: int) -> int:
        """Return how many milestones lie at or before an env step."""
        if isinstance(self.milestones, int):
            return env_steps // self.milestones
        return sum(milestone <= env_steps for milestone in self.milestones)


class EvaluationSettings(Strict):
    """The deterministic evaluation that gives a trial its score."""

    episodes: int = Field(default=128, ge=1, le=100_000)
    """Episodes, each in its own environment: the first one that starts there."""
    seed: int = Field(default=1_000_003, ge=0, lt=2**63)
    """Seed of spawns and targets: the same for all trials, so that they are compared on the same episodes."""


class ThreadSettings(Strict):
    """Thread counts; part of the specification because sums depend on them."""

    torch: int = Field(default=1, ge=1)
    physics: int = Field(default=1, ge=1)


class CommandTrainer(Strict):
    """A program of someone else that trains a trial by the worker protocol."""

    command: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    """Program and arguments; the trial's folder is added as the last one. `python` is the interpreter in use."""
    folder: Path | None = None
    """Where the command runs, and so where its relative paths start; the study file's folder unless given."""


class Continuation(Strict):
    """A training that goes on from the complete state of an earlier, shorter one."""

    env_steps: int = Field(ge=1)
    """Trained in the earlier one; this one counts on from there."""
    schedule: Literal["continue", "restart"] = "continue"
    """Whether the learning rate's schedule goes on from where it was, or begins anew at `env_steps`."""
    schedule_begin: int = Field(default=0, ge=0)
    """Env step at which the schedule begins."""
    schedule_end: int | None = Field(default=None, ge=1)
    """Env step at which it ends; `linear` stays at its last value from there on. None for the end of this training."""
    lr_factor: float = Field(default=1.0, gt=0, le=10)
    """Share of the learning rate of `ppo` that it begins at."""


class TrainingSpec(Strict):
    """A complete training: what `vbot-campaign train` runs and what a study samples."""

    environment: str = "vbot_navigation_section001"
    physics: str = "mujoco"
    trainer: str | CommandTrainer = "builtin"
    """Who trains: `builtin`, `skrl`, a trainer of an installed package, or a command."""
    env_steps: int = Field(gt=0)
    """Budget: transitions over all environments. The last iteration is the one that reaches it."""
    num_envs: int = Field(default=1024, ge=1)
    seed: int = Field(default=42, ge=0, lt=2**63)
    ppo: PpoSettings = PpoSettings()
    reward: dict[str, float] = Field(default_factory=dict)
    """Weights that differ from the environment's defaults."""
    env: dict[str, Any] = Field(default_factory=dict)
    """Environment settings that differ from the defaults."""
    objective: Objective = Field(default_factory=default_objective)
    evaluation: EvaluationSettings = EvaluationSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    report_points: int = Field(default=30, ge=1, le=200)
    """Points of the canonical grid of env steps, the same for all trials of a study."""
    continuation: Continuation | None = None
    """Where it goes on, if it has a beginning elsewhere."""

    @property
    def steps_per_iteration(self) -> int:
        """Env steps of one iteration."""
        return self.num_envs * self.ppo.rollouts

    @property
    def iterations(self) -> int:
        """Iterations until the budget is reached; the last one may pass it."""
        return -(-self.env_steps // self.steps_per_iteration)

    @property
    def schedule_iterations(self) -> int:
        """Iterations over which the learning rate's schedule is laid out."""
        end = self.continuation.schedule_end if self.continuation is not None else None
        return -(-((end or self.env_steps) - self.schedule_begin) // self.steps_per_iteration)

    @property
    def schedule_begin(self) -> int:
        """Env step at which that schedule begins."""
        return self.continuation.schedule_begin if self.continuation is not None else 0

    @property
    def scheduled_ppo(self) -> PpoSettings:
        """The hyperparameters, with the learning rate that the schedule begins at."""
        if self.continuation is None:
            return self.ppo
        return self.ppo.model_copy(update={"learning_rate": self.ppo.learning_rate * self.continuation.lr_factor})

    def report_step(self, point: int) -> int:
        """Return the env step of canonical grid point ``point``, 1..report_points."""
        return self.env_steps * point // self.report_points

    def points_reached(self, env_steps: int) -> int:
        """Return how many points of the canonical grid lie at or before ``env_steps``."""
        point = min(self.report_points, env_steps * self.report_points // self.env_steps + 1)
        while point > 0 and self.report_step(point) > env_steps:
            point -= 1
        return point


Part = Literal["policy", "value", "normalizer", "optimizer"]
"""What a training can take over from another one."""


class WarmStartRules(Strict):
    """What a training that starts from a policy takes over from it, and what of that stays as it is."""

    load: tuple[Part, ...] = ("policy", "value", "normalizer")
    """What is taken over: `policy` and `value` are networks, `normalizer` those of observations and values, `optimizer`
    the state of Adam. The rest begins anew."""
    freeze: tuple[Literal["policy", "value", "normalizer"], ...] = ()
    """What of it does not change any more."""
    reset_schedule: bool = True
    """Begin at the whole learning rate. Without it, at the share of it that the earlier training had come down to."""


Recording = Literal["gif", "path", "none"]
"""What a worker draws of its policy at the end."""


class TrialSpec(Strict):
    """The content of ``trial.json``: one attempt at one training."""

    schema_version: Literal[1] = 1
    study: str | None = None
    trial: int | None = None
    attempt: int = Field(default=1, ge=1)
    token: str = ""
    """Fencing token of the attempt; the worker repeats it in every line it writes."""
    training: TrainingSpec
    device: str = "cpu"
    """`cpu` or `cuda:0`; the slot decides which GPU that is through CUDA_VISIBLE_DEVICES."""
    slot: str = "cpu:0"
    threads: ThreadSettings = ThreadSettings()
    parameters: dict[str, Any] = Field(default_factory=dict)
    """The sampled point, by Optuna parameter name, for HParams and summaries."""
    run_tag: str = ""
    """What people call a training without a study."""
    warm_start: Path | None = None
    """Checkpoint of another run to start from. A resume needs nothing: the folder's own checkpoints are used."""
    warm_start_rules: WarmStartRules = WarmStartRules()
    """What is taken over from it, and what does not change any more."""
    recording: Recording = "none"
    """What is drawn of the policy once it is trained and evaluated."""
