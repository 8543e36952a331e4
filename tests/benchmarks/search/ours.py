"""Our searches on a table: the program's own samplers, pruners and rungs, on a study in memory."""

from __future__ import annotations

from dataclasses import asdict, replace

import optuna
from optuna.trial import FrozenTrial, TrialState

from tests.benchmarks.search.world import Ended, Played, World
from vbot_campaign.spec.study import PrunerSettings, SamplerSettings, StudySpec
from vbot_campaign.study import samplers
from vbot_campaign.study.attributes import RUNG
from vbot_campaign.study.halving import rungs_of
from vbot_campaign.study.pruners import build_pruner, prune_reason
from vbot_campaign.study.snapshot import RungView


def play_ours(world: World, sampler: SamplerSettings, pruner: PrunerSettings) -> Played:
    """Search until the budget or the table is used up, one trial at a time.

    Args:
        world: The repetition; it decides the sampler's seed.
        sampler: As in a study file.
        pruner: As in a study file.
    """
    seeded = sampler.model_copy(update={"seed": world.repetition})
    spec = world.table.spec.model_copy(update={"sampler": seeded, "pruner": pruner})
    search = _Pausing(world, spec) if pruner.pauses else _Search(world, spec)
    while world.has_more:
        search.train(search.ask())
        search.go_on()
    return search.played()


class _Search:
    """A study whose pruner stops trials for good, if at all."""

    def __init__(self, world: World, spec: StudySpec) -> None:
        self._world = world
        self._spec = spec
        # Hyperband draws brackets from the name.
        name = f"{spec.study}-{world.repetition}"
        self._study = optuna.create_study(study_name=name, direction="maximize", pruner=build_pruner(spec))
        self._storage = self._study._storage
        self._ended: list[Ended] = []
        self._stopped: set[int] = set()

    def ask(self) -> int:
        """Make the next trial and return its number."""
        drawn = samplers.draw(self._spec, self._study.get_trials(deepcopy=False))
        assert drawn is not None
        is_random = self._spec.sampler.name == "random" and bool(self._world.used)
        number = self._world.take_any() if is_random else self._world.take(drawn.params)
        point = samplers.at_point(self._spec, self._world.table.points[number])
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=point.params,
                distributions=point.distributions,
                system_attrs=drawn.system_attrs,
            )
        )
        return len(self._world.used) - 1

    def train(self, trial: int) -> None:
        """Play a trial's curve until it ends or is stopped."""
        for step, score in self._world.play(self.configuration(trial)):
            self.report(trial, step, score)
            if prune_reason(self._study, self.frozen(trial), self._spec.pruner.name) is not None:
                self._stopped.add(self.configuration(trial))
                self._study.tell(trial, state=TrialState.PRUNED)
                return
        if not self._world.is_over:
            self.end(trial)

    def go_on(self) -> None:
        """Do what there is to do before another trial is asked."""

    def report(self, trial: int, step: int, score: float) -> None:
        self._storage.set_trial_intermediate_value(self.frozen(trial)._trial_id, step, score)

    def end(self, trial: int) -> None:
        ended = self._world.end(self.configuration(trial))
        self._ended.append(ended)
        if ended.score is None:
            self._storage.set_trial_user_attr(self.frozen(trial)._trial_id, "reason", "diverged")
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, ended.score)

    def configuration(self, trial: int) -> int:
        return self._world.used[trial]

    def frozen(self, trial: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[trial]

    def played(self) -> Played:
        return Played(tuple(self._ended), tuple(self._world.used), frozenset(self._stopped), self._world.spent)


class _Pausing(_Search):
    """A study that pauses trials at rungs, as the supervisor does on a single slot."""

    def __init__(self, world: World, spec: StudySpec) -> None:
        super().__init__(world, spec)
        self._rungs = rungs_of(spec)
        self._trained: dict[int, int] = {}

    def train(self, trial: int) -> None:
        """Play a trial's curve from where it is until it ends or is paused."""
        self._stopped.discard(self.configuration(trial))
        for step, score in self._world.play(self.configuration(trial), begin=self._trained.get(trial, 0)):
            self._trained[trial] = step
            self.report(trial, step, score)
            scores = self._rungs.scores(self.frozen(trial).intermediate_values)
            self._rungs.put(replace(self._rungs.entrant(trial), scores=scores))
            if self._is_paused(trial):
                self._stopped.add(self.configuration(trial))
                return
        if not self._world.is_over:
            self.end(trial)
            if self._ended[-1].score is None:
                self._rungs.remove(trial)

    def go_on(self) -> None:
        """Continue those that are among the best by now."""
        while not self._world.is_over and (trials := self._rungs.promotable(last=not self._world.has_more)):
            self._let_go(trials[0])
            if not self._is_paused(trials[0]):
                self.train(trials[0])

    def _is_paused(self, trial: int) -> bool:
        while (found := self._rungs.standing(trial, last=not self._world.has_more)) is not None:
            if not found.goes_on:
                self._rungs.pause(trial)
                self._note(trial, RungView(self._rungs.entrant(trial).passed, "paused", found.env_step))
                return True
            self._let_go(trial)
        return False

    def _let_go(self, trial: int) -> None:
        self._rungs.let_go(trial)
        self._note(trial, RungView(self._rungs.entrant(trial).passed))

    def _note(self, trial: int, rung: RungView) -> None:
        # Where samplers find which trials are paused.
        self._storage.set_trial_user_attr(self.frozen(trial)._trial_id, RUNG, asdict(rung))
