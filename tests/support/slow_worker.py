"""The real worker, which takes its time from an iteration on: ``python slow_worker.py TRIAL_DIR``.

A training of a few seconds would be over before a busy test has sent its signal. ``SLOW_FROM`` are the env steps from
which on a second passes after every iteration; nothing else differs.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from vbot_campaign.worker.__main__ import leave
from vbot_campaign.worker.attempt import run_attempt
from vbot_campaign.worker.trainer import Progress

PAUSE_S = 1.0


def main(folder: Path) -> int:
    """Train the folder's trial and return the exit code."""
    first = int(os.environ["SLOW_FROM"])

    def pause(progress: Progress) -> None:
        if progress.env_steps >= first:
            time.sleep(PAUSE_S)

    return run_attempt(folder, pause)


if __name__ == "__main__":
    leave(main(Path(sys.argv[1])))
