"""One study: Optuna's half and ours, behind the words of this program.

A trial is created in one transaction with its whole point, and stays RUNNING for Optuna over all its attempts: same
number, same curve. Whether a worker is at it just now is our own bookkeeping. No trial is ever cloned.
"""

from __future__ import annotations

import atexit
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from vbot_campaign.errors import StudyChangedError, StudyError, StudyNotFoundError, did_you_mean
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.loading import definition, study_from_definition
from vbot_campaign.spec.resolve import definition_changes, with_defaults
from vbot_campaign.spec.study import Budget, StudySpec
from vbot_campaign.study import attributes, grid, queue, samplers
from vbot_campaign.study.attributes import (
    ALERTS,
    AUDIT,
    CONFIRMED,
    CREATED,
    DEFINITION,
    NUM_ENVS,
    PARENT,
    RUNG,
    SKIPPED,
    STATUS,
    WARM_START,
    WOULD_PRUNE,
)
from vbot_campaign.study.lease import lease_view
from vbot_campaign.study.ledger import Ledger
from vbot_campaign.study.liveness import study_state
from vbot_campaign.study.pruners import build_pruner, prune_reason
from vbot_campaign.study.queue import QueuedTrial, QueueEntry
from vbot_campaign.study.snapshot import (
    AlertView,
    AuditView,
    ParentView,
    RungView,
    StudySnapshot,
    TrialView,
    WarmStartView,
    WouldPruneView,
)
from vbot_campaign.study.storage import CampaignStorage, open_storage, storage_errors
from vbot_campaign.study.views import ViewCache

KEPT_ALERTS = 100
"""Newest alerts that are kept in the database; all of them are in ``supervisor.jsonl``."""


