"""Every error this program raises on purpose.

    CampaignError                   exit code 2: something a person can put right
    ├── SpecError                   a study, training or command-line value is wrong
    ├── StudyError
    │   ├── StudyNotFoundError      no study of that name
    │   ├── StudyChangedError       the file differs from the stored definition
    │   ├── StudyBusyError          another supervisor holds the study
    │   └── TrialLostError          another supervisor has taken a trial over
    ├── StorageError                the database cannot be opened, read or written
    ├── CheckpointError
    │   ├── CheckpointNotFoundError
    │   └── CheckpointCorruptError  torn, truncated or altered
    ├── PhysicsUnavailableError     an engine whose package is not installed
    ├── RenderingUnavailableError   nothing that can draw or encode pictures
    ├── NotificationError           a message could not be sent
    ├── FolderBusyError             another process holds the lock of a trial folder
    └── WorkerError                 raised inside a worker, becomes its exit code
        ├── DivergedError           loss, weights or physics are not finite any more
        └── FencedError             a later attempt owns the trial's folder

Each message names the thing, the value, what is valid and the next step.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CampaignError(Exception):
    """Base of all errors that are reported in one line with exit code 2."""

    exit_code = 2


class SpecError(CampaignError):
    """What a person wrote is not valid."""


class StudyError(CampaignError):
    """A study cannot be used as asked."""


class StudyNotFoundError(StudyError):
    """No study of that name is in the database."""


class StudyChangedError(StudyError):
    """A study file differs from the definition stored under its name."""


class StudyBusyError(StudyError):
    """Another live supervisor holds the study."""


class TrialLostError(StudyError):
    """Another supervisor has taken over what this one wanted to write to.

    Args:
        trial: The trial; None for the study.
    """

    def __init__(self, trial: int | None) -> None:
        what = "the study" if trial is None else f"trial {trial}"
        super().__init__(f"{what} was taken over by another supervisor; this one's lease had run out.")
        self.trial = trial


class StorageError(CampaignError):
    """The database cannot be opened, read or written."""


class CheckpointError(CampaignError):
    """A checkpoint cannot be used."""


class CheckpointNotFoundError(CheckpointError):
    """There is no checkpoint where one was expected."""


class CheckpointCorruptError(CheckpointError):
    """A checkpoint is torn, truncated or altered."""


class PhysicsUnavailableError(CampaignError):
    """A physics engine whose package is not installed."""


class RenderingUnavailableError(CampaignError):
    """Nothing on this machine can draw without a screen, or encode the video that was asked for."""


class NotificationError(CampaignError):
    """A message could not be sent. Never names an address: those are secrets."""


class FolderBusyError(CampaignError):
    """Another process holds the lock of a trial folder."""


class WorkerError(CampaignError):
    """An error inside a worker that ends its attempt."""


class DivergedError(WorkerError):
    """Loss, weights or physics stopped being finite numbers."""


class FencedError(WorkerError):
    """A later attempt owns the trial's folder, so this one must not write into it any more."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest valid name, or an empty string."""
    near = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""
