"""Ray Tune's row: Ray in a virtual environment of its own, made on first use, never in the project's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from optuna.distributions import distribution_to_json

from tests.benchmarks.search.searches import warmup
from tests.benchmarks.search.world import Ended, Played, World

NAME = "Ray Tune: OptunaSearch, ASHA"
RAY = "ray[tune]==2.60.0"
ROOT = Path(__file__).parents[3]
ENVIRONMENT = ROOT / "build" / "ray"
"""Ignored by git."""


class RayMissingError(Exception):
    """The environment with Ray could not be made."""


def play_ray(worlds: Sequence[World]) -> list[Played]:
    """Play Ray's searches, one repetition after the other.

    Raises:
        RayMissingError: Ray cannot be installed here, or does not run; the message says why.
    """
    python = _python()
    first = worlds[0]
    job = {
        "distributions": {name: distribution_to_json(found) for name, found in first.distributions.items()},
        "stored": first.stored,
        "prior": first.prior,
        "grace_period": warmup(first),
        "repetitions": [_repetition(world) for world in worlds],
    }
    with tempfile.TemporaryDirectory(prefix="vbot-ray-job-") as folder:
        job_file, out_file = Path(folder, "job.json"), Path(folder, "out.json")
        job_file.write_text(json.dumps(job))
        command = [str(python), "-m", "tests.benchmarks.search.ray_script", str(job_file), str(out_file)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AIR_NEW_OUTPUT": "0", "RAY_USAGE_STATS_ENABLED": "0"}
        done = subprocess.run(command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise RayMissingError(f"Ray ended with code {done.returncode}; what it said is above.\n{done.stdout}")
        played = json.loads(out_file.read_text())
    return [clocked(world, played[str(world.repetition)]) for world in worlds]


def clocked(world: World, trials: Sequence[Sequence[int]]) -> Played:
    """Return what trials that ran one after the other came to within a budget.

    Args:
        world: The repetition.
        trials: Configuration and trained env steps of each; it was stopped where those are fewer than recorded.
    """
    ended, stopped, drawn, spent = [], set(), [], 0
    for number, env_steps in trials:
        if spent >= world.budget:
            break
        drawn.append(number)
        spent += env_steps
        if spent > world.budget:
            spent = world.budget
        elif env_steps == world.trainings[number].env_steps:
            ended.append(Ended(spent, number, world.trainings[number].score))
        else:
            stopped.add(number)
    return Played(tuple(ended), tuple(drawn), frozenset(stopped), spent)


def _repetition(world: World) -> dict[str, object]:
    trainings = {
        number: {"curve": training.curve, "env_steps": training.env_steps, "score": training.score}
        for number, training in world.trainings.items()
    }
    return {"repetition": world.repetition, "budget": world.budget, "trainings": trainings}


def _python() -> Path:
    """Return the interpreter that has Ray."""
    python = ENVIRONMENT / "bin" / "python"
    wanted = [RAY, f"optuna=={metadata.version('optuna')}"]
    mark = ENVIRONMENT / "installed.txt"
    if mark.exists() and mark.read_text() == "\n".join(wanted):
        return python
    print(f"Making {ENVIRONMENT.relative_to(ROOT)} with {' and '.join(wanted)} ...", file=sys.stderr, flush=True)
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    steps = (
        [sys.executable, "-m", "venv", str(ENVIRONMENT)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise RayMissingError(f"{RAY} cannot be installed here: {said}")
    mark.write_text("\n".join(wanted))
    return python
