"""Evaluates checkpoint files: how the first episodes of many environments end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vbot_campaign.envs.physics import make_engine
from vbot_campaign.envs.registry import env_for
from vbot_campaign.envs.vbot.statistics import MovementWatcher
from vbot_campaign.envs.vbot.task import VbotNavigation
from vbot_campaign.errors import CheckpointNotFoundError, SpecError
from vbot_campaign.paths import TrialPaths
from vbot_campaign.rl.checkpoint import LoadedPolicy, load_policy
from vbot_campaign.rl.evaluate import evaluate
from vbot_campaign.rl.importers import load_for
from vbot_campaign.spec.evaluation import Evaluation
from vbot_campaign.spec.loading import parse_assignment
from vbot_campaign.spec.movement import MovementTotals
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.trainable import require, training_problems
from vbot_campaign.spec.training import TrainingSpec

__all__ = ["Evaluation", "evaluate_cases", "evaluate_checkpoint", "find_checkpoint", "training_for", "training_of"]


def evaluate_checkpoint(
    path: Path,
    *,
    training: TrainingSpec,
    threads: int,
    episodes: int | None = None,
    seed: int | None = None,
    seeds: int = 1,
    deterministic: bool = True,
    movement: bool = False,
    interrupted: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Play the first episode of many environments with a checkpoint's policy.

    Args:
        path: The checkpoint.
        training: Environment, physics, objective and the default episodes and seed of the evaluation.
        threads: Physics threads; the result does not depend on them.
        episodes: Number of episodes for each seed, if not the training's.
        seed: First seed of spawns and targets, if not the training's.
        seeds: Number of seeds, counted up from the first.
        deterministic: Play the mean action instead of sampled ones.
        movement: Watch the robots' movement too, which takes a little longer.
        interrupted: Asked before each step whether to give up.

    Raises:
        EvaluationInterruptedError: ``interrupted`` said so.
        CheckpointError: The file cannot be used, or its policy does not fit the environment.
    """
    loaded = load_for(path, training.environment)
    count = episodes or training.evaluation.episodes
    first = training.evaluation.seed if seed is None else seed
    used = tuple(range(first, first + seeds))
    totals, moved, by_seed = EpisodeTotals(), MovementTotals(), []
    for one in used:
        env = env_for(training, threads=threads, training=False, num_envs=count, seed=one)
        ended, moves = _play(loaded, env, one, deterministic=deterministic, movement=movement, interrupted=interrupted)
        totals, moved = totals + ended, moved + moves
        by_seed.append(ended.success / max(ended.finished, 1))
    parts = totals.parts()
    if parts is None:
        raise RuntimeError("no episode ended within the clock; the environment's clock is broken")
    return Evaluation(
        checkpoint=path.name,
        env_steps=loaded.env_steps,
        episodes=totals,
        parts=parts,
        score=training.objective.score(parts),
        physics=training.physics,
        seeds=used,
        deterministic=deterministic,
        movement=moved if movement else None,
        success_by_seed=tuple(by_seed),
    )


def _play(
    loaded: LoadedPolicy,
    env: VbotNavigation,
    seed: int,
    *,
    deterministic: bool,
    movement: bool,
    interrupted: Callable[[], bool],
) -> tuple[EpisodeTotals, MovementTotals]:
    watcher = MovementWatcher(env.num_envs)
    if movement:
        env.watch_steps(watcher)
    totals = evaluate(
        loaded.policy,
        loaded.observation_normalizer,
        env,
        episodes=env.num_envs,
        max_steps=env.max_steps,
        deterministic=deterministic,
        seed=seed,
        interrupted=interrupted,
    )
    return totals, watcher.totals()


def evaluate_cases(
    cases: Sequence[tuple[Path, TrainingSpec]],
    *,
    threads: int,
    episodes: int | None = None,
    seed: int | None = None,
    seeds: int = 1,
    sampled: bool = False,
) -> Iterator[Evaluation]:
    """Evaluate checkpoints one after the other, and say where each lies in `Evaluation.checkpoint`.

    Args:
        cases: Checkpoint and the training that says under what to evaluate it.
        threads: See `evaluate_checkpoint`.
        episodes: See `evaluate_checkpoint`.
        seed: See `evaluate_checkpoint`.
        seeds: See `evaluate_checkpoint`.
        sampled: Play each again with sampled actions.

    Raises:
        CheckpointError: A file cannot be used; before anything is played.
        PhysicsUnavailableError: An engine is not installed; before anything is played.
    """
    for path, training in cases:
        load_for(path, training.environment)
    for name in {training.physics for _, training in cases}:
        make_engine(name, num_envs=2, threads=threads, substeps=1, collision="fast")  # one robot for each of a mixture
    for path, training in cases:
        for deterministic in (True, False) if sampled else (True,):
            done = evaluate_checkpoint(
                path,
                training=training,
                threads=threads,
                episodes=episodes,
                seed=seed,
                seeds=seeds,
                deterministic=deterministic,
                movement=True,
            )
            yield replace(done, checkpoint=path.as_posix())


def training_for(
    path: Path, *, physics: str | None = None, spawn: str | None = None, settings: Sequence[str] = ()
) -> TrainingSpec:
    """Return the training of a checkpoint with other settings, to evaluate it under them.

    Args:
        path: The checkpoint.
        physics: Another engine.
        spawn: Smallest and largest distance of the spawn point from the target, such as ``8,11``, in metres.
        settings: Assignments such as ``env.position_scale=5``; ``env`` and ``reward`` only.

    Raises:
        CheckpointError: The file cannot be used.
        SpecError: A value is wrong.
    """
    values = training_of(path).model_dump(mode="json")
    values["physics"] = physics or values["physics"]
    radii = _radii(spawn) if spawn else {}
    values["env"] = {**values["env"], **radii}
    for group, name, value in map(parse_assignment, settings):
        if group not in ("env", "reward"):
            raise SpecError(f"{group}.{name}: an evaluation does not train; --set takes env.* and reward.*")
        values[group] = {**values[group], name: value}
    training = TrainingSpec.model_validate(values)
    require(training_problems(training))
    return training


def _radii(text: str) -> dict[str, float]:
    try:
        inner, outer = (float(part) for part in text.split(","))
    except ValueError:
        raise SpecError(f"--spawn {text}: expected two distances in metres, such as 8,11.") from None
    return {"spawn_inner_radius": inner, "spawn_outer_radius": outer}


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
