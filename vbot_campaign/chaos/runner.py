"""Runs toy studies side by side, strikes them one fault after the other, and compares them with one left alone."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vbot_campaign.chaos import toy_study
from vbot_campaign.chaos.campaign import ToyCampaign
from vbot_campaign.chaos.invariants import INVARIANTS
from vbot_campaign.chaos.lane import SURVIVAL, Lane, LaneRecord, Plan, Round, Stuck, StudyRecord
from vbot_campaign.chaos.schedule import Kind, available_kinds, plan_rounds
from vbot_campaign.errors import StudyError

MAX_LANES = 2
"""Studies side by side; each keeps one core busy."""


@dataclass(frozen=True)
class ChaosReport:
    """What came of a run."""

    seed: int
    folder: Path
    kept: bool
    """Whether the folder is still there."""
    seconds: float
    undisturbed_s: float
    """What the undisturbed study took."""
    planned: int
    """Rounds asked for; fewer were run where the time was up."""
    kinds: tuple[Kind, ...]
    rounds: tuple[Round, ...]
    studies: tuple[StudyRecord, ...]

    @property
    def violations(self) -> dict[str, list[str]]:
        """Violations of each invariant by its name, those of all studies together; none where it holds."""
        return {
            name: [f"{study.name}: {text}" for study in self.studies for text in study.violations.get(name, ())]
            for name in (SURVIVAL, *INVARIANTS)
        }

    @property
    def passed(self) -> bool:
        """Whether every round was survived and every invariant holds."""
        return all(done.survived for done in self.rounds) and not any(self.violations.values())


@dataclass
class Chaos:
    """One run.

    Args:
        rounds: Faults.
        seed: Of the schedule.
        minutes: Time after which no further fault is made; None for no limit.
        keep: Keep the folder even if nothing was violated.
        lanes: Studies side by side.
        trials: Of each study.
        say: Called with every line of progress, from several threads.
    """

    rounds: int
    seed: int
    minutes: float | None = None
    keep: bool = False
    lanes: int = field(default_factory=lambda: min(MAX_LANES, _cores()))
    trials: int = toy_study.TRIALS
    say: Callable[[str], None] = lambda line: None

    def run(self) -> ChaosReport:
        """Run the undisturbed study and all rounds; return what came of it.

        Raises:
            StudyError: The undisturbed study did not finish, so there is nothing to compare with.
        """
        folder = Path(tempfile.mkdtemp(prefix="vbot-chaos-")).resolve()
        self.say(f"studies in {folder}")
        started = time.monotonic()
        halt = threading.Event()
        try:
            records, undisturbed_s = self._run_lanes(folder, halt, started)
        except BaseException:
            halt.set()
            self.say(f"what there is stays in {folder}")
            raise
        rounds = sorted((done for record in records for done in record.rounds), key=lambda done: done.planned.number)
        studies = tuple(study for record in records for study in record.studies)
        seconds = time.monotonic() - started
        kinds = available_kinds()
        report = ChaosReport(
            self.seed, folder, True, seconds, undisturbed_s, self.rounds, kinds, tuple(rounds), studies
        )
        if self.keep or not report.passed:
            return report
        shutil.rmtree(folder)
        return replace(report, kept=False)

    def _run_lanes(self, folder: Path, halt: threading.Event, started: float) -> tuple[list[LaneRecord], float]:
        """Run all lanes, the first after the undisturbed study; return what they did and what that study took, in s."""
        undisturbed = ToyCampaign(folder / "undisturbed", self.trials)
        plan = Plan(plan_rounds(self.rounds, self.seed, available_kinds()))
        finished = threading.Event()
        deadline = None if self.minutes is None else started + self.minutes * 60.0
        lanes = [
            Lane(
                number,
                folder,
                undisturbed,
                plan,
                deadline=deadline,
                undisturbed_finished=finished,
                halt=halt,
                say=self.say,
            )
            for number in range(min(self.lanes, self.rounds))
        ]
        with ThreadPoolExecutor(len(lanes)) as pool:
            first = pool.submit(self._run_undisturbed, lanes[0], undisturbed, finished)
            others = [pool.submit(lane.run) for lane in lanes[1:]]
            futures: list[Future[Any]] = [first, *others]
            try:
                # The first that failed is the one to tell of: the others are then asked to stop, and say so.
                for done in as_completed(futures):
                    done.result()
            except BaseException:
                halt.set()
                raise
        seconds, record = first.result()
        return [record, *(other.result() for other in others)], seconds

    def _run_undisturbed(
        self, lane: Lane, undisturbed: ToyCampaign, finished: threading.Event
    ) -> tuple[float, LaneRecord]:
        started = time.monotonic()
        try:
            lane.run_undisturbed()
        except Stuck as error:
            raise StudyError(f"the undisturbed study did not finish: {error}. See {undisturbed.output}.") from error
        seconds = time.monotonic() - started
        self.say(f"undisturbed study finished in {seconds:.0f} s")
        finished.set()
        return seconds, lane.run()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
