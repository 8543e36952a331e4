"""What becomes of a trial at its reports: it is stopped, paused until it is among the best, or only noted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vbot_campaign.study.halving import Standing, entrant_of, rungs_of
from vbot_campaign.study.objective import Report
from vbot_campaign.study.snapshot import RungView, TrialView, WouldPruneView
from vbot_campaign.supervisor.attempts import Attempts
from vbot_campaign.supervisor.decisions import Decision
from vbot_campaign.supervisor.scheduler import Waiting
from vbot_campaign.supervisor.state import Context, Worker


class Pruning:
    """Stops the trials that the pruner names.

    Args:
        context: What is worked on.
        attempts: Asks workers to stop.
    """

    def __init__(self, context: Context, attempts: Attempts) -> None:
        self._context = context
        self._study = context.study
        self._state = context.state
        self._attempts = attempts

    def take_over(self) -> None:
        """Begin with the trials that there are; those with a worker and those without are known by then."""

    def hear(self, worker: Worker, reports: Sequence[Report]) -> None:
        """Decide on a trial that goes on training.

        Args:
            worker: It has told something.
            reports: What it has reported that was not known, in order; perhaps nothing.
        """
        reason = self._study.prune_reason(worker.trial) if reports else None
        if reason is not None:
            step, score = reports[-1].env_step, reports[-1].score
            self._attempts.prune(worker, reason, env_step=step, score=score)

    def see_ended(self, trial: int) -> None:
        """Take note that the worker of a trial has ended, and the trial perhaps with it."""

    def waiting(self) -> tuple[Waiting, ...]:
        """Return the unfinished trials without a worker."""
        return tuple(Waiting(trial, deaths) for trial, deaths in self._state.waiting.items())

    def promote(self, trial: int) -> bool:
        """Let a paused trial go beyond its rung.

        Returns:
            Whether it may be started; it may have come to the next rung already.
        """
        raise AssertionError(f"trial {trial}: no trial is ever paused")


class DryRun(Pruning):
    """Stops nothing, and notes once for each trial what it would have been stopped for."""

    def hear(self, worker: Worker, reports: Sequence[Report]) -> None:
        """Note a verdict on a trial."""
        if not reports or self._study.trial(worker.trial).would_prune is not None:
            return
        reason = self._study.prune_reason(worker.trial)
        if reason is not None:
            step, score = reports[-1].env_step, reports[-1].score
            self._study.set_would_prune(worker.trial, WouldPruneView(step, reason))
            decision = Decision("would_prune", reason, worker.trial, worker.attempt.number, env_step=step, score=score)
            self._context.decide(decision)


class Pausing(Pruning):
    """Pauses trials at rungs and lets them go on later.

    A verdict is in the database before anybody acts on it, so that a crash in between loses none. The verdicts depend
    on scores at rungs only: a supervisor that comes back to workers that trained on decides as the one before it.

    Args:
        context: What is worked on.
        attempts: Asks workers to stop.
        may_ask: Whether more trials may be asked.
    """

    def __init__(self, context: Context, attempts: Attempts, may_ask: Callable[[], bool]) -> None:
        super().__init__(context, attempts)
        self._may_ask = may_ask
        self._rungs = rungs_of(context.study.spec)
        self._adopted: set[int] = set()
        """Trials whose worker has lived longer than its supervisor: all they reported may be known already."""

    def take_over(self) -> None:
        """Enter the trials, and decide on those that came to a rung while nobody looked."""
        for trial in self._study.snapshot().trials:
            self._enter(trial)
        self._adopted.update(self._state.workers)
        for number in sorted(self._state.waiting):
            self._decide(number)

    def hear(self, worker: Worker, reports: Sequence[Report]) -> None:
        """Decide on a trial that goes on training."""
        if reports or worker.trial in self._adopted:
            self._adopted.discard(worker.trial)
            self._enter(self._study.trial(worker.trial))
            self._decide(worker.trial)

    def see_ended(self, trial: int) -> None:
        """Decide on a trial that came to a rung with its worker's last words; leave out one that has failed."""
        self._enter(self._study.trial(trial))
        if trial in self._state.waiting:
            self._decide(trial)

    def waiting(self) -> tuple[Waiting, ...]:
        """Return the unfinished trials without a worker; the paused ones with their standing now."""
        last = not self._may_ask()
        turns = {trial: turn for turn, trial in enumerate(self._rungs.promotable(last=last))}
        return tuple(
            Waiting(trial, deaths, paused=self._paused(trial, last), promotable=turns.get(trial))
            for trial, deaths in self._state.waiting.items()
        )

    def promote(self, trial: int) -> bool:
        """Let a paused trial go beyond its rung."""
        found = self._standing(trial)
        if found is not None:
            self._let_go(trial, found, "promoted")
        return not self._decide(trial)

    def _enter(self, trial: TrialView) -> None:
        entrant = entrant_of(trial, self._rungs)
        if entrant is None:
            self._rungs.remove(trial.number)
        else:
            self._rungs.put(entrant)

    def _decide(self, trial: int) -> bool:
        """Let a trial go beyond the rungs where it is among the best; return whether it is paused at the next one."""
        if self._rungs.entrant(trial).paused:
            return True
        while (found := self._standing(trial)) is not None:
            if not found.goes_on:
                self._pause(trial, found)
                return True
            self._let_go(trial, found, "passed")
        return False

    def _pause(self, trial: int, found: Standing) -> None:
        reason = f"paused at {found.words()}"
        rung = RungView(self._rungs.entrant(trial).passed, reason, found.env_step)
        self._study.set_rung(trial, rung)
        self._rungs.pause(trial)
        worker = self._state.workers.get(trial)
        attempt = None if worker is None else worker.attempt.number
        decision = Decision("pausing", reason, trial, attempt, env_step=found.env_step, score=found.score)
        self._context.decide(decision)
        if worker is not None and worker.stop_asked is None:
            self._attempts.pause(worker)

    def _let_go(self, trial: int, found: Standing, action: str) -> None:
        self._study.set_rung(trial, RungView(found.rung))
        self._rungs.let_go(trial)
        decision = Decision(action, found.words(), trial, env_step=found.env_step, score=found.score)
        self._context.decide(decision)

    def _paused(self, trial: int, last: bool) -> str | None:
        if not self._rungs.entrant(trial).paused:
            return None
        found = self._rungs.standing(trial, last=last)
        return f"paused at {found.words()}" if found is not None else "paused"

    def _standing(self, trial: int) -> Standing | None:
        return self._rungs.standing(trial, last=not self._may_ask())


def pruning_for(context: Context, attempts: Attempts, may_ask: Callable[[], bool]) -> Pruning:
    """Return what a study file's ``pruner`` asks for."""
    settings = context.study.spec.pruner
    if settings.pauses:
        return Pausing(context, attempts, may_ask)
    return DryRun(context, attempts) if settings.dry_run else Pruning(context, attempts)
