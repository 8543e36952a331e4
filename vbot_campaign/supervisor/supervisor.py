"""The long-lived process: asks for trials, runs a worker for each, hears what they say, stops the losers."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, assert_never

from vbot_campaign import events, fs
from vbot_campaign.errors import FolderBusyError, StudyBusyError, StudyError
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.spec.resolve import resolve_training
from vbot_campaign.spec.training import ThreadSettings, TrialSpec
from vbot_campaign.study.ledger import Lease
from vbot_campaign.study.objective import Report
from vbot_campaign.study.owner import Owner
from vbot_campaign.study.snapshot import AttemptView, StudySnapshot, TrialView
from vbot_campaign.study.storage import storage_errors
from vbot_campaign.study.study import CampaignStudy
from vbot_campaign.supervisor import recovery
from vbot_campaign.supervisor.budget import BudgetUse, may_ask, used_up
from vbot_campaign.supervisor.decisions import Decision, DecisionLog, Listener
from vbot_campaign.supervisor.monitor import TrialMonitor
from vbot_campaign.supervisor.process import WorkerProcess, command_of, exit_words
from vbot_campaign.supervisor.reward_audit import NoAudit
from vbot_campaign.supervisor.scheduler import (
    Action,
    Ask,
    Finish,
    GiveUp,
    Kill,
    Running,
    Situation,
    Start,
    Stop,
    StopWorker,
    Waiting,
    plan,
)
from vbot_campaign.supervisor.signals import stop_signals
from vbot_campaign.supervisor.slots import Slot, discover_slots, worker_environment
from vbot_campaign.supervisor.state import State, StopOrder, Worker
from vbot_campaign.supervisor.verdict import Fate, Verdict, judge

LEASE_S = 30.0
BEAT_S = 5.0
OBSERVE_S = 2.0
FAILURES_IN_A_ROW = 2

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
        self._command, self._worker_folder = command_of(self._spec.trainer)
        if worker_command is not None:
            self._command, self._worker_folder = tuple(worker_command), None
        self._observers = observers
        self._log = DecisionLog(self._paths.decisions, progress)
        self._clock = clock
        self._poll_s = poll_s
        self._grace_s = grace_s
        self._slots = {slot.name: slot for slot in (slots or discover_slots(self._spec.workers))}
        self._stop = StopOrder()
        self._state = State()
        self._session = 0
        self._started = self._beaten = self._observed = clock()
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
        for line in recovery.stop_orphans(self._paths, unfinished):
            self._log.add(Decision("recovered", line))
        for trial in unfinished:
            self._pick_up(trial)
        self._study.set_status("running", "")

    def _pick_up(self, trial: TrialView) -> None:
        self._state.waiting[trial.number] = self._study.ledger.deaths(trial.number)
        if not trial.attempts:
            return
        last = trial.attempts[-1]
        monitor = self._monitor(trial, TrialPaths(self._paths.root / (trial.folder or "")))
        monitor.poll(last.number)
        self._state.env_steps[trial.number] = max(trial.env_steps, monitor.env_steps)
        prune_reason = self._study.ledger.entry(trial.number).prune_reason
        result = monitor.result(last.token)
        verdict = judge(result, None, "its supervisor died", prune_reason=prune_reason, asked_to_stop=True)
        if last.ended is None or verdict.fate is not Fate.STOPPED:
            self._settle(trial.number, last, verdict, None)

    def _conclude(self, end: Finish) -> Outcome:
        self._study.set_status(end.state, end.reason)
        self._log.add(Decision(end.state, end.reason))
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
        deadline = self._clock() + min(self._grace_s, recovery.ORPHAN_GRACE_S)
        for worker in workers:
            if worker.process.wait(max(0.0, deadline - self._clock())) is None:
                worker.process.kill()
                worker.process.wait(recovery.ORPHAN_GRACE_S)

    # --- the loop -----------------------------------------------------------------------------------------------

    def _loop(self) -> Finish:
        while True:
            for worker in list(self._state.workers.values()):
                self._attend(worker)
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
                Running(w.trial, w.slot.name, None if w.stop_asked is None else now - w.stop_asked)
                for w in state.workers.values()
            ),
            waiting=tuple(Waiting(trial, deaths) for trial, deaths in state.waiting.items()),
            may_ask=may_ask(budget, use) and not state.exhausted,
            used_up=used_up(budget, use),
            stop=self._stop.level,
            stop_reason=self._stop.reason,
            max_attempts=self._spec.workers.max_attempts,
            grace_s=self._grace_s,
        )

    def _carry_out(self, action: Action) -> None:
        match action:
            case Ask():
                self._ask(action.slot)
            case Start():
                self._start(self._study.trial(action.trial), self._slots[action.slot])
            case StopWorker():
                self._stop_worker(self._state.workers[action.trial], action.reason)
            case Kill():
                self._kill(self._state.workers[action.trial], action.reason)
            case GiveUp():
                self._give_up(action.trial, action.reason)
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
            self._decide(Decision("audit_failed", str(error)))
            return
        if found is not None:
            self._study.set_audit(found)
            self._decide(Decision("audited", " ".join(found.warnings) or "at the priors finishing pays most"))

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
                self._log.add(Decision("observer_failed", f"{type(observer).__name__}: {error}"))

    def _decide(self, decision: Decision) -> None:
        self._state.changed = True
        self._log.add(decision)

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
            self._decide(Decision("exhausted", "every point of the grid has a trial"))
            return
        self._state.asked += 1
        self._state.waiting[trial.number] = 0
        self._decide(Decision("asked", f"trial {self._state.asked} of {self._spec.budget.trials or '∞'}", trial.number))
        self._start(trial, self._slots[slot])

    def _start(self, trial: TrialView, slot: Slot) -> None:
        folder = self._folder(trial)
        first = recovery.resume_point(self._paths, trial)
        attempt = self._study.ledger.open_attempt(trial.number, slot=slot.name, first_env_step=first)
        spec = self._trial_spec(trial, attempt, slot, folder)
        # From here on only this attempt counts: its predecessors' requests and results are void.
        folder.stop_request.unlink(missing_ok=True)
        folder.result.unlink(missing_ok=True)
        fs.write_json(folder.spec, spec.model_dump(mode="json"))
        environ = worker_environment(slot, spec.threads)
        process = WorkerProcess.spawn(folder, environ, self._command, self._worker_folder)
        self._study.ledger.update_attempt(trial.number, attempt.number, pid=process.pid, pid_started=process.started)
        monitor = self._monitor(trial, folder)
        self._state.workers[trial.number] = Worker(trial.number, slot, attempt, process, monitor)
        self._state.waiting.pop(trial.number, None)
        begin = f"from {self._study.warm_start}" if self._study.warm_start else "from the start"
        reason = begin if first == 0 else f"from the checkpoint at {first:,} env steps"
        self._decide(Decision("started", reason, trial.number, attempt.number, slot.name, env_step=first))

    def _folder(self, trial: TrialView) -> TrialPaths:
        if trial.folder is not None and (self._paths.root / trial.folder).is_dir():
            return TrialPaths(self._paths.root / trial.folder)
        folder = self._paths.new_trial(trial.number)
        folder.root.mkdir(parents=True, exist_ok=True)
        relative = folder.root.relative_to(self._paths.root).as_posix()
        self._study.ledger.update_trial(trial.number, folder=relative)
        self._state.monitors.pop(trial.number, None)
        return folder

    def _trial_spec(self, trial: TrialView, attempt: AttemptView, slot: Slot, folder: TrialPaths) -> TrialSpec:
        return TrialSpec(
            study=self._spec.study,
            trial=trial.number,
            attempt=attempt.number,
            token=attempt.token,
            training=resolve_training(self._spec, trial.parameters),
            device=slot.device,
            slot=slot.name,
            threads=_threads_of(folder.spec, slot),
            parameters=trial.parameters,
            warm_start=self._paths.warm_start.absolute() if self._study.warm_start else None,
        )

    def _monitor(self, trial: TrialView, folder: TrialPaths) -> TrialMonitor:
        if trial.number not in self._state.monitors:
            training = resolve_training(self._spec, trial.parameters)
            self._state.monitors[trial.number] = TrialMonitor(self._study, trial.number, folder, training)
        return self._state.monitors[trial.number]

    def _attend(self, worker: Worker) -> None:
        # The exit is looked for before the files, so that what is read then is all the worker wrote.
        code = worker.process.poll()
        news = worker.monitor.poll(worker.attempt.number)
        self._state.env_steps[worker.trial] = worker.monitor.env_steps
        self._state.changed |= news.changed
        for alert in news.alerts:
            self._decide(Decision("alert", alert, worker.trial, worker.attempt.number))
        for report in news.reports:
            self._decide(Decision("reported", "", worker.trial, env_step=report.env_step, score=report.score))
        # At the last point everything is trained: the worker is evaluating, and a stop would save nothing.
        trained = worker.monitor.env_steps >= self._spec.env_steps_per_trial
        if news.reports and code is None and worker.stop_asked is None and not trained:
            self._consult_pruner(worker, news.reports[-1])
        if code is not None:
            self._end_attempt(worker, code)

    def _consult_pruner(self, worker: Worker, report: Report) -> None:
        if not self._study.should_prune(worker.trial):
            return
        step, score = report.env_step, report.score
        reason = f"{self._spec.pruner.name} pruner: score {score:.4f} at {step:,} env steps"
        self._study.ledger.update_trial(worker.trial, prune_reason=reason)
        self._request_stop(worker, "pruned")
        self._decide(Decision("pruning", reason, worker.trial, worker.attempt.number, env_step=step, score=score))

    def _request_stop(self, worker: Worker, reason: str) -> None:
        events.request_stop(worker.monitor.folder.stop_request, reason, worker.attempt.token)
        worker.stop_asked = self._clock()

    def _stop_worker(self, worker: Worker, reason: str) -> None:
        self._request_stop(worker, "stop")
        worker.process.terminate()
        self._decide(Decision("stopping", reason, worker.trial, worker.attempt.number))

    def _kill(self, worker: Worker, reason: str) -> None:
        worker.stop_asked = self._clock()
        worker.process.kill()
        self._decide(Decision("killed", reason, worker.trial, worker.attempt.number))

    def _give_up(self, trial: int, reason: str) -> None:
        self._state.waiting.pop(trial)
        last = self._study.trial(trial).attempts[-1]
        self._conclude_trial(trial, Verdict(Fate.FAILED, f"{reason}, the last: {last.reason}"), None)
        self._count_failure(f"trial {trial}: {last.reason}")

    def _end_attempt(self, worker: Worker, code: int) -> None:
        del self._state.workers[worker.trial]
        self._state.waiting[worker.trial] = self._study.ledger.deaths(worker.trial)
        entry = self._study.ledger.entry(worker.trial)
        verdict = judge(
            worker.monitor.result(worker.attempt.token),
            code,
            exit_words(code, worker.monitor.folder.log),
            prune_reason=entry.prune_reason,
            asked_to_stop=worker.stop_asked is not None,
        )
        self._settle(worker.trial, worker.attempt, verdict, code)

    def _settle(self, trial: int, attempt: AttemptView, verdict: Verdict, code: int | None) -> None:
        died = verdict.fate is Fate.DIED
        self._study.ledger.close_attempt(trial, attempt.number, reason=verdict.reason, exit_code=code, died=died)
        if verdict.fate in (Fate.STOPPED, Fate.DIED):
            self._state.waiting[trial] += died
            self._study.ledger.update_trial(trial, reason=f"interrupted: {verdict.reason}")
            self._decide(Decision(verdict.fate.value, verdict.reason, trial, attempt.number, attempt.slot))
            return
        self._state.waiting.pop(trial, None)
        self._conclude_trial(trial, verdict, attempt)
        if verdict.is_systematic:
            self._count_failure(f"trial {trial}: {verdict.reason}")
        else:
            self._state.failures = 0

    def _conclude_trial(self, trial: int, verdict: Verdict, attempt: AttemptView | None) -> None:
        monitor = self._state.monitors.pop(trial, None)
        result = monitor.result(attempt.token) if monitor is not None and attempt is not None else None
        score = None
        if verdict.fate is Fate.COMPLETE and result is not None and result.score is not None:
            score = result.score
            self._study.complete(trial, score, result.parts, result.episodes)
        elif verdict.fate is Fate.PRUNED:
            self._study.prune(trial, verdict.reason)
        else:
            self._study.fail(trial, verdict.reason)
        number = None if attempt is None else attempt.number
        self._decide(Decision(verdict.fate.value, verdict.reason, trial, number, score=score))

    def _count_failure(self, what: str) -> None:
        self._state.failures += 1
        if self._state.failures >= FAILURES_IN_A_ROW:
            self._stop.failed = True
            reason = f"{self._state.failures} trials in a row failed, the last: {what}"
            self._stop.raise_to(Stop.ASK, reason)


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


def _threads_of(trial_json: Path, slot: Slot) -> ThreadSettings:
    # The counts of the first attempt stay: sums, and so the whole training, depend on them.
    try:
        return TrialSpec.model_validate(fs.read_json(trial_json)).threads
    except (FileNotFoundError, ValueError):
        return slot.threads
