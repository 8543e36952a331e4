"""Reads a study straight from the SQLite file: what a screen needs that is drawn every second.

It returns the very snapshot that `vbot_campaign.study.load_snapshot` returns, without loading Optuna or SQLAlchemy and
without an object per reported score: a study of 2,000 trials is there in a third of a second instead of ten. It knows
the tables of one version. Whatever it does not know, whatever is on a server, and whatever is wrong with a database, is
left to `load_snapshot`, which has the words for it.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from vbot_campaign.errors import StorageError
from vbot_campaign.paths import CampaignPaths, is_inside
from vbot_campaign.spec.loading import study_from_definition
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study import attributes
from vbot_campaign.study.encoding import decode_number, stored_name
from vbot_campaign.study.lease import Lease, lease_view
from vbot_campaign.study.liveness import study_state, unfinished_state
from vbot_campaign.study.owner import Owner
from vbot_campaign.study.snapshot import AttemptView, CheckpointView, StudySnapshot, TrialState, TrialView

OPTUNA_TABLES = 12
OUR_TABLES = (1, 2, 3, 4)
"""Versions of the tables that it knows."""
BUSY_TIMEOUT_S = 30.0

_FINISHED = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAIL": TrialState.FAILED}
_NOT_FINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
_ATTEMPT = tuple(AttemptView.__dataclass_fields__)
_CHECKPOINT = tuple(CheckpointView.__dataclass_fields__)


class _UnknownDatabaseError(Exception):
    """Not for this reader."""


@dataclass(frozen=True)
class _Row:
    """One trial in Optuna's table."""

    id: int
    number: int
    state: str
    started: str | None
    ended: str | None


@dataclass
class _Facts:
    """What the other tables know of one trial."""

    score: float | None = None
    parameters: dict[str, float] = field(default_factory=dict)
    reports: dict[int, float] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    folder: str | None = None
    reason: str = ""
    env_steps: int = 0
    env_steps_per_s: float | None = None
    parts: dict[str, float] | None = None
    evaluation: dict[str, float] | None = None
    attempts: list[AttemptView] = field(default_factory=list)
    checkpoints: list[CheckpointView] = field(default_factory=list)


