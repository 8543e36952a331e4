"""From the rows of both halves of the database to the picture that the rest of the program sees."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study import attributes, space
from vbot_campaign.study.ledger import Ledger, TrialEntry
from vbot_campaign.study.liveness import unfinished_state
from vbot_campaign.study.snapshot import TrialState, TrialView

_FINISHED = {
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.PRUNED: TrialState.PRUNED,
    OptunaState.FAIL: TrialState.FAILED,
}


class ViewCache:
    """Views of a study's trials. A finished trial is read once and kept."""

    def __init__(self, spec: StudySpec, ledger: Ledger) -> None:
        self._spec = spec
        self._ledger = ledger
        self._finished: dict[int, TrialView] = {}

    def forget(self, trial: int) -> None:
        """Read a trial again although it is finished."""
        self._finished.pop(trial, None)

    def views(self, trials: Sequence[FrozenTrial], *, supervised: bool) -> tuple[TrialView, ...]:
        """Return a view of each trial, in the order given.

        Args:
            trials: Optuna's trials.
            supervised: Whether a live supervisor watches the open attempts.
        """
        unread = [trial for trial in trials if trial.number not in self._finished]
        entries = self._ledger.entries([trial.number for trial in unread])
        fresh = {trial.number: trial_view(self._spec, trial, entries[trial.number], supervised) for trial in unread}
        self._finished.update({number: view for number, view in fresh.items() if view.state.is_finished})
        return tuple(fresh.get(trial.number) or self._finished[trial.number] for trial in trials)


def trial_view(spec: StudySpec, trial: FrozenTrial, entry: TrialEntry, supervised: bool) -> TrialView:
    """Join what Optuna and what the ledger know of a trial."""
    state, reason = _state(trial, entry, supervised)
    return TrialView(
        number=trial.number,
        state=state,
        reason=reason,
        parameters=space.decode(spec, trial.params),
        score=trial.value if state is not TrialState.FAILED else None,
        parts=entry.parts,
        env_steps=entry.env_steps,
        reports=dict(sorted(trial.intermediate_values.items())),
        started=utc(trial.datetime_start),
        ended=utc(trial.datetime_complete),
        folder=entry.folder,
        attempts=tuple(entry.attempts),
        checkpoints=tuple(entry.checkpoints),
        evaluation=entry.evaluation,
        env_steps_per_s=entry.env_steps_per_s,
        **attributes.of_trial(trial.user_attrs),
    )


def utc(local: datetime | None) -> datetime | None:
    """Return one of Optuna's naive local times as an aware UTC time."""
    return None if local is None else local.astimezone(UTC)


def _state(trial: FrozenTrial, entry: TrialEntry, supervised: bool) -> tuple[TrialState, str]:
    if trial.state in _FINISHED:
        return _FINISHED[trial.state], entry.reason
    return unfinished_state(attributes.pause_reason(trial.user_attrs) or entry.reason, entry.attempts, supervised)
