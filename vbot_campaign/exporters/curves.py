"""A trial's learning curves from ``metrics.jsonl``, few enough points to draw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vbot_campaign import fs
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.outcomes import EpisodeTotals

_PLAIN = ("reward_mean", "kl", "learning_rate", "std")


@dataclass(frozen=True)
class Curves:
    """What a trial did over its training, averaged over even stretches of env steps.

    ``values`` has one number per stretch and name, None where nothing was measured: ``outcome/<rate>`` (every name of
    `EpisodeTotals.rates` and `EpisodeTotals.parts`, over the episodes that finished in the stretch), ``term/<reward
    term>`` and ``reward_mean`` (per step), ``loss/<policy|value|entropy>``, ``kl``, ``learning_rate``, ``std``,
    ``speed`` (env steps per second).
    """

    env_steps: tuple[int, ...] = ()
    """Env steps trained at the end of each stretch."""
    hours: tuple[float, ...] = ()
    """Hours trained until then; what was between two attempts does not count."""
    values: dict[str, tuple[float | None, ...]] = field(default_factory=dict)


@dataclass
class _Bin:
    """One stretch of a training, while its lines are added up."""

    env_steps: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    episodes: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, line: Mapping[str, Any], seconds: float) -> None:
        """Take in one progress line; ``seconds`` is the training time until its end."""
        self.env_steps, self.seconds = line["env_steps"], seconds
        for prefix, values in _groups(line):
            for name, value in values.items():
                if isinstance(value, int | float):
                    self.sums[prefix + name] += value
                    self.counts[prefix + name] += 1
        for name, value in (line.get("episodes") or {}).items():
            self.episodes[name] += value or 0

    def means(self) -> dict[str, float]:
        """Return every curve's value over the stretch."""
        totals = EpisodeTotals.from_dict(self.episodes)
        outcomes = {**(totals.rates() or {}), **(totals.parts() or {})}
        plain = {name: total / self.counts[name] for name, total in self.sums.items()}
        return {**{f"outcome/{name}": value for name, value in outcomes.items()}, **plain}


def read_curves(folder: TrialPaths, *, points: int = 200, up_to: int | None = None) -> Curves:
    """Return the learning curves of a trial, whose worker may be writing on.

    Args:
        folder: The trial's folder.
        points: Stretches at most; a short training has one per iteration.
        up_to: Env steps beyond which lines are left out.
    """
    lines = list(_progress(folder, up_to))
    if not lines:
        return Curves()
    bins: dict[int, _Bin] = {}
    first, last, seconds = lines[0]["env_steps"], lines[-1]["env_steps"], 0.0
    for line in lines:
        duration = (line.get("timing") or {}).get("seconds")
        seconds += duration if isinstance(duration, int | float) else 0.0
        position = (line["env_steps"] - first) * points // (last - first + 1)
        bins.setdefault(position, _Bin()).add(line, seconds)
    return _joined(list(bins.values()))


def _progress(folder: TrialPaths, up_to: int | None) -> Iterator[dict[str, Any]]:
    reached = -1
    for line in fs.read_lines(folder.metrics):
        steps = line.get("env_steps")
        if line.get("kind") != "progress" or not isinstance(steps, int) or steps <= reached:
            continue
        if up_to is not None and steps > up_to:
            return
        reached = steps
        yield line


def _joined(bins: list[_Bin]) -> Curves:
    means = [piece.means() for piece in bins]
    names = dict.fromkeys(name for values in means for name in values)
    return Curves(
        env_steps=tuple(piece.env_steps for piece in bins),
        hours=tuple(piece.seconds / 3600 for piece in bins),
        values={name: tuple(values.get(name) for values in means) for name in names},
    )


def _groups(line: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "", {name: line.get(name) for name in _PLAIN}
    yield "loss/", line.get("loss") or {}
    yield "term/", line.get("terms") or {}
    yield "", {"speed": (line.get("timing") or {}).get("env_steps_per_s")}
