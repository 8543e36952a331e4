"""One study after the other in one thread, each struck by faults until the rounds are used up."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vbot_campaign.chaos import toy_study
from vbot_campaign.chaos.campaign import ToyCampaign
from vbot_campaign.chaos.faults import MissedError, can_strike, strike
from vbot_campaign.chaos.invariants import Evidence, check_all
from vbot_campaign.chaos.schedule import Moment, PlannedRound
from vbot_campaign.study.study import close_readers

POLL_S = 0.02
FILE_POLL_S = 0.002
"""Pause between two looks at a folder for a file that is there for milliseconds."""
PATIENCE_S = 300.0
"""Time without any training after which a study is given up: start-ups and frozen processes take far less."""
MAX_EXITS = 5
"""Times that a command may end by itself after one fault."""

SURVIVAL = "training goes on after every fault"
"""The invariant that is checked round by round."""

_FILES = {
    Moment.SPAWN: "*/trial.json",
    Moment.LOADED: "*/experiment_meta.json",
    Moment.WRITING: "*/checkpoints/.*.part",
    Moment.WRITTEN: "*/checkpoints/*.pt",
    Moment.RESULT: "*/result.json",
}

_checking = threading.Lock()


class Halted(Exception):  # noqa: N818 - not an error: the run was interrupted
    """Another thread asks all to stop."""


class Stuck(Exception):  # noqa: N818 - a finding, not an error of this program
    """A study does not go on."""


@dataclass(frozen=True)
class Round:
    """One fault and how it was survived."""

    planned: PlannedRound
    study: str
    trial: int
    env_step: int
    seconds: float
    """From the strike until training went on; of a passing fault, with its duration."""
    repeated: int
    """Env steps that were trained again."""
    problem: str = ""
    """Why it was not survived."""

    @property
    def survived(self) -> bool:
        """Whether training went on by at most one public command."""
        return not self.problem


@dataclass
class StudyRecord:
    """One study that was struck."""

    name: str
    """Its folder."""
    violations: dict[str, list[str]] = field(default_factory=dict)

    def add(self, invariant: str, text: str) -> None:
        """Note a violation."""
        self.violations.setdefault(invariant, []).append(text)


@dataclass
class LaneRecord:
    """All that a lane did."""

    rounds: list[Round] = field(default_factory=list)
    studies: list[StudyRecord] = field(default_factory=list)


class Plan:
    """The faults that are left, in order, for the lanes to take: whoever is ready gets the next one."""

    def __init__(self, planned: Sequence[PlannedRound]) -> None:
        self._left = deque(planned)

    def take(self) -> PlannedRound | None:
        """Return the next fault, which no other lane gets; None where none is left."""
        try:
            return self._left.popleft()  # atomic
        except IndexError:
            return None


class Lane:
    """Runs studies until the rounds are used up.

    Args:
        number: From 0; also the core that everything runs on, so that a slot gets one thread.
        folder: Where the studies' folders are made.
        undisturbed: What they are compared with.
        plan: The faults, for all lanes.
        undisturbed_finished: Set when there is something to compare with.
        deadline: Monotonic time after which no fault is made.
        halt: Set when all must stop.
        say: Called with every line of progress.
    """

    def __init__(
        self,
        number: int,
        folder: Path,
        undisturbed: ToyCampaign,
        plan: Plan,
        *,
        undisturbed_finished: threading.Event,
        halt: threading.Event,
        say: Callable[[str], None],
        deadline: float | None = None,
    ) -> None:
        self._number = number
        self._folder = folder
        self._undisturbed = undisturbed
        self._plan = plan
        self._next: PlannedRound | None = None
        self._undisturbed_finished = undisturbed_finished
        self._deadline = deadline
        self._halt = halt
        self._say = say
        self._record = LaneRecord()
        self._campaign = undisturbed
        self._exits: list[str] = []
        self._exits_allowed = 0
        self._alive = (0, 0.0)

    def run_undisturbed(self) -> None:
        """Run the undisturbed study to its end.

        Raises:
            Stuck: It did not finish.
            Halted: The run was interrupted.
        """
        with self._at_work(self._undisturbed):
            self._undisturbed.run()
            self._until(lambda: False)
            if self._exits:
                raise Stuck(self._exits[0])

    def run(self) -> LaneRecord:
        """Strike studies until the rounds are used up, and check each when it has ended.

        Raises:
            Halted: The run was interrupted.
        """
        while self._next_round() is not None:
            name = f"study-{self._number + 1}-{len(self._record.studies) + 1}"
            with self._at_work(ToyCampaign(self._folder / name, self._undisturbed.trials)):
                self._record.studies.append(StudyRecord(name))
                self._run_study(self._record.studies[-1])
        return self._record

    @contextlib.contextmanager
    def _at_work(self, campaign: ToyCampaign) -> Iterator[None]:
        _pin(self._number)
        self._campaign, self._exits, self._exits_allowed = campaign, [], 0
        self._alive = (0, time.monotonic())
        try:
            yield
        finally:
            # Whatever is found later is a leftover of the program, not of this run: it has been checked for by then.
            campaign.kill_all()

    def _next_round(self) -> PlannedRound | None:
        """Return the fault to make next, the same until it is made; None where all is done or the time is up."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return None
        self._next = self._next or self._plan.take()
        return self._next

    def _run_study(self, study: StudyRecord) -> None:
        self._campaign.run()
        try:
            while (planned := self._next_round()) is not None and self._reach(planned):
                self._round(planned, study)
            self._until(lambda: False)
        except Stuck as error:
            study.add(SURVIVAL, str(error))
            self._say(f"{study.name} given up: {error}")
            return
        self._note_late_exit(study)
        self._wait_for_undisturbed()
        with _checking:
            study.violations.update(check_all(Evidence.of(self._campaign, self._undisturbed)))
            close_readers()
        wrong = sum(map(len, study.violations.values()))
        self._say(f"{study.name} finished: " + (f"{wrong} violations" if wrong else "every invariant holds"))

    # --- one round ----------------------------------------------------------------------------------------------

    def _reach(self, planned: PlannedRound) -> bool:
        """Wait for the instant of a fault; return False when the study ended before."""
        progress = self._campaign.progress
        target = progress.env_steps + planned.gap * toy_study.ENV_STEPS
        if not self._until(lambda: progress.env_steps >= target):
            return False
        pattern = _FILES.get(planned.moment)
        if pattern is not None:
            seen = self._files(pattern)
            if not self._until(lambda: bool(self._files(pattern) - seen), FILE_POLL_S):
                return False
        return True

    def _files(self, pattern: str) -> set[tuple[Path, int, int]]:
        found = set()
        for path in self._campaign.paths.trials.glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                found.add((path, stat.st_ino, stat.st_mtime_ns))
        return found

    def _round(self, planned: PlannedRound, study: StudyRecord) -> None:
        """Strike and wait until training goes on; the study may end before, then the fault is left for the next."""
        progress = self._campaign.progress
        repeats = len(progress.repeats)
        self._note_late_exit(study)
        self._exits_allowed = 1 if planned.kind.may_end_supervisor else 0
        started = self._strike(planned)
        if started is None:
            return
        self._next = None
        number, env_step = (progress.trial.number, progress.trial.env_steps) if progress.trial else (0, 0)

        def note(problem: str) -> None:
            seconds = time.monotonic() - started
            repeated = sum(repeat.env_steps for repeat in progress.repeats[repeats:])
            self._note(Round(planned, study.name, number, env_step, seconds, repeated, problem), study)

        try:
            self._recover()
        except Stuck as error:
            note("training did not go on")
            raise Stuck(f"round {planned.number}, {planned.kind}: {error}") from error
        note(self._unexpected_exit())

    def _strike(self, planned: PlannedRound) -> float | None:
        """Make the fault happen; return the monotonic time when it began, or None when the study ended before."""
        while self._until(lambda: can_strike(self._campaign, planned.kind)):
            started = time.monotonic()
            with contextlib.suppress(MissedError):
                strike(self._campaign, planned)
                self._campaign.progress.poll()
                return started
        return None

    def _recover(self) -> None:
        """Wait until the supervisor has said something and something was trained since."""
        progress, log = self._campaign.progress, self._campaign.paths.decisions
        lines, said = progress.lines, log.stat().st_size
        self._alive = (lines, time.monotonic())
        self._until(lambda: progress.lines > lines and log.stat().st_size > said)

    def _unexpected_exit(self) -> str:
        """Return the first end of a command that the last fault does not explain, or nothing; all are forgotten."""
        unexpected = self._exits[self._exits_allowed :]
        self._exits_allowed = max(0, self._exits_allowed - len(self._exits))
        self._exits = []
        return unexpected[0] if unexpected else ""

    def _note_late_exit(self, study: StudyRecord) -> None:
        problem = self._unexpected_exit()
        if problem:
            last = self._record.rounds[-1].planned.number if self._record.rounds else 0
            study.add(SURVIVAL, f"between two rounds, after round {last}: {problem}")

    def _note(self, done: Round, study: StudyRecord) -> None:
        self._record.rounds.append(done)
        planned = done.planned
        if not done.survived:
            study.add(SURVIVAL, f"round {planned.number}, {planned.kind}: {done.problem}")
        outcome = f"again after {done.seconds:.1f} s" if done.survived else f"NOT SURVIVED: {done.problem}"
        where = f"{done.study} trial {done.trial} at {done.env_step:,}"
        self._say(f"round {planned.number:>3}  {planned.kind:<28} {where:<28} {outcome}")

    # --- waiting ------------------------------------------------------------------------------------------------

    def _until(self, condition: Callable[[], bool], poll_s: float = POLL_S) -> bool:
        """Wait for a condition, and resume the study whenever its command has ended too soon.

        Returns:
            Whether the condition holds; False when the study is over.

        Raises:
            Stuck: Nothing is trained any more.
            Halted: The run was interrupted.
        """
        campaign = self._campaign
        while True:
            if self._halt.is_set():
                raise Halted
            campaign.progress.poll()
            if condition():
                return True
            if campaign.exit_code == 0:
                campaign.progress.poll()
                return False
            if campaign.exit_code is not None:
                self._resume()
            self._check_patience()
            time.sleep(poll_s)

    def _resume(self) -> None:
        self._exits.append(
            f"the command ended with exit code {self._campaign.exit_code}: {self._campaign.last_words()}"
        )
        if len(self._exits) > MAX_EXITS:
            raise Stuck(f"{self._exits[-1]} ({MAX_EXITS} times)")
        self._campaign.resume()

    def _wait_for_undisturbed(self) -> None:
        while not self._undisturbed_finished.wait(POLL_S):
            if self._halt.is_set():
                raise Halted

    def _check_patience(self) -> None:
        lines, now = self._campaign.progress.lines, time.monotonic()
        if lines != self._alive[0]:
            self._alive = (lines, now)
        elif now - self._alive[1] > PATIENCE_S:
            raise Stuck(f"nothing was trained for {PATIENCE_S:.0f} s; last words: {self._campaign.last_words()}")


def _pin(number: int) -> None:
    # Children inherit the calling thread's cores, and a slot has as many threads as there are cores.
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
