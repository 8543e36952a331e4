"""Follows a study's trial folders from outside, and notes what was trained twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vbot_campaign import fs
from vbot_campaign.paths import StudyPaths, TrialPaths


@dataclass(frozen=True)
class Repeat:
    """A stretch that a new attempt trained again."""

    trial: int
    attempt: int
    reached: int
    """Env step of the last line before."""
    resumed: int
    """Env step that the attempt went on after."""
    newest_destroyed: bool
    """Whether the newest checkpoint had been destroyed on purpose."""

    @property
    def env_steps(self) -> int:
        """How many env steps were trained again."""
        return max(0, self.reached - self.resumed)


@dataclass
class TrialProgress:
    """What one trial's folder has shown so far."""

    folder: TrialPaths
    number: int
    iteration_steps: int
    attempt: int = 0
    env_steps: int = 0
    lines: int = 0
    """Progress lines seen, those that were written again included."""
    newest_destroyed: bool = False
    metrics: fs.Tail = field(init=False)

    def __post_init__(self) -> None:
        """Start at the beginning of the log."""
        self.metrics = fs.Tail(self.folder.metrics)

    def poll(self) -> Iterator[Repeat]:
        """Read what is new; yield a repeat for each new attempt."""
        for line in self.metrics.read():
            if line.get("kind") == "progress":
                yield from self._take(line)

    def _take(self, line: Mapping[str, Any]) -> Iterator[Repeat]:
        attempt, env_steps = int(line["attempt"]), int(line["env_steps"])
        # A resumed worker replaces the log, which is then read again from its beginning: old lines are no news.
        if (attempt, env_steps) <= (self.attempt, self.env_steps):
            return
        if attempt > self.attempt > 0:
            resumed = env_steps - self.iteration_steps
            yield Repeat(self.number, attempt, self.env_steps, resumed, self.newest_destroyed)
            self.newest_destroyed = False
        self.attempt, self.env_steps = attempt, env_steps
        self.lines += 1


class StudyProgress:
    """Follows all trials of a study.

    Args:
        paths: The study's folder.
        iteration_steps: Env steps of an iteration.
    """

    def __init__(self, paths: StudyPaths, iteration_steps: int) -> None:
        self.paths = paths
        self.repeats: list[Repeat] = []
        self._iteration_steps = iteration_steps
        self._trials: dict[Path, TrialProgress] = {}

    def poll(self) -> None:
        """Read what is new."""
        # With one slot, a trial before the last two has ended.
        for path in sorted(self.paths.trials.glob("*_PPO"))[-2:]:
            if path not in self._trials:
                number = int(path.name.split("_")[0])
                self._trials[path] = TrialProgress(TrialPaths(path), number, self._iteration_steps)
            self.repeats += self._trials[path].poll()

    @property
    def trial(self) -> TrialProgress | None:
        """The newest trial: with one slot, the one that is trained."""
        return self._trials[max(self._trials)] if self._trials else None

    @property
    def env_steps(self) -> int:
        """Where all trials together stand."""
        return sum(trial.env_steps for trial in self._trials.values())

    @property
    def lines(self) -> int:
        """Progress lines seen; grows whenever something is trained."""
        return sum(trial.lines for trial in self._trials.values())


def whole_resume_points(folder: TrialPaths) -> list[Path]:
    """Return the resume points that are listed, there and of full length, oldest first."""
    newest = {str(line["file"]): line for line in fs.read_lines(folder.checkpoint_log)}
    points = [line for line in newest.values() if line.get("kind") == "resume" and not line.get("deleted")]
    paths = {folder.checkpoints / line["file"]: line for line in sorted(points, key=lambda line: line["env_steps"])}
    return [path for path, line in paths.items() if path.exists() and path.stat().st_size == line["bytes"]]
