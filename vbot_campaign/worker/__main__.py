"""``python -m vbot_campaign.worker TRIAL_DIR``: train what ``TRIAL_DIR/trial.json`` says.

Exit codes are those of `events.EXIT_CODES`; 3 means that another process works on the folder.
"""

from __future__ import annotations

import faulthandler
import gc
import signal
import sys
from pathlib import Path


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

    code = run_attempt(Path(arguments[0]))
    # The slot is free only when this process is gone: do not search all of torch for garbage on the way out, which
    # takes a second.
    gc.freeze()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
