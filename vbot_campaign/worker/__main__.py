"""``python -m vbot_campaign.worker TRIAL_DIR``: train what ``TRIAL_DIR/trial.json`` says.

Exit codes are those of `events.EXIT_CODES`; 3 means that another process works on the folder, 4 (`EXIT_FENCED`) that a
later attempt owns it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn


def main(arguments: list[str]) -> int:
    """Run the worker and return its exit code."""
    if len(arguments) != 1:
        print("usage: python -m vbot_campaign.worker TRIAL_DIR", file=sys.stderr)
        return 2
    faulthandler.enable()
    if hasattr(signal, "SIGUSR1"):
        # Someone who wonders what a silent worker does can ask it: the stacks of all threads go to worker.log.
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    from vbot_campaign.worker.attempt import run_attempt

    return run_attempt(Path(arguments[0]))


def leave(code: int) -> NoReturn:
    """End this process at once.

    The slot is free only when it is gone: torch's garbage, searched on the way out, would take a second. And a last
    text for which the disk has no room must not change the exit code, which may be all that can be said.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
