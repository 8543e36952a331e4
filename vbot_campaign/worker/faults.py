"""What ended an attempt: the class of an error, on which depends what becomes of the trial."""

from __future__ import annotations

import errno
import shutil
import traceback
from pathlib import Path

from vbot_campaign.errors import CampaignError, DivergedError
from vbot_campaign.events import Ended
from vbot_campaign.rl.out_of_memory import is_out_of_memory

_FULL = {
    errno.ENOSPC,
    errno.EFBIG,  # a limit on the size of a file; Python ignores the signal that would come with it
    *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else []),
}


def classify(error: BaseException) -> Ended:
    """Return how an attempt ended that ended with an error."""
    if is_out_of_memory(error):
        return Ended.OUT_OF_MEMORY
    if is_disk_full(error):
        return Ended.DISK_FULL
    if isinstance(error, DivergedError):
        return Ended.DIVERGED
    return Ended.INVALID if isinstance(error, CampaignError) else Ended.FAILED


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error says that no more can be written."""
    return isinstance(error, OSError) and error.errno in _FULL


def reason_of(error: BaseException, folder: Path) -> str:
    """Say in a line why an attempt ended.

    Args:
        error: What ended it.
        folder: The trial's folder, whose disk is named when it is full.
    """
    if is_disk_full(error) and isinstance(error, OSError):
        free = shutil.disk_usage(folder).free / 1e6
        return (
            f"{error.strerror} on the disk of {folder} ({free:.1f} MB free). The last checkpoint is kept: "
            "free some space and resume, or lower checkpoints.disk_budget_gb."
        )
    return str(error) or type(error).__name__


def report_of(error: BaseException) -> str | None:
    """Return the traceback as text, or None when there is not even memory for that.

    The variables of the frames are dropped first: they hold on to the memory that ran out.
    """
    try:
        traceback.clear_frames(error.__traceback__)
        return "".join(traceback.format_exception(error))
    except MemoryError:
        return None