class CampaignStudy:
    """A study in the database. One process, the supervisor, writes to it."""

    def __init__(self, storage: CampaignStorage, spec: StudySpec, attrs: Mapping[str, Any]) -> None:
        """Use `create` or `open` instead."""
        self.storage = storage
        self.spec = spec
        self.created = datetime.fromisoformat(attrs[CREATED])
        self.warm_start = attributes.warm_start(attrs)
        """The policy that every trial starts from."""
        self.ledger = Ledger(storage, spec.study)
        self._views = ViewCache(spec, self.ledger)
        self._study_id = storage.optuna.get_study_id_from_name(spec.study)
        # Points are drawn elsewhere (see samplers); this object only stores, prunes and tells.
        self._optuna = optuna.load_study(
            study_name=spec.study,
            storage=storage.optuna,
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=build_pruner(spec),
        )

    @classmethod
    def create(
        cls, storage: CampaignStorage, spec: StudySpec, *, warm_start: WarmStartView | None = None
    ) -> CampaignStudy:
        """Store a new study, or open it if it is stored already with the same definition.

        Defaults are stored with it. A definition that only raises a budget replaces the stored one.

        Args:
            storage: The database.
            spec: The study.
            warm_start: What its trials start from, for a new study whose file asks for one. The copy in the study's
                folder is made before.

        Raises:
            StudyChangedError: The stored definition differs in more than a raised budget.
            SpecError: The pruner cannot be built.
            StudyError: The grid is too large.
        """
        check_buildable(spec)
        spec = with_defaults(spec)
        study = optuna.create_study(
            study_name=spec.study, storage=storage.optuna, direction="maximize", load_if_exists=True
        )
        stored = study.user_attrs
        if DEFINITION not in stored:
            study.set_user_attr(CREATED, datetime.now(UTC).isoformat())
            study.set_user_attr(STATUS, {"state": "created", "reason": ""})
            if warm_start is not None:
                study.set_user_attr(WARM_START, asdict(warm_start))
            study.set_user_attr(DEFINITION, definition(spec))
        elif raises_budget(study_from_definition(stored[DEFINITION]), spec):
            study.set_user_attr(DEFINITION, definition(spec))
        return cls.open(storage, spec.study)

    @classmethod
    def open(cls, storage: CampaignStorage, name: str) -> CampaignStudy:
        """Open a stored study.

        Raises:
            StudyNotFoundError: No study of that name; the message has the nearest ones.
            StudyError: It was not made by this program.
        """
        names = _names(storage)
        if name not in names:
            known = ", ".join(names) or "none yet"
            raise StudyNotFoundError(f"study '{name}': not found.{did_you_mean(name, names)} Known studies: {known}.")
        attrs = storage.optuna.get_study_user_attrs(storage.optuna.get_study_id_from_name(name))
        if DEFINITION not in attrs:
            raise StudyError(f"study '{name}': has no definition; it was not made by vbot-campaign.")
        return cls(storage, study_from_definition(attrs[DEFINITION]), attrs)

    # --- trials -------------------------------------------------------------------------------------------------

    def ask(self) -> TrialView | None:
        """Create the next trial with its point, in one transaction: of the queue's next entry, or drawn.

        Returns:
            The trial, waiting; None when nothing is queued and the sampler has no further point (an exhausted grid).

        Raises:
            StudyError: The constraints refuse everything that is drawn.
        """
        drawn, facts = self._next_point()
        if drawn is None:
            return None
        template = optuna.trial.create_trial(
            state=OptunaState.RUNNING,
            params=drawn.params,
            distributions=drawn.distributions,
            system_attrs=drawn.system_attrs,
            user_attrs=facts,
        )
        before = len(self._trials())

        def add() -> None:
            if len(self._trials()) == before:  # else it was made, and only the answer was lost
                self._optuna.add_trial(template)

        self.storage.patience.call(add)
        return self.trial(len(self._trials()) - 1)

    def _next_point(self) -> tuple[samplers.Draw | None, dict[str, Any]]:
        """Return the next trial's point and its user attributes."""
        entry = next(iter(self.queue), None)
        if entry is not None:
            facts = queue.trial_attributes(entry)
            if entry.trial.start is not None and entry.trial.start.num_envs is not None:
                facts[NUM_ENVS] = entry.trial.start.num_envs
            return samplers.at_point(self.spec, entry.trial.parameters), facts
        drawn = samplers.draw(self.spec, self._trials())
        return drawn, {SKIPPED: drawn.skipped} if drawn is not None and drawn.skipped else {}

    @property
    def queue(self) -> tuple[QueueEntry, ...]:
        """Queued trials that are still to be made, the next one first."""
        made = [trial.user_attrs[queue.QUEUED] for trial in self._trials() if queue.QUEUED in trial.user_attrs]
        return queue.waiting(self._attributes(), made)

    def enqueue(self, trials: Sequence[QueuedTrial]) -> None:
        """Have trials made before the sampler draws any more; they count towards the budget as any other.

        All of them are stored, or none. A supervisor may be at work, but only one process may enqueue at a time.

        Raises:
            StudyError: A parameter that the study does not search, a value outside of its range, or a point that a
                constraint excludes.
        """
        whole = [replace(trial, parameters=queue.complete_point(self.spec, trial.parameters)) for trial in trials]
        if whole:
            self._optuna.set_user_attr(queue.QUEUE, queue.appended(self._attributes(), whole))

    def drop_queued(self, ids: Collection[int]) -> None:
        """Say that queued trials are not to be made; one that was made already goes on.

        Raises:
            StudyError: An entry that was never queued.
        """
        if ids:
            self._optuna.set_user_attr(queue.DROPPED, queue.dropped(self._attributes(), ids))

    @property
    def queued(self) -> tuple[QueueEntry, ...]:
        """Everything that was ever queued, by number; what was dropped too."""
        return queue.entries(self._attributes())

    def report(self, number: int, step: int, score: float) -> bool:
        """Store the score at a step of the canonical grid.

        Args:
            number: Trial number.
            step: Env step.
            score: The objective there.

        Returns:
            False when the step had a score already, which then stays as it is.
        """
        trial = self._trial(number)
        if step in trial.intermediate_values:
            return False
        with self.ledger.tenure.holding(number):
            self.storage.optuna.set_trial_intermediate_value(self._trial_id(number), step, score)
        return True

    def prune_reason(self, number: int) -> str | None:
        """Ask the pruner about a trial after its last report; return why it is to be stopped, or None."""
        return prune_reason(self._optuna, self._trial(number), self.spec.pruner.name)

    def set_rung(self, number: int, rung: RungView) -> None:
        """Store where a trial stands at the rungs of a pruner that pauses."""
        self._set(number, RUNG, asdict(rung))

    def set_would_prune(self, number: int, found: WouldPruneView) -> None:
        """Store what a pruner on a dry run would have stopped a trial for."""
        self._set(number, WOULD_PRUNE, asdict(found))

    def complete(
        self, number: int, score: float, parts: Mapping[str, float] | None, evaluation: Mapping[str, float] | None
    ) -> None:
        """End a trial with its score.

        Args:
            number: Trial number.
            score: The objective of its evaluation.
            parts: Score parts of the evaluation.
            evaluation: `EpisodeTotals` of the evaluation.
        """
        found = {"parts": parts, "evaluation": evaluation}
        values = {name: dict(given) for name, given in found.items() if given is not None}
        self._end(number, OptunaState.COMPLETE, {"reason": "trained and evaluated", **values}, score)

    def prune(self, number: int, reason: str) -> None:
        """End a trial that the pruner stopped; its score is the last reported one."""
        self._end(number, OptunaState.PRUNED, {"reason": reason})

    def fail(self, number: int, reason: str) -> None:
        """End a trial that has no score."""
        self._end(number, OptunaState.FAIL, {"reason": reason})

    def num_envs(self, number: int) -> int:
        """Return with how many environments a trial trains now."""
        return int(self._trial(number).user_attrs.get(NUM_ENVS, self.spec.workers.num_envs))

    def set_num_envs(self, number: int, num_envs: int) -> None:
        """Train the rest of a trial with fewer environments, because memory ran out."""
        self._set(number, NUM_ENVS, num_envs)

    def _set(self, number: int, key: str, value: Any) -> None:
        with self.ledger.tenure.holding(number):
            self.storage.optuna.set_trial_user_attr(self._trial_id(number), key, value)

    def _end(self, number: int, state: OptunaState, values: dict[str, Any], score: float | None = None) -> None:
        # The state goes last: whoever sees a finished trial sees all of it, and a crash before that is made good.
        self.ledger.update_trial(number, **values)
        reason = values["reason"]
        shown = {"reason": reason, **(values.get("parts") or {}), **samplers.feasibility(state, reason)}
        for key, value in shown.items():
            self._set(number, key, value)
        with self.ledger.tenure.holding(number):
            self._optuna.tell(number, score, state=state)
        self.ledger.tenure.release(number, ended=True)
        self._views.forget(number)

    def trial(self, number: int) -> TrialView:
        """Return one trial. Only for the owner of the study: an open attempt counts as running."""
        return self._views.views([self._trial(number)], supervised=True)[0]

    @property
    def count(self) -> int:
        """Trials that there are, whoever made them."""
        return len(self._trials())

    def _trials(self) -> list[FrozenTrial]:
        return self.storage.optuna.get_all_trials(self._study_id, deepcopy=False)

    def _trial(self, number: int) -> FrozenTrial:
        return self.storage.optuna.get_trial(self._trial_id(number))

    def _trial_id(self, number: int) -> int:
        return self.storage.optuna.get_trial_id_from_study_id_trial_number(self._study_id, number)

    # --- the study ----------------------------------------------------------------------------------------------

    def set_budget(self, budget: Budget) -> None:
        """Store a raised budget."""
        self.spec = self.spec.model_copy(update={"budget": budget})
        self._optuna.set_user_attr(DEFINITION, definition(self.spec))

    def set_status(self, state: str, reason: str) -> None:
        """Store the state of the study: ``created``, ``running``, ``stopped`` or ``finished``, and why."""
        self._set_own(STATUS, {"state": state, "reason": reason})

    def _set_own(self, key: str, value: Any) -> None:
        """Store an attribute of the study; a supervisor whose study was taken over stores none."""
        with self.ledger.tenure.holding(None):
            self._optuna.set_user_attr(key, value)

    @property
    def audit(self) -> AuditView | None:
        """What the audit of the reward found, once it has come to an end."""
        return attributes.audit(self._attributes())

    def set_audit(self, audit: AuditView) -> None:
        """Store what the audit of the reward found."""
        self._set_own(AUDIT, asdict(audit))

    @property
    def alerts(self) -> tuple[AlertView, ...]:
        """The newest alerts, the last one last."""
        return attributes.alerts(self._attributes())

    @property
    def parent(self) -> ParentView | None:
        """What the study was made from; None for a study of its own."""
        return attributes.parent(self._attributes())

    def set_parent(self, parent: ParentView) -> None:
        """Store what the study was made from."""
        self._optuna.set_user_attr(PARENT, {"study": parent.study, "phase": parent.phase, **parent.facts})

    def set_confirmed(self, confirmed: Mapping[str, Any]) -> None:
        """Store how the confirmation of the study's best trials ended."""
        self._optuna.set_user_attr(CONFIRMED, dict(confirmed))

    def add_alert(self, alert: AlertView) -> None:
        """Store an alert; the oldest is dropped where there are too many."""
        kept = [*self.alerts, alert][-KEPT_ALERTS:]
        self._set_own(ALERTS, [asdict(alert) for alert in kept])

    def definition_stored(self) -> Any:
        """Return the definition as it is in the database now."""
        return self._attributes()[DEFINITION]

    def forget(self, number: int) -> None:
        """Read a finished trial again at the next snapshot, after its checkpoints changed."""
        self._views.forget(number)

    def snapshot(self) -> StudySnapshot:
        """Return a picture of the study. What it costs depends on the unfinished trials only."""
        lease = self.ledger.lease()
        supervisor = lease_view(lease)
        trials = self._trials()
        views = self._views.views(trials, supervised=supervisor is not None)
        facts = self._attributes()
        state, reason = study_state(facts[STATUS], supervised=supervisor is not None)
        return StudySnapshot(
            spec=self.spec,
            created=self.created,
            state=state,
            reason=reason,
            hours_used=self.ledger.hours_used(),
            env_steps_used=sum(view.new_env_steps for view in views),
            skipped=sum(trial.user_attrs.get(SKIPPED, 0) for trial in trials),
            trials=views,
            supervisor=supervisor,
            slots=lease.slots if lease is not None and supervisor is not None else (),
            warm_start=self.warm_start,
            **attributes.of_study(facts, views),
        )

    def _attributes(self) -> dict[str, Any]:
        return self.storage.optuna.get_study_user_attrs(self._study_id)

    def close(self) -> None:
        """Close the database."""
        self.storage.close()


