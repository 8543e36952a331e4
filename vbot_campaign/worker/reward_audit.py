"""Audits what a file says: a study, or a training without one.

``python -m vbot_campaign.worker.reward_audit`` does it for a supervisor, which never loads torch: it reads a study's
definition as JSON from its input and prints ``warnings``, ``points``, ``failing`` and ``seconds``.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.document import read_document
from vbot_campaign.spec.kinds import kind_of
from vbot_campaign.spec.loading import load_study, load_training, read_trial_spec, study_from_definition
from vbot_campaign.worker.single import prepare_threads

if TYPE_CHECKING:
    from vbot_campaign.envs.vbot.audit import AuditReport


def audit_file(path: Path) -> AuditReport:
    """Audit a study file, a training file, or the training that a run's folder describes.

    Raises:
        SpecError: The file cannot be read, or something in it is wrong.
    """
    from vbot_campaign.envs.vbot.audit import audit_study, audit_training

    run = TrialPaths(path)
    if run.spec.is_file():
        return audit_training(read_trial_spec(run.spec).training, path.name)
    kind = kind_of(read_document(path).value)
    if kind is not None and kind.name == "training":
        return audit_training(load_training(path).training, path.name)
    return audit_study(load_study(path))


def main() -> int:
    """Print what was found and return the exit code."""
    started = time.monotonic()
    with contextlib.suppress(AttributeError, OSError):
        os.nice(10)  # the workers start at the same time, and nobody waits for this
    prepare_threads(1)
    from vbot_campaign.envs.vbot.audit import audit_study, start_warnings

    report = audit_study(study_from_definition(json.load(sys.stdin)))
    found = {
        "warnings": start_warnings(report),
        "points": report.points,
        "failing": len(report.warnings),
        "seconds": round(time.monotonic() - started, 3),
    }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
