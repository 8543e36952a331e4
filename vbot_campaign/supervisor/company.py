"""Keeps the trials of this supervisor apart from those of others at the same study."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
from collections.abc import Collection, Iterator, Sequence

from vbot_campaign.errors import StudyBusyError, StudyError, TrialLostError
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study.snapshot import TrialView
from vbot_campaign.study.tenure import MAKING, Claim
from vbot_campaign.supervisor import recovery
from vbot_campaign.supervisor.decisions import Decision
from vbot_campaign.supervisor.launcher import Launcher
from vbot_campaign.supervisor.process import Process
from vbot_campaign.supervisor.slots import Slot
from vbot_campaign.supervisor.state import Context

END_S = 30.0
LOOK_S = 2.0
"""Time between two looks at what the others have done, and for trials that have become free."""


def check_shared(spec: StudySpec, *, is_server: bool) -> None:
    """Refuse to share a study that cannot be.

    Args:
        spec: The study.
        is_server: Whether it is on a server, see `CampaignStorage.is_server`.

    Raises:
        StudyError: It is in a file, or its pruner needs one supervisor.
    """
    name = spec.study
    if not is_server:
        raise StudyError(
            f"study '{name}': --shared needs a PostgreSQL database (--storage URL, see docs/postgresql.md); a file has "
            "one supervisor."
        )
    if spec.pruner.pauses:
        raise StudyError(
            f"study '{name}': its pruner ({spec.pruner.name}) pauses trials, which needs one supervisor that sees all. "
            "Run it without --shared, or give it a pruner that stops them, such as noise_aware."
        )


def named(slots: Sequence[Slot], *, shared: bool) -> dict[str, Slot]:
    """Return slots by the names that they have in the database: in company, with that of the machine."""
    host = f"@{socket.gethostname()}" if shared else ""
    renamed = [dataclasses.replace(slot, name=f"{slot.name}{host}") for slot in slots]
    return {slot.name: slot for slot in renamed}


class Company:
    """Claims trials, and says which are another's.

    Alone, as always with a study in a file, it claims every trial at the beginning. In company it claims those whose
    worker lives here, and further ones as slots become free.

    Args:
        context: What is worked on.
        launcher: Finds workers that live.
        shared: Whether others may be at work beside this one.
        lease_s: How long a claim holds without being renewed.
    """

    def __init__(self, context: Context, launcher: Launcher, *, shared: bool, lease_s: float) -> None:
        self.shared = shared
        self.elsewhere = 0
        """Unfinished trials that are not this supervisor's."""
        self._context = context
        self._launcher = launcher
        self._study = context.study
        self._paths = context.paths
        self._state = context.state
        self._tenure = context.study.ledger.tenure
        self._lease_s = lease_s
        self._looked = float("-inf")

    def own(self, unfinished: Sequence[TrialView]) -> list[TrialView]:
        """Claim trials at the beginning; return those that were claimed. What works here at another's is ended."""
        self._tenure.know([trial.number for trial in unfinished])
        if not self.shared:
            return [trial for trial in unfinished if self._tenure.take(self._lease_s, trial.number) is not None]
        own = []
        for trial in unfinished:
            worker = self.live_worker(trial)
            if worker is not None and self._tenure.take(self._lease_s, trial.number) is not None:
                own.append(trial)
            elif worker is not None:
                worker.kill()
        return own

    def live_worker(self, trial: TrialView) -> Process | None:
        """See `Launcher.adopt`; a worker in another's runs folder is none of ours."""
        is_here = trial.folder is not None and (self._paths.root / trial.folder).is_dir()
        return self._launcher.adopt(self._paths, trial) if is_here or not self._study.storage.is_server else None

    def is_time(self, now: float) -> bool:
        """Tell whether to look what the others have done; never where there are none."""
        if not self.shared or now - self._looked < LOOK_S:
            return False
        self._looked = now
        return True

    def free_trials(self, count: int) -> Iterator[tuple[TrialView, Claim]]:
        """Claim up to so many trials that nobody works at any more."""
        for _ in range(count):
            claim = self._tenure.take(self._lease_s)
            if claim is None:
                return
            trial = self._study.trial(claim.trial)
            if trial.state.is_finished:
                self._tenure.release(claim.trial, ended=True)
            else:
                yield trial, claim

    @contextlib.contextmanager
    def making(self) -> Iterator[bool]:
        """Let the block make a trial, if yielded True; else another is just doing so."""
        with self._tenure.making(self._lease_s) as mine:
            yield mine

    def claim_new(self, trial: int) -> None:
        """Claim a trial that was just made, while nobody else may make one."""
        self._tenure.know([trial])
        self._tenure.take(self._lease_s, trial)

    def count(self, asked: int) -> int:
        """Return how many trials were made, by whomever.

        Args:
            asked: How many this supervisor knows of.
        """
        if not self.shared:
            return asked
        self._looked = float("-inf")  # those that are new are looked at before anything is concluded from their number
        return self._study.count

    def busy_error(self) -> StudyBusyError:
        """Return the error that another supervisor works in the study's folder here."""
        if self.shared:
            name = self._study.spec.study
            return StudyBusyError(
                f"study '{name}': a supervisor works in {self._paths.root} already. Each needs its own runs folder, "
                f"as in `vbot-campaign --runs FOLDER resume {name} --shared`."
            )
        return recovery.busy_error(self._study.spec.study, self._study.ledger.lease())

    @property
    def mine(self) -> set[int]:
        """Unfinished trials that this supervisor works at, or will when a slot is free."""
        return {*self._state.workers, *self._state.waiting}

    def keep(self, claimed: Collection[int]) -> None:
        """Drop what another has taken over, and let others have what is claimed and not worked at.

        Args:
            claimed: Trials whose claim was just renewed. More than are known where the answer to a claim was lost.
        """
        for trial in self.mine.difference(claimed):
            self._lose(trial)
        for trial in set(claimed) - self.mine - {MAKING}:
            self._tenure.release(trial)

    @contextlib.contextmanager
    def losing(self) -> Iterator[None]:
        """Drop a trial that turns out in the block to be another's."""
        try:
            yield
        except TrialLostError as error:
            if error.trial is None or error.trial == MAKING:
                raise
            self._lose(error.trial)

    def _lose(self, trial: int) -> None:
        worker = self._state.workers.pop(trial, None)
        self._state.waiting.pop(trial, None)
        self._state.monitors.pop(trial, None)
        if worker is not None:
            worker.process.kill()
            worker.process.wait(END_S)
        reason = "another supervisor has taken it over: this one's lease had run out"
        self._context.decide(Decision("lost", reason, trial, worker.attempt.number if worker else None))

    def is_last(self) -> bool:
        """Tell whether no other supervisor is at work."""
        return not self.shared or sum(lease.is_held() for lease in self._tenure.leases()) <= 1