def check_buildable(spec: StudySpec) -> None:
    """Refuse what cannot be built, before anything is stored.

    Raises:
        SpecError: The pruner cannot be built.
        StudyError: The grid is too large.
    """
    build_pruner(with_defaults(spec))
    if spec.sampler.name == "grid":
        grid.check_size(with_defaults(spec))


def study_names(paths: CampaignPaths) -> list[str]:
    """Return the names of all studies, sorted; none when there is no database."""
    if not paths.has_database:
        return []
    try:
        reader = _reader(paths)
    except StudyNotFoundError:  # a server that nothing was stored on yet
        return []
    with storage_errors(reader.storage.url):
        return _names(reader.storage)


def is_stored(paths: CampaignPaths, name: str) -> bool:
    """Tell whether a study has its definition in the database; one whose making was cut off has none."""
    if name not in study_names(paths):
        return False
    storage = _reader(paths).storage
    with storage_errors(storage.url):
        return DEFINITION in storage.optuna.get_study_user_attrs(storage.optuna.get_study_id_from_name(name))


def load_snapshot(paths: CampaignPaths, name: str) -> StudySnapshot:
    """Return a picture of a study, without changing anything.

    May be called every second: the database stays open between calls and finished trials are not read again.

    Raises:
        StudyNotFoundError: No study of that name.
        StorageError: The database cannot be read.
    """
    if not paths.has_database:
        raise StudyNotFoundError(
            f"study '{name}': not found, there is no database {paths.database} yet. "
            "Start a study with `vbot-campaign run FILE`, or name the right runs folder with --runs."
        )
    reader = _reader(paths)
    with storage_errors(reader.storage.url):
        return reader.study(name).snapshot()


