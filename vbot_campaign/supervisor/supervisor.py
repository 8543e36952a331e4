"""The long-lived process: asks for trials, runs a worker for each, hears what they say, stops the losers."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import assert_never

from vbot_campaign import fs
from vbot_campaign.errors import CheckpointError, FolderBusyError, StudyError, TrialLostError
from vbot_campaign.events import utc_now
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.study.owner import Owner
from vbot_campaign.study.snapshot import StudySnapshot, TrialView
from vbot_campaign.study.storage import storage_errors
from vbot_campaign.study.study import CampaignStudy
from vbot_campaign.study.usage import gpu_hours, is_gpu
from vbot_campaign.supervisor import recovery
from vbot_campaign.supervisor.alerts import Alert, end_alert
from vbot_campaign.supervisor.attempts import Attempts
from vbot_campaign.supervisor.budget import BudgetUse, may_ask, only_gpu_hours, used_up
from vbot_campaign.supervisor.company import Company, check_shared, named
from vbot_campaign.supervisor.decisions import Decision, DecisionLog, Listener
from vbot_campaign.supervisor.endings import Endings
from vbot_campaign.supervisor.launcher import Launcher, LocalLauncher
from vbot_campaign.supervisor.lookout import Lookout
from vbot_campaign.supervisor.monitor import News
from vbot_campaign.supervisor.notify import notifier_for
from vbot_campaign.supervisor.outcome import Observer, Outcome
from vbot_campaign.supervisor.process import Process, command_of
from vbot_campaign.supervisor.pruning import pruning_for
from vbot_campaign.supervisor.reward_audit import NoAudit, take_findings
from vbot_campaign.supervisor.scheduler import (
    Action,
    Ask,
    DumpStacks,
    EndPaused,
    Finish,
    GiveUp,
    Kill,
    Pause,
    Promote,
    Situation,
    Start,
    Stop,
    StopWorker,
    Unpause,
    plan,
)
from vbot_campaign.supervisor.signals import stop_signals
from vbot_campaign.supervisor.slots import Slot, slots_to_keep
from vbot_campaign.supervisor.state import Context, State, StopOrder, Worker
from vbot_campaign.supervisor.teller import Teller

LEASE_S = 30.0
BEAT_S = 5.0
OBSERVE_S = 2.0
ABANDON_S = 30.0
LONGEST_ROUND_S = 10.0
"""A round that took longer was not lived through: the machine was paused, and the workers with it."""

_logger = logging.getLogger(__name__)


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
        slots: Where to run; by default all that the launcher has.
        launcher: Starts and finds workers; by default on this machine.
        audit: Audits the reward while the study starts, unless it is known already.
        before_ask: Called before each trial is asked; it may change the queue, and says in words what it did.
        shared: Let other supervisors work at the study too; only on a server.
        lease_s: How long others leave its trials to it without a sign of life.
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
        launcher: Launcher | None = None,
        audit: NoAudit | None = None,
        before_ask: Callable[[CampaignStudy], Sequence[str]] = lambda study: (),
        shared: bool = False,
        lease_s: float = LEASE_S,
    ) -> None:
        self._study = study
        self._audit = audit or NoAudit()
        self._before_ask = before_ask
        self._spec = study.spec
        self._paths = paths.study(self._spec.study)
        self._observers = observers
        self._clock = clock
        self._poll_s = poll_s
        self._grace_s = grace_s
        self._lease_s = lease_s
        if shared:
            check_shared(study.spec, is_server=study.storage.is_server)
        self._launcher = launcher or LocalLauncher()
        self._slots = named(slots or self._launcher.slots(self._spec.workers), shared=shared)
        if only_gpu_hours(self._spec.budget) and not any(map(is_gpu, self._slots)):
            raise StudyError(
                f"study '{self._spec.study}': has a budget of GPU-hours alone, and this machine has no GPU to use: it "
                "would never end. Give it trials, hours or env_steps as well."
            )
        self._stop = StopOrder()
        self._state = State()
        log = DecisionLog(self._paths.decisions, progress)
        self._notifier = notifier_for(self._spec.study, self._spec.alerts.notify)
        teller = Teller(study, log, self._notifier)
        self._context = Context(study, self._paths, self._state, self._stop, log, teller, clock)
        self._company = Company(self._context, self._launcher, shared=shared, lease_s=lease_s)
        command = command_of(self._spec.trainer) if worker_command is None else (tuple(worker_command), None)
        self._attempts = Attempts(self._context, self._launcher, *command)
        self._endings = Endings(self._context)
        self._pruning = pruning_for(self._context, self._attempts, self._may_ask)
        self._lookout = Lookout(self._context, self._slots.values())
        self._session = 0
        self._started = self._beaten = self._observed = self._attended = clock()
        self._hours_before = 0.0

    def run(self) -> Outcome:
        """Run the study; return when it is finished or stopped and no worker is left.

        Raises:
            StudyBusyError: Another supervisor holds the study.
            StorageError: The database cannot be written any more; the workers were stopped with a checkpoint.
        """
        with (
            contextlib.closing(self._notifier),
            contextlib.closing(self._launcher),
            storage_errors(self._study.storage.url),
            self._ownership(),
            stop_signals(self._hear),
            self._audit,
            self._lookout,
        ):
            try:
                self._recover()
                if self._study.audit is None:
                    self._audit.start(self._spec)
                end = self._loop()
            except BaseException as error:
                self._abandon_workers()
                # The database may be out of reach, so this one goes nowhere but out.
                words = f"the supervisor ended with an error ({type(error).__name__})"
                self._notifier.send(Alert("error", "stopped", words).view(utc_now()))
                raise
            return self._conclude(end)

    # --- beginning and end --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _ownership(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(fs.hold_lock(self._paths.supervisor_lock, what=f"study {self._spec.study}"))
            except FolderBusyError:
                raise self._company.busy_error() from None
            self._paths.stop_request.unlink(missing_ok=True)
            for folder in (self._paths.root, *self._paths.mirror_folders):
                fs.remove_parts(folder)
            self._hours_before = self._study.ledger.hours_used()
            self._started = self._beaten = self._clock()
            self._session = self._study.ledger.begin_session(
                Owner.here(), list(self._slots), self._lease_s, shared=self._company.shared
            )
            self._study.storage.patience.begin(self._read_stop_request, self._tell_of_database)
            try:
                yield
            finally:
                self._study.storage.patience.end()
                self._study.ledger.end_session(self._session, self._seconds())

    def _recover(self) -> None:
        snapshot = self._study.snapshot()
        self._count(snapshot.trials)
        unfinished = self._company.own([trial for trial in snapshot.trials if not trial.state.is_finished])
        live = [(trial, self._company.live_worker(trial)) for trial in unfinished]
        self._adopt([(trial, process) for trial, process in live if process is not None])
        for trial, process in live:
            if process is None:
                self._pick_up(trial)
        self._pruning.take_over()
        self._count_gpu_hours(self._study.snapshot().trials)
        self._study.set_status("running", "")

    def _count(self, trials: Sequence[TrialView]) -> None:
        self._state.asked = len(trials)
        for trial in trials:
            if trial.number not in self._state.workers:
                self._state.env_steps[trial.number] = trial.new_env_steps

    def _count_gpu_hours(self, trials: Sequence[TrialView]) -> None:
        now = datetime.now(UTC)
        for trial in trials:
            for attempt in trial.attempts:
                self._state.gpu_hours[trial.number, attempt.number] = gpu_hours(self._spec.workers, attempt, now)

    def _adopt(self, workers: Sequence[tuple[TrialView, Process]]) -> None:
        slots = slots_to_keep([trial.attempts[-1].slot for trial, _ in workers], list(self._slots))
        for (trial, process), slot in zip(workers, slots, strict=True):
            self._attempts.adopt(trial, process, slot)

    def _pick_up(self, trial: TrialView, seen: datetime | None = None) -> None:
        self._state.waiting[trial.number] = self._study.ledger.deaths(trial.number)
        if trial.attempts:
            folder = TrialPaths(self._paths.root / (trial.folder or ""))
            self._endings.take_in(trial, self._attempts.monitor(trial, folder), seen)

    def _conclude(self, end: Finish) -> Outcome:
        if end.state == "finished" or self._company.is_last():
            self._study.set_status(end.state, end.reason)
        self._context.alert(end_alert(end.state, end.reason, self._stop.failed, self._study.snapshot().trials))
        # Whether the messages could be sent is known, and told, before the last picture is taken.
        self._notifier.close()
        if (problem := self._context.teller.problem()) is not None:
            self._context.alert(problem)
        self._context.log.add(Decision(end.state, end.reason))
        # The lease is still ours here, so the last picture is taken as others will see it a moment later.
        self._study.ledger.beat(self._session, self._seconds(), self._lease_s)
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
            take_findings(self._audit, self._context)
            self._see_others()
            use = self._budget_use()
            self._lookout.look(use)
            for action in plan(self._situation(use)):
                if isinstance(action, Finish):
                    return action
                with self._company.losing():
                    self._carry_out(action)
            self._beat()
            self._observe()
            time.sleep(self._poll_s)

    def _budget_use(self) -> BudgetUse:
        hours = self._hours_before + self._seconds() / 3600.0
        now, spent = datetime.now(UTC), self._state.gpu_hours
        for worker in self._state.workers.values():
            spent[worker.trial, worker.attempt.number] = gpu_hours(self._spec.workers, worker.attempt, now)
        return BudgetUse(self._state.asked, hours, sum(self._state.env_steps.values()), sum(spent.values()))

    def _may_ask(self) -> bool:
        has_more = not self._state.exhausted or bool(self._study.queue)
        return has_more and may_ask(self._spec.budget, self._budget_use())

    def _situation(self, use: BudgetUse) -> Situation:
        state, budget = self._state, self._spec.budget
        now = self._clock()
        return Situation(
            slots=tuple(self._slots),
            running=tuple(w.seen(now, is_trained=self._is_trained(w)) for w in state.workers.values()),
            waiting=self._pruning.waiting(),
            may_ask=self._may_ask(),
            used_up=used_up(budget, use),
            stop=self._stop.level,
            stop_reason=self._stop.reason,
            max_attempts=self._spec.workers.max_attempts,
            grace_s=self._grace_s,
            watchdog_s=self._spec.workers.watchdog_s,
            free_gb=shutil.disk_usage(self._paths.root).free / 1e9,
            min_free_gb=self._spec.workers.min_free_gb,
            paused=state.paused,
            elsewhere=self._company.elsewhere,
        )

    def _carry_out(self, action: Action) -> None:
        match action:
            case Ask():
                self._ask(action.slot)
            case Start():
                self._start(self._study.trial(action.trial), action.slot)
            case Promote():
                if self._pruning.promote(action.trial):
                    self._start(self._study.trial(action.trial), action.slot)
            case EndPaused():
                self._endings.end_paused(action.trial, action.reason)
            case DumpStacks():
                self._attempts.dump_stacks(self._state.workers[action.trial], action.reason)
            case StopWorker():
                self._attempts.stop(self._state.workers[action.trial], action.reason)
            case Kill():
                self._attempts.kill(self._state.workers[action.trial], action.reason)
            case GiveUp():
                self._endings.give_up(action.trial, action.reason)
                self._pruning.see_ended(action.trial)
            case Pause() | Unpause():
                self._state.paused = isinstance(action, Pause)
                self._context.alert(Alert("warning" if self._state.paused else "info", "low_disk", action.reason))
            case Finish():
                raise AssertionError("the loop ends before it carries out a Finish")
            case _:
                assert_never(action)

    def _hear(self, signal_name: str) -> None:
        # Runs in a signal handler: takes a note and nothing else.
        level = Stop.ASK if self._stop.level is Stop.NO else Stop.KILL
        self._stop.raise_to(level, f"stopped by {signal_name}")

    def _read_stop_request(self) -> bool:
        if self._stop.level is Stop.NO and self._paths.stop_request.exists():
            record = fs.read_json(self._paths.stop_request)
            self._paths.stop_request.unlink(missing_ok=True)
            self._stop.raise_to(Stop.ASK, str(record.get("reason", "stopped on request")))
        return self._stop.level is Stop.NO

    def _seconds(self) -> float:
        return self._clock() - self._started

    def _beat(self) -> None:
        if self._clock() - self._beaten < min(BEAT_S, self._lease_s / 6):
            return
        self._beaten = self._clock()
        kept = self._study.ledger.beat(self._session, self._seconds(), self._lease_s)
        if kept is not None:
            self._company.keep(kept)
            self._hours_before = self._study.ledger.hours_used() - self._seconds() / 3600.0

    def _tell_of_database(self, words: str) -> None:
        _logger.warning("study %s: %s", self._spec.study, words)
        self._context.decide(Decision("database", words))

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

    # --- other supervisors --------------------------------------------------------------------------------------

    def _see_others(self) -> None:
        """Count what all have spent, and take trials that nobody works at any more."""
        if not self._company.is_time(self._clock()):
            return
        trials = self._study.snapshot().trials
        self._count(trials)
        self._count_gpu_hours(trials)
        free = len(self._slots) - len(self._company.mine)
        if self._stop.level is Stop.NO and not self._state.paused:
            for trial, claim in self._company.free_trials(free):
                with self._company.losing():
                    process = self._company.live_worker(trial)
                    if process is not None:
                        self._adopt([(trial, process)])
                    else:
                        self._pick_up(trial, claim.seen)
        mine = self._company.mine
        self._company.elsewhere = sum(not trial.state.is_finished and trial.number not in mine for trial in trials)

    # --- trials -------------------------------------------------------------------------------------------------

    def _ask(self, slot: str) -> None:
        for words in self._before_ask(self._study):
            self._context.decide(Decision("raced", words))
        trial = None
        with self._company.making() as mine:
            self._state.asked = self._company.count(self._state.asked)
            if not mine or (self._company.shared and not self._may_ask()):
                return
            try:
                trial = self._study.ask()
            except TrialLostError:
                return  # another makes trials by now
            except StudyError as error:
                self._stop.failed = True
                self._stop.raise_to(Stop.ASK, str(error))
                return
            if trial is not None:
                self._company.claim_new(trial.number)
        if trial is None:
            self._state.exhausted = True
            queued = self._spec.sampler.name == "queue"
            reason = "every queued trial was made" if queued else "every point of the grid has a trial"
            self._context.decide(Decision("exhausted", reason))
            return
        self._state.asked += 1
        self._state.waiting[trial.number] = 0
        chosen = f": {trial.origin}" if trial.origin else ""
        count = f"trial {self._state.asked} of {self._spec.budget.trials or '∞'}{chosen}"
        self._context.decide(Decision("asked", count, trial.number))
        self._start(trial, slot)

    def _start(self, trial: TrialView, slot: str) -> None:
        try:
            self._attempts.start(trial, self._slots[slot])
        except CheckpointError as error:
            self._endings.refuse(trial.number, str(error))

    def _attend_all(self) -> None:
        now = self._clock()
        longest = min(LONGEST_ROUND_S, self._spec.workers.watchdog_s / 3)  # one round alone never calls it a hang
        seconds, self._attended = min(now - self._attended, longest), now
        for worker in list(self._state.workers.values()):
            worker.silent_s += seconds if worker.process.is_seen else 0.0
            with self._company.losing():
                self._attend(worker)

    def _attend(self, worker: Worker) -> None:
        # The exit is looked for before the files, so that what is read then is all the worker wrote.
        ended = worker.process.poll()
        self._attempts.note_place(worker)
        news = worker.monitor.poll()
        self._note_signs(worker)
        self._state.env_steps[worker.trial] = worker.monitor.new_env_steps
        self._state.changed |= news.changed
        for alert in news.alerts:
            self._context.alert(alert, worker.attempt.number)
        for report in news.reports:
            self._context.decide(Decision("reported", "", worker.trial, env_step=report.env_step, score=report.score))
        # At the last point everything is trained: the worker is evaluating, and a stop would save nothing.
        stoppable = ended is None and worker.stop_asked is None and not self._is_trained(worker)
        if stoppable:
            self._consult_rules(worker, news)
        if ended is not None:
            self._endings.end(worker, ended)
            self._pruning.see_ended(worker.trial)

    def _note_signs(self, worker: Worker) -> None:
        if worker.monitor.signs != worker.signs:
            worker.signs, worker.silent_s = worker.monitor.signs, 0.0
        elif worker.signs == 0:
            worker.memory_mb = max(filter(None, (worker.memory_mb, worker.process.memory_mb())), default=None)

    def _is_trained(self, worker: Worker) -> bool:
        return worker.monitor.env_steps >= self._spec.env_steps_per_trial

    def _consult_rules(self, worker: Worker, news: News) -> None:
        for alert in news.alerts:
            if alert.stop:
                self._attempts.prune(worker, f"{alert.cause}: {alert.message}")
                return
        if news.changed:
            self._pruning.hear(worker, news.reports)
