"""The real worker, which waits at a rung until the supervisor has decided: ``python patient_worker.py TRIAL_DIR``.

A training of a few seconds would be over before a busy supervisor has looked. ``PATIENT_AT`` are the env steps of the
rung.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from vbot_campaign import fs
from vbot_campaign.events import stop_requested
from vbot_campaign.paths import StudyPaths, TrialPaths
from vbot_campaign.spec.loading import read_trial_spec
from vbot_campaign.worker.attempt import run_attempt
from vbot_campaign.worker.trainer import Progress

TIMEOUT_S = 900.0


def main(folder: Path) -> int:
    """Train the folder's trial and return the exit code."""
    paths, rung = TrialPaths(folder), int(os.environ["PATIENT_AT"])
    spec = read_trial_spec(paths.spec)
    decisions = StudyPaths(folder.parent.parent).decisions

    def is_decided() -> bool:
        ours = [line["action"] for line in fs.read_lines(decisions) if line.get("trial") == spec.trial]
        verdicts = [action for action in ours if action in ("pausing", "passed", "promoted")]
        if verdicts[-1:] == ["pausing"]:
            return stop_requested(paths.stop_request, spec.token) is not None
        return bool(verdicts)

    def wait(progress: Progress) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while progress.env_steps >= rung and not is_decided():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody has decided on the rung at {rung} env steps")
            time.sleep(0.01)

    return run_attempt(folder, wait)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
