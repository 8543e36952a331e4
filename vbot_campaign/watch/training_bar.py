"""What a training without a study prints."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vbot_campaign.events import Ended, Result
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.watch import units
from vbot_campaign.watch.console import LastingConsole
from vbot_campaign.watch.outcome_table import outcome_table
from vbot_campaign.watch.program import program

LINE_EVERY_S = 30.0


class TrainingProgress(Protocol):
    """What a worker tells after every iteration."""

    @property
    def env_steps(self) -> int:
        """Trained so far."""

    @property
    def budget(self) -> int:
        """Env steps of the whole training."""

    @property
    def score(self) -> float | None:
        """Score of the training episodes, or None before the first."""

    @property
    def env_steps_per_s(self) -> float:
        """Speed of the last iteration."""


class TrainingBar:
    """A progress bar on a terminal, a line now and then elsewhere."""

    def __init__(self, folder: Path, console: Console | None = None) -> None:
        self._console = console or LastingConsole()
        self._folder = folder
        self._task: TaskID | None = None
        self._next_line = 0.0
        self._bar = Progress(
            TextColumn("{task.percentage:>3.0f}%"),
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
        )

    def __enter__(self) -> TrainingBar:
        """Say where the run lies, and show the bar."""
        self._console.print(f"Training in {self._folder}", soft_wrap=True)
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar down."""
        if self._console.is_terminal:
            self._bar.stop()

    def update(self, progress: TrainingProgress) -> None:
        """Show how far the training is."""
        text = (
            f"{units.count(progress.env_steps)} of {units.count(progress.budget)} env steps, "
            f"score {units.score(progress.score)}, {units.count(progress.env_steps_per_s)} steps/s"
        )
        if self._console.is_terminal:
            if self._task is None:
                self._task = self._bar.add_task(text, total=progress.budget)
            self._bar.update(self._task, completed=progress.env_steps, description=text)
        elif time.monotonic() >= self._next_line:
            self._console.print(text, soft_wrap=True)
            self._next_line = time.monotonic() + LINE_EVERY_S


def training_summary(folder: Path) -> str:
    """Return how a training ended, what came of it, and the next command."""
    paths = TrialPaths(folder)
    result = Result.read(paths.result)
    if result is None:
        return f"The run in {folder} did not end by itself. Go on: {program()} train --resume {folder}"
    head = f"{result.state} after {result.env_steps:,} env steps: {result.reason}"
    if result.state is Ended.FINISHED and result.episodes is not None and result.score is not None:
        episodes = EpisodeTotals.from_dict(result.episodes)
        seed = _evaluation_seed(paths)
        table = outcome_table(paths.best_checkpoint, None, episodes, result.score, seed)
        return f"{head}\n\n{table}\n\nNext:\n  {program()} evaluate {paths.best_checkpoint} --episodes 512"
    if result.state is Ended.STOPPED:
        return f"{head}\nGo on: {program()} train --resume {folder}"
    return head


def _evaluation_seed(paths: TrialPaths) -> int:
    from vbot_campaign import fs

    return int(fs.read_json(paths.meta)["evaluation_seed"])
