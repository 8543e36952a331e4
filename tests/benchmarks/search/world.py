"""What all searches of one repetition share: the table, a seed for each configuration, a budget, and a clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution

from tests.benchmarks.search.nearest import free, nearest
from tests.benchmarks.search.table import Table, Training
from vbot_campaign.spec.resolve import prior_point
from vbot_campaign.study import space


@dataclass(frozen=True)
class Ended:
    """A configuration that a search has trained to its end."""

    spent: int
    """Env steps of the whole search by then."""
    configuration: int
    score: float | None
    """None where the training failed."""


@dataclass(frozen=True)
class Played:
    """What a search came to in one repetition."""

    ended: tuple[Ended, ...]
    """In the order in which they ended."""
    drawn: tuple[int, ...]
    """Configurations, in the order in which they were begun."""
    stopped: frozenset[int]
    """Configurations among them that a pruner stopped, or paused and never continued."""
    spent: int


@dataclass
class World:
    """One repetition.

    Args:
        table: The recorded trainings; configurations that lack a seed are left out.
        repetition: Decides which of its seeds each configuration has, the same for every row.
        budget: Env steps that a search may spend.
    """

    table: Table
    repetition: int
    budget: int
    spent: int = 0
    is_over: bool = False
    """Whether the budget was used up in the middle of a training."""
    used: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Draw the seeds."""
        complete = self.table.complete
        known = self.table.known
        seeds = np.random.default_rng((self.repetition, 1)).choice(self.table.seeds, len(self.table.points))
        self.trainings: dict[int, Training] = {number: known[number, int(seeds[number])] for number in complete}
        spec = self.table.spec
        self.distributions: dict[str, BaseDistribution] = {
            space.stored_name(name, parameter): space.distribution(parameter)
            for name, parameter in spec.parameters.items()
        }
        self.stored: list[Mapping[str, Any]] = [space.encode(spec, point) for point in self.table.points]
        self.prior: Mapping[str, Any] = space.encode(spec, prior_point(spec))

    @property
    def has_more(self) -> bool:
        """Whether another configuration may be begun."""
        return not self.is_over and self.spent < self.budget and len(self.used) < len(self.trainings)

    def take(self, suggested: Mapping[str, Any]) -> int:
        """Return the configuration that stands for a suggested point, and use it up.

        Args:
            suggested: Stored values.
        """
        number = nearest(self.distributions, suggested, self._free())
        self.used.append(number)
        return number

    def take_any(self) -> int:
        """Return a free configuration, each as likely as any other, and use it up.

        This is random search: the points of a table were drawn at random, so any order of them is as good a sequence
        of draws. The nearest to a random point would be no random one: of the recorded tables some points are nearest
        to ten times as much of the space as others, and those in its middle to more than those at its edges.
        """
        number = int(np.random.default_rng((self.repetition, 2, len(self.used))).choice(sorted(self._free())))
        self.used.append(number)
        return number

    def _free(self) -> dict[int, Mapping[str, Any]]:
        untrained = set(range(len(self.stored))) - set(self.trainings)
        return free(self.stored, {*self.used, *untrained})

    def play(self, configuration: int, *, begin: int = 0) -> Iterator[tuple[int, float]]:
        """Train a configuration from an env step to its end, and yield its reports as they come.

        Ends early where the budget is used up, and `is_over` from then on.
        """
        training = self.trainings[configuration]
        at = begin
        for step, score in (*((s, v) for s, v in training.curve if s > begin), (training.env_steps, None)):
            if self.spent + step - at > self.budget:
                self.spent, self.is_over = self.budget, True
                return
            self.spent += step - at
            at = step
            if score is not None:
                yield step, score

    def end(self, configuration: int) -> Ended:
        """Return what is known now that a configuration was trained to its end."""
        return Ended(self.spent, configuration, self.trainings[configuration].score)
