"""The long-lived process: asks for trials, runs a worker for each, hears what they say, stops the losers."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

from vbot_campaign import fs
from vbot_campaign.errors import FolderBusyError, StudyBusyError, StudyError
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study.ledger import Lease
from vbot_campaign.study.objective import Report
from vbot_campaign.study.owner import Owner
from vbot_campaign.study.snapshot import StudySnapshot, TrialView
from vbot_campaign.study.storage import storage_errors
from vbot_campaign.study.study import CampaignStudy
from vbot_campaign.supervisor import recovery
from vbot_campaign.supervisor.attempts import Attempts
from vbot_campaign.supervisor.budget import BudgetUse, may_ask, used_up
from vbot_campaign.supervisor.decisions import Decision, DecisionLog, Listener
from vbot_campaign.supervisor.endings import Endings
from vbot_campaign.supervisor.process import AdoptedProcess, command_of
from vbot_campaign.supervisor.reward_audit import NoAudit
from vbot_campaign.supervisor.scheduler import (
    Action,
    Ask,
    DumpStacks,
    Finish,
    GiveUp,
    Kill,
    Pause,
    Running,
    Situation,
    Start,
    Stop,
    StopWorker,
    Unpause,
    Waiting,
    plan,
)
from vbot_campaign.supervisor.signals import stop_signals
from vbot_campaign.supervisor.slots import Slot, discover_slots, slots_to_keep
from vbot_campaign.supervisor.state import Context, State, StopOrder, Worker

LEASE_S = 30.0
BEAT_S = 5.0
OBSERVE_S = 2.0
ABANDON_S = 30.0
LONGEST_ROUND_S = 10.0
"""A round that took longer was not lived through: the machine was paused, and the workers with it."""

_logger = logging.getLogger(__name__)


class Observer(Protocol):
    """Something that is shown the study as it changes: an exporter, a screen."""

    def update(self, snapshot: StudySnapshot) -> None:
        """Take a new picture of the study."""


@dataclass(frozen=True)
class Outcome:
    """How a supervisor ended."""

    state: str
    """``finished`` or ``stopped``."""
    reason: str
    failed: bool
    """Whether it stopped because trials kept failing, or none could be drawn."""
    snapshot: StudySnapshot

    @property
    def exit_code(self) -> int:
        """Return 0 for a study that is finished or was stopped on request, else 1."""
        return 1 if self.failed else 0


class Supervisor:
    """Runs a study until it is finished or stopped.

    Args:
        paths: The runs folder.
        study: The study; this process becomes its one writer.
        worker_command: Program and arguments of a worker, to which the trial folder is added; by default what the
            study's ``trainer`` says.
        observers: Shown the study every two seconds when something changed, and at the end.
        progress: Called with each decision.
        clock: Monotonic seconds.
        poll_s: Pause between two rounds.
        grace_s: Time for a worker to stop before it is killed.
        slots: Where to run; by default discovered.
        audit: Audits the reward while the study starts, unless it is known already.
    """

    def __init__(
        self,
        paths: CampaignPaths,
        study: CampaignStudy,
        *,
        worker_command: Sequence[str] | None = None,
        observers: Sequence[Observer] = (),
        progress: Listener | None = None,
        clock: Callable[[], float] = time.monotonic,
        poll_s: float = 0.2,
        grace_s: float = 120.0,
        slots: Sequence[Slot] | None = None,
        audit: NoAudit | None = None,
    ) -> None:
        self._study = study
        self._audit = audit or NoAudit()
        self._spec = study.spec
        self._paths = paths.study(self._spec.study)
        self._observers = observers
        self._clock = clock
        self._poll_s = poll_s
        self._grace_s = grace_s
        self._slots = {slot.name: slot for slot in (slots or discover_slots(self._spec.workers))}
        self._stop = StopOrder()
        self._state = State()
        log = DecisionLog(self._paths.decisions, progress)
        self._context = Context(study, self._paths, self._state, self._stop, log, clock)
        command = command_of(self._spec.trainer) if worker_command is None else (tuple(worker_command), None)
        self._attempts = Attempts(self._context, *command)
        self._endings = Endings(self._context)
        self._session = 0
        self._started = self._beaten = self._observed = self._attended = clock()
        self._hours_before = 0.0

    def run(self) -> Outcome:
        """Run the study; return when it is finished or stopped and no worker is left.

        Raises:
            StudyBusyError: Another supervisor holds the study.
            StorageError: The database cannot be written any more; the workers were stopped with a checkpoint.
        """
        with storage_errors(self._study.storage.url), self._ownership(), stop_signals(self._hear), self._audit:
            try:
                self._recover()
                if self._study.audit is None:
                    self._audit.start(self._spec)
                end = self._loop()
            except BaseException:
                self._abandon_workers()
                raise
            return self._conclude(end)

    # --- beginning and end --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _ownership(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(fs.hold_lock(self._paths.supervisor_lock, what=f"study {self._spec.study}"))
            except FolderBusyError:
                raise busy_error(self._spec.study, self._study.ledger.lease()) from None
            self._paths.stop_request.unlink(missing_ok=True)
            for folder in (self._paths.root, *self._paths.mirror_folders):
                fs.remove_parts(folder)
            self._hours_before = self._study.ledger.hours_used()
            self._started = self._beaten = self._clock()
            self._session = self._study.ledger.begin_session(Owner.here(), list(self._slots), LEASE_S)
            try:
                yield
            finally:
                self._study.ledger.end_session(self._session, self._seconds())

    def _recover(self) -> None:
        snapshot = self._study.snapshot()
        self._state.asked = len(snapshot.trials)
        self._state.env_steps = {trial.number: trial.env_steps for trial in snapshot.trials}
        unfinished = [trial for trial in snapshot.trials if not trial.state.is_finished]
        live = [(trial, recovery.live_worker(self._paths, trial)) for trial in unfinished]
        self._adopt([(trial, process) for trial, process in live if process is not None])
        for trial, process in live:
            if process is None:
                self._pick_up(trial)
        self._study.set_status("running", "")

    def _adopt(self, workers: Sequence[tuple[TrialView, AdoptedProcess]]) -> None:
        slots = slots_to_keep([trial.attempts[-1].slot for trial, _ in workers], list(self._slots))
        for (trial, process), slot in zip(workers, slots, strict=True):
            self._attempts.adopt(trial, process, slot)

    def _pick_up(self, trial: TrialView) -> None:
        self._state.waiting[trial.number] = self._study.ledger.deaths(trial.number)
        if trial.attempts:
            folder = TrialPaths(self._paths.root / (trial.folder or ""))
            self._endings.take_in(trial, self._attempts.monitor(trial, folder))

    def _conclude(self, end: Finish) -> Outcome:
        self._study.set_status(end.state, end.reason)
        self._context.log.add(Decision(end.state, end.reason))
        # The lease is still ours here, so the last picture is taken as others will see it a moment later.
        self._study.ledger.beat(self._session, self._seconds(), LEASE_S)
        snapshot = recovery.without_supervisor(self._study.snapshot())
        self._show(snapshot)
        return Outcome(end.state, end.reason, self._stop.failed, snapshot)

    def _abandon_workers(self) -> None:
        # Whatever went wrong here, no worker stays behind without a supervisor; the database may be out of reach.
        workers = list(self._state.workers.values())
        for worker in workers:
            worker.process.terminate()
        deadline = self._clock() + min(self._grace_s, ABANDON_S)
        for worker in workers:
            if worker.process.wait(max(0.0, deadline - self._clock())) is None:
                worker.process.kill()
                worker.process.wait(ABANDON_S)

    # --- the loop -----------------------------------------------------------------------------------------------

    def _loop(self) -> Finish:
        while True:
            self._attend_all()
            self._read_stop_request()
            self._hear_audit()
            for action in plan(self._situation()):
                if isinstance(action, Finish):
                    return action
                self._carry_out(action)
            self._beat()
            self._observe()
            time.sleep(self._poll_s)

    def _situation(self) -> Situation:
        state, budget = self._state, self._spec.budget
        use = BudgetUse(state.asked, self._hours_before + self._seconds() / 3600.0, sum(state.env_steps.values()))
        now = self._clock()
        return Situation(
            slots=tuple(self._slots),
            running=tuple(
                Running(
                    worker.trial,
                    worker.slot,
                    stopping_s=None if worker.stop_asked is None else now - worker.stop_asked,
                    silent_s=worker.silent_s,
                    is_slow=worker.signs == 0 or self._is_trained(worker),
                    hung_s=None if worker.hung is None else now - worker.hung_since,
                )
                for worker in state.workers.values()
            ),
            waiting=tuple(Waiting(trial, deaths) for trial, deaths in state.waiting.items()),
            may_ask=may_ask(budget, use) and not state.exhausted,
            used_up=used_up(budget, use),
            stop=self._stop.level,
            stop_reason=self._stop.reason,
            max_attempts=self._spec.workers.max_attempts,
            grace_s=self._grace_s,
            watchdog_s=self._spec.workers.watchdog_s,
            free_gb=shutil.disk_usage(self._paths.root).free / 1e9,
            min_free_gb=self._spec.workers.min_free_gb,
            paused=state.paused,
        )

    def _carry_out(self, action: Action) -> None:
        match action:
            case Ask():
                self._ask(action.slot)
            case Start():
                self._attempts.start(self._study.trial(action.trial), self._slots[action.slot])
            case DumpStacks():
                self._attempts.dump_stacks(self._state.workers[action.trial], action.reason)
            case StopWorker():
                self._attempts.stop(self._state.workers[action.trial], action.reason)
            case Kill():
                self._attempts.kill(self._state.workers[action.trial], action.reason)
            case GiveUp():
                self._endings.give_up(action.trial, action.reason)
            case Pause() | Unpause():
                self._state.paused = isinstance(action, Pause)
                self._context.decide(Decision("alert", action.reason))
            case Finish():
                raise AssertionError("the loop ends before it carries out a Finish")
            case _:
                assert_never(action)

    def _hear(self, signal_name: str) -> None:
        # Runs in a signal handler: takes a note and nothing else.
        level = Stop.ASK if self._stop.level is Stop.NO else Stop.KILL
        self._stop.raise_to(level, f"stopped by {signal_name}")

    def _read_stop_request(self) -> None:
        if self._stop.level is Stop.NO and self._paths.stop_request.exists():
            record = fs.read_json(self._paths.stop_request)
            self._paths.stop_request.unlink(missing_ok=True)
            self._stop.raise_to(Stop.ASK, str(record.get("reason", "stopped on request")))

    def _hear_audit(self) -> None:
        try:
            found = self._audit.poll()
        except StudyError as error:
            self._context.decide(Decision("audit_failed", str(error)))
            return
        if found is not None:
            self._study.set_audit(found)
            self._context.decide(Decision("audited", " ".join(found.warnings) or "at the priors finishing pays most"))

    def _seconds(self) -> float:
        return self._clock() - self._started

    def _beat(self) -> None:
        if self._clock() - self._beaten >= BEAT_S:
            self._beaten = self._clock()
            self._study.ledger.beat(self._session, self._seconds(), LEASE_S)

    def _observe(self) -> None:
        if self._observers and self._state.changed and self._clock() - self._observed >= OBSERVE_S:
            self._observed = self._clock()
            self._show(self._study.snapshot())

    def _show(self, snapshot: StudySnapshot) -> None:
        self._state.changed = False
        for observer in self._observers:
            try:
                observer.update(snapshot)
            except Exception as error:
                # A mirror that cannot be written must never end a study that takes days.
                _logger.exception("%s failed", type(observer).__name__)
                self._context.log.add(Decision("observer_failed", f"{type(observer).__name__}: {error}"))

    # --- trials -------------------------------------------------------------------------------------------------

    def _ask(self, slot: str) -> None:
        try:
            trial = self._study.ask()
        except StudyError as error:
            self._stop.failed = True
            self._stop.raise_to(Stop.ASK, str(error))
            return
        if trial is None:
            self._state.exhausted = True
            self._context.decide(Decision("exhausted", "every point of the grid has a trial"))
            return
        self._state.asked += 1
        self._state.waiting[trial.number] = 0
        self._context.decide(
            Decision("asked", f"trial {self._state.asked} of {self._spec.budget.trials or '∞'}", trial.number)
        )
        self._attempts.start(trial, self._slots[slot])

    def _attend_all(self) -> None:
        now = self._clock()
        seconds, self._attended = min(now - self._attended, LONGEST_ROUND_S), now
        for worker in list(self._state.workers.values()):
            worker.silent_s += seconds
            self._attend(worker)

    def _attend(self, worker: Worker) -> None:
        # The exit is looked for before the files, so that what is read then is all the worker wrote.
        ended = worker.process.poll()
        news = worker.monitor.poll()
        self._note_signs(worker)
        self._state.env_steps[worker.trial] = worker.monitor.env_steps
        self._state.changed |= news.changed
        for alert in news.alerts:
            self._context.decide(Decision("alert", alert, worker.trial, worker.attempt.number))
        for report in news.reports:
            self._context.decide(Decision("reported", "", worker.trial, env_step=report.env_step, score=report.score))
        # At the last point everything is trained: the worker is evaluating, and a stop would save nothing.
        stoppable = ended is None and worker.stop_asked is None and not self._is_trained(worker)
        if news.reports and stoppable:
            self._consult_pruner(worker, news.reports[-1])
        if ended is not None:
            self._endings.end(worker, ended)

    def _note_signs(self, worker: Worker) -> None:
        if worker.monitor.signs != worker.signs:
            worker.signs, worker.silent_s = worker.monitor.signs, 0.0
        elif worker.signs == 0:
            worker.memory_mb = max(filter(None, (worker.memory_mb, worker.process.memory_mb())), default=None)

    def _is_trained(self, worker: Worker) -> bool:
        return worker.monitor.env_steps >= self._spec.env_steps_per_trial

    def _consult_pruner(self, worker: Worker, report: Report) -> None:
        if not self._study.should_prune(worker.trial):
            return
        step, score = report.env_step, report.score
        reason = f"{self._spec.pruner.name} pruner: score {score:.4f} at {step:,} env steps"
        self._study.ledger.update_trial(worker.trial, prune_reason=reason)
        self._attempts.request_stop(worker, "pruned")
        self._context.decide(
            Decision("pruning", reason, worker.trial, worker.attempt.number, env_step=step, score=score)
        )


def busy_error(study: str, lease: Lease | None) -> StudyBusyError:
    """Return the error that names who holds a study, and since when."""
    who = "another supervisor"
    if lease is not None:
        since = lease.since.isoformat(timespec="seconds").replace("+00:00", "Z")
        who = f"the supervisor with pid {lease.owner.pid} on {lease.owner.host} since {since}"
    return StudyBusyError(
        f"study '{study}' is run by {who}. Watch it with `vbot-campaign status {study}`, "
        f"or stop it with `vbot-campaign stop {study}`."
    )
