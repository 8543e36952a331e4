"""Rungs with pauses: who goes on at a rung, and who may go on later after all.

A trial that is not among the best share of all that came to a rung is paused there instead of stopped. The more trials
come, the more of them may go on, and one that was paused earlier may be among the best by then: it continues from where
it was paused. With rungs at ``warmup * eta^k`` of a trial's env steps, where the best ``1 / eta`` go on, this is
asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning"). A study file
may as well say where its rungs lie and how many go on at each; then the median of some neighbouring scores is compared.
Two things are our own:

* a trial that is among the best when it comes to a rung goes on at once, in the worker that it has;
* when no more trials may be asked, the best of each rung may go on where too few came there, so that a small study has
  a complete trial too, and as many as are to be confirmed.

What is decided depends on the scores at the rungs and on the order in which the trials came there, never on when
somebody looked: a trial that trained on beyond a rung before it was paused is judged by its score at that rung, and
counts at the next one only after it was let go there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study.snapshot import TrialState, TrialView

Curve = Mapping[int, float]
"""Reported scores by env step."""


@dataclass(frozen=True)
class Entrant:
    """A trial as the rungs see it."""

    trial: int
    scores: tuple[tuple[int, float], ...] = ()
    """Env step and score of its report at each rung that it has come to, the first one first."""
    passed: int = 0
    """Rungs that it was let go beyond."""
    paused: bool = False


@dataclass(frozen=True)
class Standing:
    """A trial beside the others at the rung where it is judged next."""

    rung: int
    """1 for the first."""
    env_step: int
    score: float
    place: int
    """1 for the best."""
    peers: int
    """Trials that came there, itself included."""
    places: int
    """How many of them go on."""

    @property
    def goes_on(self) -> bool:
        """Whether it is among the best."""
        return self.place <= self.places

    def words(self) -> str:
        """Return ``rung 1 (score 0.3100, 4th of 9; 3 go on)``."""
        goes = f"{self.places} go{'es' if self.places == 1 else ''} on" if self.places else "none goes on yet"
        return f"rung {self.rung} (score {self.score:.4f}, {_ordinal(self.place)} of {self.peers}; {goes})"


class Rungs:
    """All trials of a study at the rungs.

    Args:
        steps: Env steps of the rungs, rising.
        keep: The share that goes on at each.
        smoothing: Points of a curve whose median is its score at a rung.
        least: How many go on at each when no more trials may be asked.
    """

    def __init__(self, steps: Sequence[int], keep: Sequence[float], smoothing: int = 1, least: int = 1) -> None:
        self.steps = tuple(steps)
        self._keep = tuple(keep)
        self._smoothing = smoothing
        self._least = least
        self._entrants: dict[int, Entrant] = {}
        self._known: dict[bool, dict[int, Standing]] = {}

    def put(self, entrant: Entrant) -> None:
        """Enter a trial, or replace what is known of it."""
        self._entrants[entrant.trial] = entrant
        self._known.clear()

    def scores(self, reports: Curve) -> tuple[tuple[int, float], ...]:
        """Return env step and score at the first report at or beyond each rung that a curve has come to."""
        known = sorted(reports)
        found = (next((index for index, step in enumerate(known) if step >= rung), None) for rung in self.steps)
        return tuple((known[index], self._score(reports, known[: index + 1])) for index in found if index is not None)

    def remove(self, trial: int) -> None:
        """Leave a trial out, because it has no score that counts."""
        self._entrants.pop(trial, None)
        self._known.clear()

    def entrant(self, trial: int) -> Entrant:
        """Return what is known of a trial; nothing of one that came to no rung yet."""
        return self._entrants.get(trial, Entrant(trial))

    def standing(self, trial: int, *, last: bool) -> Standing | None:
        """Return where a trial stands at the next rung, or None where it has not come there.

        Args:
            trial: The trial.
            last: No more trials may be asked.
        """
        return self._standings(last).get(trial)

    def promotable(self, *, last: bool) -> list[int]:
        """Return the paused trials that may go on: of the highest rung first, the best one first."""
        standings = self._standings(last)
        found = [n for n, standing in standings.items() if self._entrants[n].paused and standing.goes_on]
        return sorted(found, key=lambda n: (-standings[n].rung, standings[n].place))

    def pause(self, trial: int) -> None:
        """Note that a trial is paused at its next rung."""
        self.put(replace(self.entrant(trial), paused=True))

    def let_go(self, trial: int) -> None:
        """Note that a trial goes on beyond its next rung."""
        before = self.entrant(trial)
        self.put(replace(before, passed=before.passed + 1, paused=False))

    def _standings(self, last: bool) -> dict[int, Standing]:
        if last not in self._known:
            self._known[last] = {n: s for rung in range(len(self.steps)) for n, s in self._at(rung, last)}
        return self._known[last]

    def _at(self, rung: int, last: bool) -> Iterable[tuple[int, Standing]]:
        there = [e for e in self._entrants.values() if e.passed >= rung and len(e.scores) > rung]
        there.sort(key=lambda e: (-_value(e.scores[rung][1]), e.trial))
        places = math.floor(len(there) * self._keep[rung] + 1e-9)
        if last:
            places = max(self._least, places)
        for place, entrant in enumerate(there, start=1):
            if entrant.passed == rung:
                yield entrant.trial, Standing(rung + 1, *entrant.scores[rung], place, len(there), places)

    def _score(self, reports: Curve, steps: Sequence[int]) -> float:
        return median(_value(reports[step]) for step in steps[-self._smoothing :])


def rungs_of(spec: StudySpec) -> Rungs:
    """Return the rungs of a study, without trials.

    None lies before the first report point. One that only a trial which is trained to its end would come to is none.
    """
    total, pruner = spec.env_steps_per_trial, spec.pruner
    least = 1 if spec.confirm is None else spec.confirm.top
    first = max(total // spec.report_points, 1)
    last = total * (spec.report_points - 1) // spec.report_points
    if pruner.name == "rungs":
        places = [(max(first, math.ceil(rung.at * total)), rung.keep) for rung in pruner.rungs]
        places = [(step, keep) for step, keep in places if step <= last]
        return Rungs([step for step, _ in places], [keep for _, keep in places], pruner.smoothing, least)
    step, eta = max(math.ceil(pruner.warmup * total), first), pruner.reduction_factor
    steps = []
    while step <= last:
        steps.append(step)
        step *= eta
    return Rungs(steps, [1 / eta] * len(steps), least=least)


def entrant_of(trial: TrialView, rungs: Rungs) -> Entrant | None:
    """Return a trial as the rungs see it; None for one that failed, or was stopped for another reason."""
    paused = trial.rung is not None and trial.rung.paused is not None
    if trial.state is TrialState.FAILED or (trial.state is TrialState.PRUNED and not paused):
        return None
    passed = trial.rung.passed if trial.rung is not None else 0
    if trial.state is TrialState.COMPLETE:  # it may have been quicker than the request to pause
        passed, paused = len(rungs.steps), False
    if trial.state is TrialState.PRUNED:
        paused = False  # it counts, and never goes on
    return Entrant(trial.number, rungs.scores(trial.reports), passed, paused)


def replay(rungs: Rungs, curves: Mapping[int, tuple[Curve, int]]) -> dict[int, int]:
    """Return how many env steps each trial would have been trained for on a single slot.

    Args:
        rungs: Without trials.
        curves: Reported scores and trained env steps by trial, in the order in which the trials are asked. A trial
            whose curve ends before a rung ends there.
    """
    trained: dict[int, int] = {}

    def train(trial: int, last: bool) -> None:
        while (found := rungs.standing(trial, last=last)) is not None:
            if not found.goes_on:
                rungs.pause(trial)
                trained[trial] = found.env_step
                return
            rungs.let_go(trial)
        trained[trial] = curves[trial][1]

    for count, (trial, (reports, _)) in enumerate(curves.items(), start=1):
        last = count == len(curves)
        rungs.put(Entrant(trial, rungs.scores(reports)))
        train(trial, last)
        while candidates := rungs.promotable(last=last):
            rungs.let_go(candidates[0])
            train(candidates[0], last)
    return trained


def _value(score: float) -> float:
    return -math.inf if math.isnan(score) else score


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"
