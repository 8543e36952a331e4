"""One attempt from start to ``result.json``, whatever happens in between."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vbot_campaign import fs
from vbot_campaign.envs.vbot.task import VbotNavigation
from vbot_campaign.errors import FencedError, FolderBusyError
from vbot_campaign.events import EXIT_CODES, EXIT_FENCED, Ended, Result
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.loading import read_trial_spec
from vbot_campaign.worker import faults
from vbot_campaign.worker.fence import Fence
from vbot_campaign.worker.signals import StopSignal
from vbot_campaign.worker.trainer import Progress, Trainer, load_trainer

EXIT_FOLDER_BUSY = 3
_RESERVE_BYTES = 16 << 20
"""Given back when memory runs out, so that there is some to write the result with."""

_log = logging.getLogger(__name__)


def run_attempt(
    folder: Path,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    on_env: Callable[[VbotNavigation], None] | None = None,
    log_level: int = logging.INFO,
) -> int:
    """Train what the folder says and write ``result.json`` last, unless a later attempt owns the folder by then.

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
            return _run_locked(paths, on_progress, on_env)
    except FolderBusyError as error:
        _log.error("%s", error)
        return EXIT_FOLDER_BUSY
    except FencedError as error:
        _log.error("%s", error)
        return EXIT_FENCED


def _run_locked(
    paths: TrialPaths,
    on_progress: Callable[[Progress], None] | None,
    on_env: Callable[[VbotNavigation], None] | None,
) -> int:
    started = time.monotonic()
    attempt, token = _identity(paths)
    fence = Fence(paths.spec, token)
    fence.check()
    paths.result.unlink(missing_ok=True)
    reserve = bytearray(_RESERVE_BYTES)
    trainer: Trainer | None = None
    try:
        spec = read_trial_spec(paths.spec)
        with StopSignal() as stop:
            trainer = load_trainer(spec.training.trainer)(paths, spec, stop)
            env = getattr(trainer, "env", None)
            if on_env is not None and env is not None:
                on_env(env)
            result = trainer.run(on_progress)
    except FencedError:
        raise
    except Exception as error:
        del reserve  # something to say it in, where memory ran out
        result = _result_of_error(error, paths.root, trainer, attempt=attempt, token=token)
    fence.check()
    return EXIT_CODES[_write(replace(result, seconds=time.monotonic() - started), paths)]


def _write(result: Result, paths: TrialPaths) -> Ended:
    """Write the result and return how the attempt ended: a full disk may have the last word."""
    _log.info("attempt %d %s at env step %d: %s", result.attempt, result.state, result.env_steps, result.reason)
    try:
        result.write(paths.result)
    except OSError as error:
        if not faults.is_disk_full(error):
            raise
        # The exit code is all that can be said; what was trained is said by the next attempt.
        _log.error("result: %s", faults.reason_of(error, paths.root))
        return Ended.DISK_FULL
    return result.state


def _identity(paths: TrialPaths) -> tuple[int, str]:
    """Return attempt and token of a trial.json that may be invalid otherwise: without them the result is not heard."""
    try:
        values = fs.read_json(paths.spec)
        return int(values["attempt"]), str(values["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, ""


def _result_of_error(error: Exception, folder: Path, trainer: Trainer | None, *, attempt: int, token: str) -> Result:
    """Classify an error; the class decides what the supervisor does with the trial."""
    report = faults.report_of(error)
    _log.error("%s", report or type(error).__name__)
    return Result(
        state=faults.classify(error),
        reason=faults.reason_of(error, folder),
        attempt=attempt,
        token=token,
        env_steps=trainer.env_steps if trainer else 0,
        iteration=trainer.iteration if trainer else 0,
        last_checkpoint=trainer.last_checkpoint if trainer else None,
        error=report,
    )