def close_readers() -> None:
    """Close the databases that `load_snapshot` keeps open."""
    while _readers:
        _readers.popitem()[1].storage.close()


class _Reader:
    """An open database with the studies that were looked at."""

    def __init__(self, paths: CampaignPaths) -> None:
        self.storage = open_storage(paths, read_only=True)
        self._studies: dict[str, tuple[Any, CampaignStudy]] = {}

    def study(self, name: str) -> CampaignStudy:
        """Return a study, opened again when its definition changed (a raised budget)."""
        opened = self._studies.get(name)
        if opened is not None and opened[1].definition_stored() == opened[0]:
            return opened[1]
        study = CampaignStudy.open(self.storage, name)
        self._studies[name] = (study.definition_stored(), study)
        return study


_readers: dict[tuple[str, int], _Reader] = {}
atexit.register(close_readers)


def _reader(paths: CampaignPaths) -> _Reader:
    # The inode tells a database that was deleted and made again from the one that is open.
    inode = paths.database.stat().st_ino if paths.storage is None and paths.database.exists() else 0
    key = (paths.database_url, inode)
    if key not in _readers:
        _readers[key] = _Reader(paths)
    return _readers[key]


def _names(storage: CampaignStorage) -> list[str]:
    return sorted(study.study_name for study in storage.optuna.get_all_studies())


def raises_budget(stored: StudySpec, new: StudySpec) -> bool:
    """Tell whether a definition differs from the stored one in a raised budget.

    Args:
        stored: As it is in the database.
        new: Of the same name, with its defaults written out.

    Raises:
        StudyChangedError: It differs in more than that.
    """
    changes = definition_changes(stored, new)
    if changes and not changes.only_raises_budget:
        raise StudyChangedError(
            f"study '{new.study}': the file differs from the stored study: {'; '.join(changes.differences)}. "
            "Give the changed study a new name, or put the file back; only a budget may be raised."
        )
    return bool(changes)
