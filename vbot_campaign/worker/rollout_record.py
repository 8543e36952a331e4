"""Has a trained policy drawn at the end of its trial: a plot of its paths and a short film."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vbot_campaign import fs
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.training import Recording
from vbot_campaign.worker.fence import Fence

TIMEOUT_S = 90.0
"""Some seconds on a free core."""
_POLL_S = 0.05

_log = logging.getLogger(__name__)


def record_rollout(
    paths: TrialPaths, checkpoint: Path, recording: Recording, *, fence: Fence, interrupted: Callable[[], bool]
) -> bytes | None:
    """Write a trial's `TrialPaths.path_plot` and `TrialPaths.rollout`.

    The drawing is done by a process of its own in a folder of its own, so whatever happens to it, the trial goes on;
    what is missing then is said in ``worker.log``.

    Args:
        paths: The trial's folder.
        checkpoint: The policy.
        recording: What is drawn.
        fence: Asked before anything is written to the trial's folder.
        interrupted: Asked all the while whether to give up.

    Returns:
        The film, or None where there is none.

    Raises:
        FencedError: A later attempt owns the folder.
    """
    if recording == "none":
        return None
    try:
        with tempfile.TemporaryDirectory(prefix="vbot-rollout-") as folder:
            drawn = TrialPaths(Path(folder))
            _draw(paths, checkpoint, drawn, ["--gif"] if recording == "gif" else [], interrupted)
            pictures = {
                target: source.read_bytes()
                for source, target in ((drawn.path_plot, paths.path_plot), (drawn.rollout, paths.rollout))
                if source.is_file()
            }
        for target, content in pictures.items():
            fence.check()
            with fs.replacing(target) as file:
                file.write(content)
    except OSError as error:
        _log.warning("no pictures of the policy: %s", error)
        return None
    return pictures.get(paths.rollout)


def _draw(
    paths: TrialPaths, checkpoint: Path, drawn: TrialPaths, options: list[str], interrupted: Callable[[], bool]
) -> None:
    command = [sys.executable, "-m", "vbot_campaign.playback.rollout", str(paths.root), str(checkpoint)]
    # The GPU's memory is the training's.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, str(drawn.root), *options], env=environment, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while process.poll() is None and time.monotonic() < deadline and not interrupted():
            time.sleep(_POLL_S)
        if process.poll() is None:
            _log.warning(
                "no film of the policy: given up after %s", "a signal" if interrupted() else f"{TIMEOUT_S:g} s"
            )
        elif process.returncode not in (0, 2):
            _log.warning("no film of the policy: the process that draws it ended with exit code %d", process.returncode)
    finally:
        process.kill()
        process.wait()
