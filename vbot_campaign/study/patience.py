"""Waiting for a server that does not answer, where the caller has the time: a supervisor, whose workers train on."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import TrialState

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
_SLICE_S = 0.2
_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])
_LOST = ("08", "57P", "53300", "25P03")
"""How the codes begin that a server ends or refuses a connection with: trouble on the line, its own end or start, no
connection left, one that was idle in a transaction for too long."""


class Patience:
    """Makes a call again and again while the server cannot be reached. Without `begin` it makes it once."""

    def __init__(self) -> None:
        self._goes_on: Callable[[], bool] | None = None
        self._tell: Callable[[str], None] = lambda words: None

    def begin(self, goes_on: Callable[[], bool], tell: Callable[[str], None]) -> None:
        """Wait from now on.

        Args:
            goes_on: Asked again and again while waiting; False ends it with the error.
            tell: Called with what to say when the server is lost and when it is back.
        """
        self._goes_on, self._tell = goes_on, tell

    def end(self) -> None:
        """Wait no more."""
        self._goes_on = None

    def call(self, action: Callable[[], _T]) -> _T:
        """Return what an action returns.

        Args:
            action: One transaction that may be made twice: its answer may be lost after it was made.
        """
        pauses = _pauses()
        lost_at: float | None = None
        while True:
            try:
                result = action()
            except Exception as error:
                if self._goes_on is None or not is_connection_loss(error):
                    raise
                if lost_at is None:
                    lost_at = time.monotonic()
                    self._tell(f"the database cannot be reached; its workers train on: {_first_line(error)}")
                self._wait(next(pauses))
                if not self._goes_on():
                    raise
            else:
                if lost_at is not None:
                    self._tell(f"the database is back after {time.monotonic() - lost_at:.0f} s")
                return result

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and (self._goes_on is None or self._goes_on()):
            time.sleep(_SLICE_S)


def patient(method: _F) -> _F:
    """Let a method of what has a `patience` wait for the server; it must be one transaction that may be made twice."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        patience: Patience = self.patience
        return patience.call(lambda: method(self, *args, **kwargs))

    return cast(_F, call)


def is_connection_loss(error: BaseException) -> bool:
    """Tell whether an error says that the server cannot be reached just now, and not that something is wrong."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, sa.exc.DBAPIError):
            state = getattr(cause.orig, "sqlstate", None)
            if cause.connection_invalidated or (state is not None and state.startswith(_LOST)):
                return True
            return state is None and isinstance(cause, sa.exc.OperationalError)
        cause = cause.__cause__
    return False


class PatientStorage(RDBStorage):
    """Optuna's storage on a server, whose calls wait for it; but that for a new trial, which must not be made twice."""

    patience = Patience()

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        """See `BaseStorage.set_trial_state_values`; what was told before its answer was lost is told."""
        original = super().set_trial_state_values
        tries = 0

        def tell() -> bool:
            nonlocal tries
            tries += 1
            try:
                return original(trial_id, state, values)
            except optuna.exceptions.UpdateFinishedTrialError:
                if tries > 1 and self.get_trial(trial_id).state == state:
                    return True
                raise

        return self.patience.call(tell)


_CALLS = (
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "get_trial_id_from_study_id_trial_number",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "get_trial",
    "get_all_trials",
    "get_n_trials",
    "_get_trials",
)
for _name in _CALLS:
    setattr(PatientStorage, _name, patient(getattr(RDBStorage, _name)))


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE_S
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE_S)


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0]