class StudyReader:
    """A study that is looked at again and again. A finished trial is read once and kept.

    A context manager; nothing is written.

    Args:
        paths: The runs folder.
        name: The study.
    """

    def __init__(self, paths: CampaignPaths, name: str) -> None:
        self._paths = paths
        self._name = name
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._forget()

    def __enter__(self) -> StudyReader:
        """Return the reader."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the database."""
        self.close()

    def close(self) -> None:
        """Close the database."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def snapshot(self) -> StudySnapshot:
        """Return a picture of the study; the same one while nobody has written to the database.

        Raises:
            StudyNotFoundError: No study of that name.
            StorageError: The database cannot be read.
        """
        try:
            if self._paths.storage is not None:
                raise _UnknownDatabaseError
            return self._snapshot()
        except (sqlite3.Error, OSError, _UnknownDatabaseError):
            self.close()
            self._forget()
            from vbot_campaign.study.study import load_snapshot

            return load_snapshot(self._paths, self._name)

    def _forget(self) -> None:
        self._version = -1
        self._last: StudySnapshot | None = None
        self._lease: Lease | None = None
        self._definition = ""
        self._spec: StudySpec | None = None
        self._views: dict[int, TrialView] = {}
        self._skipped: dict[int, int] = {}

    def _snapshot(self) -> StudySnapshot:
        connection = self._open()
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version == self._version and self._last is not None and self._is_as_before(self._last):
            return self._last
        with _transaction(connection):
            self._last = self._read(connection)
        self._version = version
        return self._last

    def _open(self) -> sqlite3.Connection:
        # The inode tells a database that was deleted and made again from the one that is open.
        inode = self._paths.database.stat().st_ino
        if self._connection is None or inode != self._inode:
            self.close()
            self._forget()
            self._connection, self._inode = _connect(self._paths), inode
        return self._connection

    def _is_as_before(self, last: StudySnapshot) -> bool:
        # Processes end without a word in the database.
        if last.supervisor is None:
            return not any(attempt.ended is None for trial in last.trials for attempt in trial.attempts[-1:])
        return self._lease is not None and self._lease.is_held()

    def _read(self, connection: sqlite3.Connection) -> StudySnapshot:
        (study_id,) = _one(connection, "SELECT study_id FROM studies WHERE study_name = ?", self._name)
        query = "SELECT key, value_json FROM study_user_attributes WHERE study_id = ?"
        texts = dict(connection.execute(query, (study_id,)).fetchall())
        spec = self._parse(texts)
        facts = {key: json.loads(text) for key, text in texts.items()}
        self._lease = _lease(connection, self._name)
        supervisor = lease_view(self._lease)
        trials = self._trials(connection, study_id, spec, supervised=supervisor is not None)
        state, reason = study_state(facts[attributes.STATUS], supervised=supervisor is not None)
        (seconds,) = _one(connection, "SELECT sum(seconds) FROM campaign_sessions WHERE study = ?", self._name)
        return StudySnapshot(
            spec=spec,
            created=datetime.fromisoformat(facts[attributes.CREATED]),
            state=state,
            reason=reason,
            hours_used=(seconds or 0.0) / 3600.0,
            env_steps_used=sum(trial.new_env_steps for trial in trials),
            skipped=sum(self._skipped.values()),
            trials=trials,
            supervisor=supervisor,
            slots=self._lease.slots if self._lease is not None and supervisor is not None else (),
            warm_start=attributes.warm_start(facts),
            **attributes.of_study(facts, trials),
        )

    def _parse(self, texts: dict[str, str]) -> StudySpec:
        definition = texts.get(attributes.DEFINITION)
        if definition is None:
            raise _UnknownDatabaseError
        if self._spec is None or definition != self._definition:  # a raised budget
            self._spec, self._definition = study_from_definition(json.loads(definition)), definition
            self._views.clear()
        return self._spec

    def _trials(
        self, connection: sqlite3.Connection, study_id: int, spec: StudySpec, *, supervised: bool
    ) -> tuple[TrialView, ...]:
        query = "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials WHERE study_id = ?"
        rows = [_Row(*row) for row in connection.execute(f"{query} ORDER BY trial_id", (study_id,))]
        unread = [row for row in rows if row.number not in self._views]
        facts = _facts(connection, self._name, unread)
        views = {row.number: _view(spec, row, facts[row.number], supervised) for row in unread}
        self._views.update({number: view for number, view in views.items() if view.state.is_finished})
        self._skipped.update({n: fact.attributes.get(attributes.SKIPPED, 0) for n, fact in facts.items()})
        return tuple(views.get(row.number) or self._views[row.number] for row in rows)


def read_snapshot(paths: CampaignPaths, name: str) -> StudySnapshot:
    """Return a picture of a study.

    Raises:
        StudyNotFoundError: No study of that name.
        StorageError: The database cannot be read.
    """
    with StudyReader(paths, name) as reader:
        return reader.snapshot()


def read_names(paths: CampaignPaths) -> list[str]:
    """Return the names of all studies, sorted; none when there is no database.

    Raises:
        StorageError: The database cannot be read.
    """
    if not paths.has_database:
        return []
    try:
        if paths.storage is not None:
            raise _UnknownDatabaseError
        with contextlib.closing(_connect(paths)) as connection:
            return sorted(name for (name,) in connection.execute("SELECT study_name FROM studies"))
    except (sqlite3.Error, _UnknownDatabaseError):
        from vbot_campaign.study.study import study_names

        return study_names(paths)


def _connect(paths: CampaignPaths) -> sqlite3.Connection:
    connection = sqlite3.connect(paths.database, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        connection.execute("PRAGMA query_only=ON")
        query = "SELECT schema_version, (SELECT version FROM campaign_schema) FROM version_info"
        optuna, ours = _one(connection, query)
        if optuna != OPTUNA_TABLES or ours not in OUR_TABLES:
            raise _UnknownDatabaseError
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Show all reads of the block the same state of the database."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _one(connection: sqlite3.Connection, query: str, *values: Any) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(query, values).fetchone()
    if row is None:
        raise _UnknownDatabaseError
    return row


def _lease(connection: sqlite3.Connection, study: str) -> Lease | None:
    query = "SELECT host, pid, pid_started, since, until, slots FROM campaign_leases WHERE study = ?"
    row = connection.execute(query, (study,)).fetchone()
    if row is None:
        return None
    host, pid, pid_started, since, until, slots = row
    return Lease(Owner(host, pid, pid_started), _utc(since), _utc(until), tuple(json.loads(slots)))


def _facts(connection: sqlite3.Connection, study: str, rows: Sequence[_Row]) -> dict[int, _Facts]:
    """Return what is known of the given trials, by number."""
    numbers = {row.id: row.number for row in rows}
    facts: defaultdict[int, _Facts] = defaultdict(_Facts, {row.number: _Facts() for row in rows})

    def optuna(columns: str, table: str, more: str = "") -> Iterator[tuple[_Facts, Any]]:
        query = f"SELECT trial_id, {columns} FROM {table} WHERE trial_id IN (SELECT value FROM json_each(?)) {more}"  # noqa: S608
        for trial_id, *values in connection.execute(query, (json.dumps(list(numbers)),)):
            yield facts[numbers[trial_id]], values

    def ours(columns: Sequence[str], table: str, more: str = "") -> Iterator[tuple[_Facts, dict[str, Any]]]:
        query = (
            f"SELECT trial, {', '.join(columns)} FROM {table} "  # noqa: S608
            f"WHERE study = ? AND trial IN (SELECT value FROM json_each(?)) {more}"
        )
        for trial, *values in connection.execute(query, (study, json.dumps(list(numbers.values())))):
            yield facts[trial], dict(zip(columns, values, strict=True))

    for fact, (value, kind) in optuna("value, value_type", "trial_values", "AND objective = 0"):
        fact.score = _NOT_FINITE.get(kind, value)
    for fact, (name, value) in optuna("param_name, param_value", "trial_params"):
        fact.parameters[name] = value
    reports = "step, intermediate_value, intermediate_value_type"
    for fact, (step, value, kind) in optuna(reports, "trial_intermediate_values", "ORDER BY trial_id, step"):
        fact.reports[step] = _NOT_FINITE.get(kind, value)
    own = f"AND key IN {attributes.TRIAL_KEYS}"
    for fact, (key, text) in optuna("key, value_json", "trial_user_attributes", own):
        fact.attributes[key] = json.loads(text)
    columns = ("folder", "reason", "env_steps", "env_steps_per_s", "parts", "evaluation")
    for fact, values in ours(columns, "campaign_trials"):
        vars(fact).update(values, parts=_json(values["parts"]), evaluation=_json(values["evaluation"]))
    for fact, values in ours(_ATTEMPT, "campaign_attempts", "ORDER BY number"):
        fact.attempts.append(AttemptView(**_times(values, "started", "ended")))
    for fact, values in ours(_CHECKPOINT, "campaign_checkpoints", "AND NOT deleted ORDER BY env_steps, path"):
        values["metrics"] = _json(values["metrics"])
        fact.checkpoints.append(CheckpointView(**_times(values, "created", "verified")))
    return dict(facts)


def _view(spec: StudySpec, row: _Row, facts: _Facts, supervised: bool) -> TrialView:
    state, reason = _FINISHED.get(row.state), facts.reason
    if state is None:
        stored = attributes.pause_reason(facts.attributes) or facts.reason
        state, reason = unfinished_state(stored, facts.attempts, supervised)
    for path in (facts.folder, *(checkpoint.path for checkpoint in facts.checkpoints)):
        if path is not None and not is_inside(path):
            raise StorageError(f"the database names {path!a}, which is outside of its study's folder.")
    return TrialView(
        number=row.number,
        state=state,
        reason=reason,
        parameters=_parameters(spec, facts.parameters),
        score=facts.score if state is not TrialState.FAILED else None,
        parts=facts.parts,
        env_steps=facts.env_steps,
        reports=facts.reports,
        started=_local(row.started),
        ended=_local(row.ended),
        folder=facts.folder,
        attempts=tuple(facts.attempts),
        checkpoints=tuple(facts.checkpoints),
        evaluation=facts.evaluation,
        env_steps_per_s=facts.env_steps_per_s,
        **attributes.of_trial(facts.attributes),
    )


def _parameters(spec: StudySpec, stored: dict[str, float]) -> dict[str, Any]:
    named = ((name, stored_name(name, parameter), parameter) for name, parameter in spec.parameters.items())
    return {name: decode_number(parameter, stored[key]) for name, key, parameter in named if key in stored}


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _times(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**values, **{name: None if values[name] is None else _utc(values[name]) for name in names}}


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _local(text: str | None) -> datetime | None:
    """Return one of Optuna's naive local times as an aware UTC time."""
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
