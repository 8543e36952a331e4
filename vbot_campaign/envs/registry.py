"""Makes environments by name."""

from __future__ import annotations

from typing import Any

from vbot_campaign.envs.physics import make_engine
from vbot_campaign.envs.vbot.task import VbotNavigation
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.training import TrainingSpec


def make_env(
    name: str,
    *,
    physics: str,
    settings: dict[str, Any],
    weights: dict[str, float],
    num_envs: int,
    seed: int,
    threads: int,
    training: bool,
) -> VbotNavigation:
    """Make an environment.

    Args:
        name: Environment name.
        physics: Engine name.
        settings: Settings that differ from the defaults.
        weights: Reward weights that differ from the defaults.
        num_envs: Number of parallel environments.
        seed: Seed of everything random in it.
        threads: Physics threads.
        training: Whether to de-synchronise the clocks of the first episodes, if the settings say so.

    Raises:
        SpecError: An unknown environment, engine, setting or reward term, or a value out of range.
    """
    declaration = get_environment(name)
    resolved = declaration.resolve_settings(settings)
    engine = make_engine(
        physics, num_envs=num_envs, threads=threads, substeps=resolved["substeps"], collision=resolved["collision"]
    )
    return VbotNavigation(
        engine,
        resolved,
        declaration.resolve_rewards(weights),
        seed=seed,
        desynchronise=training and resolved["desynchronise"],
    )


def env_for(
    spec: TrainingSpec, *, threads: int, training: bool, num_envs: int | None = None, seed: int | None = None
) -> VbotNavigation:
    """Make the environment of a training.

    Args:
        spec: Environment, physics, settings, reward weights, and unless given here, their number and seed.
        threads: See `make_env`.
        training: See `make_env`.
        num_envs: See `make_env`.
        seed: See `make_env`.

    Raises:
        SpecError: See `make_env`.
    """
    return make_env(
        spec.environment,
        physics=spec.physics,
        settings=spec.env,
        weights=spec.reward,
        num_envs=spec.num_envs if num_envs is None else num_envs,
        seed=spec.seed if seed is None else seed,
        threads=threads,
        training=training,
    )
