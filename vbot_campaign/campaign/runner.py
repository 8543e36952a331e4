"""Runs a campaign: carries out one step after the other, and stores what came of each before the next."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, assert_never

from vbot_campaign import fs
from vbot_campaign.campaign import budget, gate, steps
from vbot_campaign.campaign.backup import back_up
from vbot_campaign.campaign.confirm import Confirmed, confirm_study, confirmation
from vbot_campaign.campaign.plans import check_start, store, stored_plan, with_budget_hours
from vbot_campaign.campaign.stage import (
    best_first,
    best_of_try,
    candidates,
    confirmed_order,
    number_of,
    queued_trainings,
    search_spec,
    stage_of,
    takes_last,
    training_spec,
)
from vbot_campaign.campaign.state import CampaignState, CampaignWord, GateResult, Promoted, Try
from vbot_campaign.errors import FolderBusyError, StudyBusyError, StudyError
from vbot_campaign.events import utc_now
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.plan import PlanSpec, Stage
from vbot_campaign.spec.stages import Phase, study_name
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study.owner import Owner
from vbot_campaign.study.plans import load_plan_record, update_plan
from vbot_campaign.study.queue import QueuedTrial
from vbot_campaign.study.snapshot import ParentView, StudySnapshot, TrialState, TrialView
from vbot_campaign.study.storage import open_storage, storage_errors
from vbot_campaign.study.study import CampaignStudy, is_stored, load_snapshot
from vbot_campaign.supervisor import Observer, Outcome, create_study, run_study
from vbot_campaign.supervisor.recovery import plan_from
from vbot_campaign.supervisor.signals import stop_signals
from vbot_campaign.supervisor.warm_start import policy_of

ObserversOf = Callable[[str], AbstractContextManager[Sequence[Observer]]]


@dataclass(frozen=True)
class CampaignOutcome:
    """How a run of a campaign ended."""

    state: CampaignWord
    reason: str

    @property
    def failed(self) -> bool:
        """Whether a gate stayed shut, or trials kept failing."""
        return self.state == "failed"

    @property
    def exit_code(self) -> int:
        """Return 0 for a campaign that is finished or was stopped on request or by its budget, else 1."""
        return 1 if self.failed else 0


def run_campaign(
    paths: CampaignPaths, plan: PlanSpec, *, folder: Path | None = None, **options: Any
) -> CampaignOutcome:
    """Start a campaign, or continue it if it is there with the same plan.

    Args:
        paths: The runs folder.
        plan: What to run.
        folder: Folder of the plan file, which the relative path of a policy starts from.
        **options: Of `CampaignRunner`, and of `Supervisor` for its studies.

    Raises:
        StudyChangedError: It is there, and the plan differs in more than a raised budget or an easier gate.
        StudyBusyError: Somebody is at work on it.
        CampaignError: It cannot be started; then nothing was made.
    """
    return CampaignRunner(paths, store(paths, plan, folder or Path()), **options).run()


def resume_campaign(
    paths: CampaignPaths, name: str, *, budget_hours: str | None = None, **options: Any
) -> CampaignOutcome:
    """Continue a stored campaign; a finished one returns at once.

    Args:
        paths: The runs folder.
        name: The campaign.
        budget_hours: New total of its hours (``12``), or what is added to it (``+4``).
        **options: Of `CampaignRunner`, and of `Supervisor` for its studies.

    Raises:
        StudyNotFoundError: There is none of that name.
        StudyBusyError: Somebody is at work on it.
        SpecError: The hours are no number, or not more than before.
    """
    plan = stored_plan(paths, name)
    if budget_hours is not None:
        plan = with_budget_hours(paths, plan, budget_hours)
    check_start(paths, plan)
    return CampaignRunner(paths, plan, **options).run()


class _StopError(Exception):
    """Ends the campaign for now."""

    def __init__(self, word: CampaignWord, reason: str) -> None:
        super().__init__(reason)
        self.word: CampaignWord = word
        self.reason = reason


class CampaignRunner:
    """Carries out a stored campaign until it is finished or stopped.

    Args:
        paths: The runs folder.
        plan: The stored plan.
        observers_of: Makes the observers of a study by its name, for as long as it runs.
        say: Hears every step in words.
        on_change: Called after everything that was stored.
        evaluate_command: See `vbot_campaign.campaign.gate.ask`.
        **options: Of `Supervisor`, for each study.
    """

    def __init__(
        self,
        paths: CampaignPaths,
        plan: PlanSpec,
        *,
        observers_of: ObserversOf | None = None,
        say: Callable[[str], None] = lambda line: None,
        on_change: Callable[[], None] = lambda: None,
        evaluate_command: Sequence[str] = gate.EVALUATE_COMMAND,
        **options: Any,
    ) -> None:
        self._paths = paths
        self._plan = plan
        self._files = paths.plan(plan.plan)
        self._observers_of = observers_of
        self._say = say
        self._on_change = on_change
        self._evaluate_command = evaluate_command
        self._options = options
        self._state = CampaignState()
        self._signal: str | None = None

    def run(self) -> CampaignOutcome:
        """Run it.

        Raises:
            StudyBusyError: Somebody is at work on it.
            CampaignError: A step cannot be carried out; it is tried again when the campaign is resumed.
        """
        with self._alone(), stop_signals(self._hear):
            self._files.stop_request.unlink(missing_ok=True)
            self._state = CampaignState.from_dict(load_plan_record(self._paths, self._plan.plan).state)
            self._save(replace(self._state, word="running", reason="", owner=Owner.here()))
            try:
                end = self._loop()
            except BaseException as error:
                self._save(replace(self._state, word="stopped", reason=str(error) or type(error).__name__))
                raise
            self._save(replace(self._state, word=end.state, reason=end.reason))
            self._tell(end.state, None, end.reason)
            return end

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        name = self._plan.plan
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(fs.hold_lock(self._files.lock, what=f"campaign {name}"))
            except FolderBusyError:
                raise StudyBusyError(
                    f"campaign '{name}' is run by another process. Watch it with `vbot-campaign campaign status "
                    f"{name}`, or stop it with `vbot-campaign campaign stop {name}`."
                ) from None
            yield

    def _loop(self) -> CampaignOutcome:
        while True:
            try:
                self._stop_if_asked()
                step = steps.next_step(self._plan, self._state)
                if isinstance(step, steps.Finish):
                    return CampaignOutcome("finished", step.reason)
                if isinstance(step, steps.Halt):
                    return CampaignOutcome("failed", step.reason)
                self._carry_out(step, stage_of(self._plan, step.stage))
            except _StopError as stop:
                return CampaignOutcome(stop.word, stop.reason)
            except gate.InterruptedEvaluationError:
                continue  # the reason is found above

    def _carry_out(
        self,
        step: steps.Search | steps.Confirm | steps.Choose | steps.Train | steps.AskGate | steps.Promote,
        stage: Stage,
    ) -> None:
        match step:
            case steps.Search():
                self._search(stage)
            case steps.Confirm():
                self._confirm(stage)
            case steps.Choose():
                self._choose(stage)
            case steps.Train():
                self._train(stage, step.number)
            case steps.AskGate():
                self._ask_gate(stage, step.number)
            case steps.Promote():
                self._promote(stage, step)
            case _:
                assert_never(step)

    # --- steps --------------------------------------------------------------------------------------------------

    def _search(self, stage: Stage) -> None:
        spec, search = search_spec(self._plan, self._state, stage), stage.search
        limit = spec.budget if search is None else budget.search_budget(self._plan, self._spent(), stage, search)
        if budget.is_nothing(limit):
            self._book(stage, "searched", "left out: its share of the budget is used")
            return
        outcome = self._run(stage, "search", spec.model_copy(update={"budget": limit}))
        self._book(stage, "searched", _search_words(outcome.snapshot))

    def _confirm(self, stage: Stage) -> None:
        name, wanted = study_name(self._plan, stage, "search"), stage.confirm
        found = best_first(load_snapshot(self._paths, name)) if is_stored(self._paths, name) else []
        if wanted is None or len(found) < 2:
            self._book(stage, "confirmed", "left out: there is nothing to compare")
            return
        top = min(wanted.top, len(found))
        self._tell("confirm", stage, f"the best {top} on {wanted.seeds} more seeds")
        with self._observed(study_name(self._plan, stage, "confirm")) as observers:
            options = {**self._options, "observers": observers}
            done = confirm_study(self._paths, name, top=top, seeds=wanted.seeds, env_steps=wanted.env_steps, **options)
        self._require_end(load_snapshot(self._paths, study_name(self._plan, stage, "confirm")), done)
        self._book(stage, "confirmed", _confirmed_words(done))

    def _choose(self, stage: Stage) -> None:
        if stage.search is None:
            chosen = candidates(stage, None, [])
        else:
            spec = search_spec(self._plan, self._state, stage)
            chosen = candidates(stage, spec, self._ranked(spec.study))
        self._save(self._state.with_stage(stage.stage, chosen=chosen))
        if stage.search is not None:
            self._tell("choose", stage, "; ".join(one.origin for one in chosen))

    def _ranked(self, name: str) -> list[TrialView]:
        """Return the trials of a search, those that were confirmed first."""
        if not is_stored(self._paths, name):
            return []
        done = confirmation(self._paths, name)
        order = confirmed_order(done) if done is not None else []
        ranked = best_first(load_snapshot(self._paths, name))
        return sorted(ranked, key=lambda trial: order.index(trial.number) if trial.number in order else len(order))

    def _train(self, stage: Stage, number: int) -> None:
        chosen = self._state.stage(stage.stage).chosen or ()
        queued = queued_trainings(self._plan, stage, chosen, number)
        limit = budget.training_budget(self._plan, self._spent(), stage, len(queued))
        if budget.is_nothing(limit):
            raise self._out_of_budget()
        spec = training_spec(self._plan, self._state, stage, trials=len(queued))
        snapshot = self._run(stage, "train", spec.model_copy(update={"budget": limit}), queued).snapshot
        ended = [trial for trial in snapshot.trials if trial.state.is_finished]
        if len(ended) < len(queued):
            raise self._out_of_budget()
        best = best_of_try(snapshot, number, len(chosen))
        done = Try(None, None) if best is None else Try(best.number, best.score)
        tries = (*self._state.stage(stage.stage).tries, done)
        self._save(self._state.with_stage(stage.stage, tries=tries))
        score = f"score {best.score:.4f}" if best is not None and best.score is not None else "no policy"
        self._tell("trained", stage, f"try {number}: {score}")

    def _ask_gate(self, stage: Stage, number: int) -> None:
        tries = list(self._state.stage(stage.stage).tries)
        asked, study = stage.gate, study_name(self._plan, stage, "train")
        trial = self._training(study, tries[number - 1])
        if asked is None:
            raise AssertionError("a gate is asked only where there is one")
        self._tell("gate", stage, f"try {number}: {asked.seeds} x {asked.episodes} episodes")
        result = gate.ask(
            self._plan,
            stage,
            asked,
            self._paths.study(study),
            trial,
            command=self._evaluate_command,
            interrupted=self._is_asked_to_stop,
        )
        tries[number - 1] = replace(tries[number - 1], gate=result)
        self._save(self._state.with_stage(stage.stage, tries=tuple(tries)))
        self._tell("asked", stage, _gate_words(stage, number, result))

    def _promote(self, stage: Stage, step: steps.Promote) -> None:
        study = study_name(self._plan, stage, "train")
        done = self._state.stage(stage.stage).tries[step.number - 1]
        trial, place = self._training(study, done), number_of(self._plan, stage.stage)
        target = self._files.best_policy(place, stage.stage)
        sha256, env_steps = self._back_up(study, trial, "best", target)
        last = self._files.last_policy(place, stage.stage) if takes_last(self._plan, stage.stage) else None
        if last is not None:
            self._back_up(study, trial, "last", last)
        promoted = Promoted(
            study,
            trial.number,
            trial.score,
            trial.parameters,
            env_steps,
            target.relative_to(self._files.root).as_posix(),
            sha256,
            step.passed,
            last.relative_to(self._files.root).as_posix() if last is not None else None,
        )
        self._save(self._state.with_stage(stage.stage, promoted=promoted))
        how = "backed up" if step.passed else "the gate stays shut; the best goes on all the same, backed up"
        self._tell("promoted", stage, f"trial {trial.number}, {how} as {promoted.path}")

    def _back_up(self, study: str, trial: TrialView, take: Any, target: Path) -> tuple[str, int]:
        checkpoint = policy_of(trial, take)
        if checkpoint is None:
            raise StudyError(f"trial {trial.number} of study '{study}' has no policy on disk any more.")
        back_up(self._paths.study(study).root / checkpoint.path, checkpoint.sha256, target)
        return checkpoint.sha256, checkpoint.env_steps

    def _training(self, study: str, done: Try) -> TrialView:
        return load_snapshot(self._paths, study).trial(done.trial if done.trial is not None else -1)

    # --- studies ------------------------------------------------------------------------------------------------

    def _run(self, stage: Stage, phase: Phase, spec: StudySpec, queued: Sequence[QueuedTrial] = ()) -> Outcome:
        """Run a study to its end.

        Raises:
            _StopError: It was stopped before, or failed.
        """
        spec = self._prepared(stage, phase, spec, queued)
        self._tell(phase, stage, f"study {spec.study}")
        with self._observed(spec.study) as observers:
            outcome = run_study(self._paths, spec, **{**self._options, "observers": observers})
        self._require_end(outcome.snapshot, outcome)
        return outcome

    def _require_end(self, snapshot: StudySnapshot, outcome: Outcome | Confirmed) -> None:
        """Go on where a study has ended, with all its trials or with its budget.

        Raises:
            _StopError: It was stopped before, or failed.
        """
        if outcome.failed:
            raise _StopError("failed", f"study {snapshot.spec.study}: {outcome.reason}")
        if outcome.state == "stopped" and plan_from(self._paths.study(snapshot.spec.study), snapshot).used_up is None:
            raise _StopError("stopped", outcome.reason)

    def _prepared(self, stage: Stage, phase: Phase, spec: StudySpec, queued: Sequence[QueuedTrial]) -> StudySpec:
        """Store a study with its queue and its origin, before its supervisor starts; what is there stays."""
        name = spec.study
        if is_stored(self._paths, name):
            stored = load_snapshot(self._paths, name).spec
            spec = stored.model_copy(update={"budget": budget.raised(stored.budget, spec.budget)})
        else:
            create_study(self._paths, spec)
        storage = open_storage(self._paths)
        try:
            with storage_errors(storage.url):
                study = CampaignStudy.open(storage, name)
                if study.parent is None:
                    study.set_parent(ParentView(self._plan.plan, phase, {"stage": stage.stage}))
                study.enqueue(queued[len(study.queued) :])
        finally:
            storage.close()
        return spec

    @contextlib.contextmanager
    def _observed(self, name: str) -> Iterator[Sequence[Observer]]:
        given = tuple(self._options.get("observers", ()))
        if self._observers_of is None:
            yield (*given, _Told(self._on_change))
            return
        with self._observers_of(name) as own:
            yield (*given, *own, _Told(self._on_change))

    def _spent(self) -> budget.Ledger:
        return budget.read_spent(self._paths, self._plan, self._state)

    def _out_of_budget(self) -> _StopError:
        reason = budget.used_up(self._plan, self._spent()) or "the plan's budget is used"
        return _StopError("stopped", f"{reason}; go on with --budget-hours +4")

    # --- what others see ----------------------------------------------------------------------------------------

    def _hear(self, signal_name: str) -> None:
        # Runs in a signal handler: takes a note and nothing else.
        self._signal = signal_name

    def _is_asked_to_stop(self) -> bool:
        return self._signal is not None or self._files.stop_request.exists()

    def _stop_if_asked(self) -> None:
        if self._signal is not None:
            raise _StopError("stopped", f"stopped by {self._signal}")
        if self._files.stop_request.exists():
            raise _StopError("stopped", str(fs.read_json(self._files.stop_request).get("reason", "stopped on request")))

    def _book(self, stage: Stage, what: str, words: str) -> None:
        self._save(self._state.with_stage(stage.stage, **{what: words}))
        self._tell(what, stage, words)

    def _save(self, state: CampaignState) -> None:
        update_plan(self._paths, self._plan.plan, state=state.as_dict())
        self._state = state
        self._on_change()

    def _tell(self, what: str, stage: Stage | None, words: str) -> None:
        where = {} if stage is None else {"stage": stage.stage}
        fs.append_line(self._files.steps, {"time": utc_now(), "step": what, **where, "words": words})
        head = f"campaign {self._plan.plan}" if stage is None else f"stage {stage.stage}"
        self._say(f"{head}: {what}: {words}")


class _Told:
    """Passes on that a study has changed."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change

    def update(self, snapshot: StudySnapshot) -> None:
        """Say so."""
        self._on_change()


def _search_words(snapshot: StudySnapshot) -> str:
    states = [trial.state for trial in snapshot.trials]
    counts = ", ".join(
        f"{states.count(state)} {state.value}" for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)
    )
    best = snapshot.best
    return f"{counts}; best {best.score:.4f} (trial {best.number})" if best is not None else f"{counts}; no score"


def _gate_words(stage: Stage, number: int, result: GateResult) -> str:
    asked = stage.gate
    if asked is None or not result.asked:
        return f"try {number}: ended too early to be asked"
    verdict = "passed" if result.passes(asked) else "not passed"
    return f"try {number}: {asked.metric} {result.value:.4g}, asked for {asked.threshold:g}: {verdict}"


def _confirmed_words(done: Confirmed) -> str:
    order = ", ".join(str(number) for number in confirmed_order(done))
    return (
        f"trial {done.winner} wins; in order: {order}"
        if done.winner is not None
        else f"no winner yet; in order: {order}"
    )
