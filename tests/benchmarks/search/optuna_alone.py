"""Optuna as its users have it, on a table: its sampler and its pruner with their own defaults, in its own loop."""

from __future__ import annotations

import optuna
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from tests.benchmarks.search.nearest import put_at
from tests.benchmarks.search.world import Ended, Played, World


def play_optuna(world: World, pruner: BasePruner) -> Played:
    """Search with TPE until the budget or the table is used up, one trial at a time.

    The first trial is the prior point, as in a study of ours: anybody would queue what they know.

    Args:
        world: The repetition; it decides the sampler's seed.
        pruner: New, with the settings its users would give.
    """
    sampler = optuna.samplers.TPESampler(seed=world.repetition)
    name = f"{world.table.spec.study}-{world.repetition}"
    study = optuna.create_study(study_name=name, direction="maximize", sampler=sampler, pruner=pruner)
    study.enqueue_trial(dict(world.prior))
    ended: list[Ended] = []
    stopped: set[int] = set()
    while world.has_more:
        trial = study.ask(dict(world.distributions))
        number = world.take(trial.params)
        put_at(study, trial, world.distributions, world.stored[number])
        for step, score in world.play(number):
            trial.report(score, step)
            if trial.should_prune():
                stopped.add(number)
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            if not world.is_over:
                ended.append(world.end(number))
                score = ended[-1].score
                study.tell(trial, score, state=TrialState.COMPLETE if score is not None else TrialState.FAIL)
    return Played(tuple(ended), tuple(world.used), frozenset(stopped), world.spent)
