"""What the best policies do in both engines: played once by ``evaluate`` in a process of its own, and kept."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vbot_campaign import fs
from vbot_campaign.exporters import rows
from vbot_campaign.paths import StudyPaths
from vbot_campaign.spec.physics import is_installed
from vbot_campaign.study.snapshot import CheckpointView, TrialView

ENGINES = ("mujoco", "motrixsim")
EVALUATED = 3
"""Best trials whose policies are played."""
TIMEOUT_S = 3600.0
_STORED = 1

Played = dict[str, dict[str, Any]]
"""By engine, what ``evaluate --json`` says of one policy."""


def kept(paths: StudyPaths, trials: Sequence[TrialView]) -> dict[int, Played]:
    """Return what is known of the trials' policies, by trial; a file that cannot be read is passed over."""
    found: dict[int, Played] = {}
    for trial in trials:
        checkpoint = rows.best_checkpoint(trial)
        if checkpoint is not None:
            played = {engine: _read(paths.policy_evaluation(checkpoint.sha256, engine)) for engine in ENGINES}
            found[trial.number] = {engine: done for engine, done in played.items() if done is not None}
    return found


def missing_engines() -> list[str]:
    """Return the engines that are not installed here."""
    return [engine for engine in ENGINES if not is_installed(engine)]


def evaluate_missing(paths: StudyPaths, trials: Sequence[TrialView], say: Callable[[str], None]) -> None:
    """Play the policies of trials in each engine that they have not been played in.

    A policy that cannot be played is said and left out: a report never fails for it.

    Args:
        paths: The study's folder.
        trials: The best trials.
        say: Prints a line.
    """
    for engine in missing_engines():
        say(f"{engine} is not installed, so no policy is played in it.")
    for trial in trials:
        checkpoint = rows.best_checkpoint(trial)
        if checkpoint is None:
            say(f"trial {trial.number}: no policy on disk")
            continue
        for engine in (engine for engine in ENGINES if is_installed(engine)):
            if _read(paths.policy_evaluation(checkpoint.sha256, engine)) is None:
                say(f"trial {trial.number}: playing its best policy in {engine} ...")
                _evaluate(paths, trial, checkpoint, engine, say)


def _evaluate(
    paths: StudyPaths, trial: TrialView, checkpoint: CheckpointView, engine: str, say: Callable[[str], None]
) -> None:
    file = paths.root / checkpoint.path
    try:
        # The file may have been replaced since the picture of the study was taken: what is kept is named by its hash.
        if fs.sha256(file) != checkpoint.sha256:
            say(f"trial {trial.number}: {file} is not the one that the study knows; left out")
            return
        result = _play(file, engine)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        say(f"trial {trial.number}: cannot be played in {engine}: {_reason(error)}")
        return
    fs.write_json(paths.policy_evaluation(checkpoint.sha256, engine), {**result, "kept_as": _STORED})


def _play(file: Path, engine: str) -> dict[str, Any]:
    # A report's process never loads torch.
    command = [sys.executable, "-m", "vbot_campaign.cli", "evaluate", str(file), "--physics", engine, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=TIMEOUT_S, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _reason(error: Exception) -> str:
    said = (error.stderr or "").strip().splitlines() if isinstance(error, subprocess.CalledProcessError) else []
    return said[-1].removeprefix("error: ") if said else str(error)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = fs.read_json(path)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("kept_as") == _STORED else None
