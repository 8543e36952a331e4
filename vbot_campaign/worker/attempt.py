"""One attempt from start to ``result.json``, whatever happens in between."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from vbot_campaign import fs
from vbot_campaign.envs.vbot.task import VbotNavigation
from vbot_campaign.errors import CampaignError, DivergedError, FolderBusyError
from vbot_campaign.events import EXIT_CODES, Ended, Result
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.loading import read_trial_spec
from vbot_campaign.worker.signals import StopSignal
from vbot_campaign.worker.trainer import Progress, Trainer, load_trainer

EXIT_FOLDER_BUSY = 3

_log = logging.getLogger(__name__)


def run_attempt(
    folder: Path,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    on_env: Callable[[VbotNavigation], None] | None = None,
    log_level: int = logging.INFO,
) -> int:
    """Train what the folder says and write ``result.json`` last.

    Args:
        folder: Trial folder with a ``trial.json``.
        on_progress: Called after every iteration.
        on_env: Called with the training's environment before the first iteration, by trainers that have one here.
        log_level: What is printed to stderr, which is ``worker.log`` under a supervisor.

    Returns:
        The exit code.
    """
    logging.basicConfig(level=log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", force=True)
    paths = TrialPaths(folder)
    try:
        # Liveness needs no guess: the system drops this lock in the instant the process dies.
        with fs.hold_lock(paths.lock, what=f"trial folder {folder}"):
            return EXIT_CODES[_run_locked(paths, on_progress, on_env).state]
    except FolderBusyError as error:
        _log.error("%s", error)
        return EXIT_FOLDER_BUSY


def _run_locked(
    paths: TrialPaths,
    on_progress: Callable[[Progress], None] | None,
    on_env: Callable[[VbotNavigation], None] | None,
) -> Result:
    started = time.monotonic()
    paths.result.unlink(missing_ok=True)
    trainer: Trainer | None = None
    try:
        spec = read_trial_spec(paths.spec)
        with StopSignal() as stop:
            trainer = load_trainer(spec.training.trainer)(paths, spec, stop)
            env = getattr(trainer, "env", None)
            if on_env is not None and env is not None:
                on_env(env)
            result = trainer.run(on_progress)
    except Exception as error:
        result = _result_of_error(error, _identity(paths), trainer)
    result = Result(**{**result.__dict__, "seconds": time.monotonic() - started})
    result.write(paths.result)
    _log.info("attempt %d %s at env step %d: %s", result.attempt, result.state, result.env_steps, result.reason)
    return result


def _identity(paths: TrialPaths) -> tuple[int, str]:
    """Return attempt and token of a trial.json that may be invalid otherwise: without them the result is not heard."""
    try:
        values = fs.read_json(paths.spec)
        return int(values["attempt"]), str(values["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, ""


def _result_of_error(error: Exception, identity: tuple[int, str], trainer: Trainer | None) -> Result:
    """Classify an error; the class decides what the supervisor does with the trial."""
    attempt, token = identity
    if isinstance(error, DivergedError):
        state = Ended.DIVERGED
    elif isinstance(error, MemoryError | torch.OutOfMemoryError):
        state = Ended.OUT_OF_MEMORY
    elif isinstance(error, CampaignError):
        state = Ended.INVALID
    else:
        state = Ended.FAILED
    report = traceback.format_exc()
    _log.error("%s", report)
    return Result(
        state=state,
        reason=str(error) or type(error).__name__,
        attempt=attempt,
        token=token,
        env_steps=trainer.env_steps if trainer else 0,
        iteration=trainer.iteration if trainer else 0,
        last_checkpoint=trainer.last_checkpoint if trainer else None,
        error=report,
    )
