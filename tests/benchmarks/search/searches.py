"""The searches that are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import optuna

from tests.benchmarks.search.optuna_alone import play_optuna
from tests.benchmarks.search.ours import play_ours
from tests.benchmarks.search.world import Played, World
from vbot_campaign.spec.study import PrunerSettings, SamplerSettings, StudySpec

RANDOM = "random, no pruner"
OURS = "ours: "
DEFAULT = OURS + "the default"


@dataclass(frozen=True)
class Search:
    """One row."""

    name: str
    play: Callable[[World], Played]


def default_settings() -> tuple[SamplerSettings, PrunerSettings]:
    """Return sampler and pruner of a study file that names none."""
    fields = StudySpec.model_fields
    return fields["sampler"].default, fields["pruner"].default


def searches() -> list[Search]:
    """Return all rows but Ray's, which is played in a process of its own."""
    sampler, pruner = default_settings()
    ours = [
        PrunerSettings(name="median"),
        PrunerSettings(name="hyperband"),
        PrunerSettings(name="noise_aware"),
        PrunerSettings(name="successive_halving"),
        PrunerSettings(name="successive_halving", pause=True),
        PrunerSettings(name="rungs"),
    ]
    return [
        Search(RANDOM, _ours(SamplerSettings(name="random"), PrunerSettings(name="none"))),
        Search("Optuna: TPE, median", lambda world: play_optuna(world, optuna.pruners.MedianPruner())),
        Search("Optuna: TPE, hyperband", lambda world: play_optuna(world, _hyperband(world))),
        Search(DEFAULT, _ours(sampler, pruner)),
        *(Search(_name(sampler, other), _ours(sampler, other)) for other in ours if other != pruner),
        Search(_name(SamplerSettings(name="random"), pruner), _ours(SamplerSettings(name="random"), pruner)),
    ]


def warmup(world: World) -> int:
    """Return the env steps before which Optuna's hyperband and Ray's ASHA stop nothing: our default's warmup."""
    return round(PrunerSettings().warmup * world.table.spec.env_steps_per_trial)


def _hyperband(world: World) -> optuna.pruners.BasePruner:
    return optuna.pruners.HyperbandPruner(warmup(world), world.table.spec.env_steps_per_trial)


def _ours(sampler: SamplerSettings, pruner: PrunerSettings) -> Callable[[World], Played]:
    return lambda world: play_ours(world, sampler, pruner)


def _name(sampler: SamplerSettings, pruner: PrunerSettings) -> str:
    return f"{OURS}{sampler.name}, {pruner.name}{' (pause)' if pruner.pause else ''}"
