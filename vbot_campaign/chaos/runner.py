"""Runs toy studies side by side, strikes them one fault after the other, and compares them with one left alone."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from vbot_campaign.chaos import toy_study
from vbot_campaign.chaos.campaign import ToyCampaign
from vbot_campaign.chaos.invariants import INVARIANTS
from vbot_campaign.chaos.lane import SURVIVAL, Lane, LaneRecord, Round, Stuck, StudyRecord
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
        """Run the undisturbed study, then all rounds; return what came of it.

        Raises:
            StudyError: The undisturbed study did not finish, so there is nothing to compare with.
        """
        folder = Path(tempfile.mkdtemp(prefix="vbot-chaos-")).resolve()
        self.say(f"studies in {folder}")
        started = time.monotonic()
        halt = threading.Event()
        try:
            undisturbed, undisturbed_s = self._run_undisturbed(folder, halt)
            records = self._run_lanes(folder, undisturbed, halt, started)
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

    def _run_undisturbed(self, folder: Path, halt: threading.Event) -> tuple[ToyCampaign, float]:
        campaign = ToyCampaign(folder / "undisturbed", self.trials)
        started = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            lane = Lane(0, folder, campaign, (), halt=halt, say=self.say)
            try:
                pool.submit(lane.run_undisturbed).result()
            except Stuck as error:
                raise StudyError(f"the undisturbed study did not finish: {error}. See {campaign.output}.") from error
            except BaseException:
                halt.set()
                raise
        seconds = time.monotonic() - started
        self.say(f"undisturbed study finished in {seconds:.0f} s")
        return campaign, seconds

    def _run_lanes(
        self, folder: Path, undisturbed: ToyCampaign, halt: threading.Event, started: float
    ) -> list[LaneRecord]:
        plan = plan_rounds(self.rounds, self.seed, available_kinds())
        deadline = None if self.minutes is None else started + self.minutes * 60.0
        lanes = [
            Lane(number, folder, undisturbed, plan[number :: self.lanes], deadline=deadline, halt=halt, say=self.say)
            for number in range(self.lanes)
            if plan[number :: self.lanes]
        ]
        with ThreadPoolExecutor(len(lanes)) as pool:
            futures = [pool.submit(lane.run) for lane in lanes]
            try:
                return [future.result() for future in futures]
            except BaseException:
                halt.set()
                raise


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
