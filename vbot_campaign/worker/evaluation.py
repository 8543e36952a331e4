"""Evaluates a checkpoint file: the outcome of fixed episodes under the mean action."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vbot_campaign.envs.registry import make_env
from vbot_campaign.errors import CheckpointError, CheckpointNotFoundError
from vbot_campaign.paths import TrialPaths
from vbot_campaign.rl.checkpoint import LoadedPolicy, load_policy
from vbot_campaign.rl.evaluate import evaluate
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.training import TrainingSpec


@dataclass(frozen=True)
class Evaluation:
    """Outcome of a deterministic evaluation."""

    checkpoint: str
    env_steps: int | None
    """Transitions the policy was trained for; None in files of other programs."""
    episodes: EpisodeTotals
    parts: dict[str, float]
    score: float


def evaluate_checkpoint(
    path: Path, *, training: TrainingSpec, threads: int, episodes: int | None = None, seed: int | None = None
) -> Evaluation:
    """Play the first episode of many environments with a checkpoint's policy.

    Args:
        path: The checkpoint.
        training: Environment, physics, objective and the default episodes and seed of the evaluation.
        threads: Physics threads; the result does not depend on them.
        episodes: Number of episodes, if not the training's.
        seed: Seed of spawns and targets, if not the training's.

    Raises:
        CheckpointError: The file cannot be used, or its policy does not fit the environment.
    """
    loaded = load_policy(path)
    _check_fit(path, loaded, training.environment)
    env = make_env(
        training.environment,
        physics=training.physics,
        settings=training.env,
        weights=training.reward,
        num_envs=episodes or training.evaluation.episodes,
        seed=training.evaluation.seed if seed is None else seed,
        threads=threads,
        training=False,
    )
    totals = evaluate(loaded.policy, loaded.observation_normalizer, env, episodes=env.num_envs, max_steps=env.max_steps)
    parts = totals.parts()
    if parts is None:
        raise RuntimeError("no episode ended within the clock; the environment's clock is broken")
    return Evaluation(path.name, loaded.env_steps, totals, parts, training.objective.score(parts))


def training_of(path: Path, environment: str | None = None) -> TrainingSpec:
    """Return the training that a checkpoint belongs to, to evaluate it under the settings it was trained with.

    Args:
        path: The checkpoint.
        environment: For a file of another program, the environment to use.
    """
    loaded = load_policy(path)
    if loaded.training is not None:
        return TrainingSpec.model_validate(loaded.training)
    return TrainingSpec(environment=environment or "vbot_navigation_section001", env_steps=1)


def find_checkpoint(path: Path) -> Path:
    """Return a checkpoint file: the path itself, or the best policy of the run's folder it names.

    Raises:
        CheckpointNotFoundError: Neither is there.
    """
    if not path.is_dir():
        return path
    run = TrialPaths(path)
    for candidate in (run.best_checkpoint, path / run.best_checkpoint.name):
        if candidate.is_file():
            return candidate
    raise CheckpointNotFoundError(f"{path}: no {run.best_checkpoint.name} there. Give a .pt file or a run's folder.")


def _check_fit(path: Path, loaded: LoadedPolicy, environment: str) -> None:
    declaration = get_environment(environment)
    sizes = (loaded.policy.observation_size, loaded.policy.action_size)
    wanted = (declaration.observation_size, declaration.action_size)
    if sizes != wanted:
        raise CheckpointError(
            f"checkpoint {path}: its policy maps {sizes[0]} observations to {sizes[1]} actions, "
            f"{environment} has {wanted[0]} and {wanted[1]}. Use the environment it was trained for."
        )
