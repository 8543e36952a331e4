"""Short trainings that tell how fast this machine is with a plan's settings."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vbot_campaign import events, fs
from vbot_campaign.errors import StudyError
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.plan import PlanSpec, Stage
from vbot_campaign.spec.stages import stage_training
from vbot_campaign.spec.trainable import require
from vbot_campaign.spec.training import TrainingSpec, TrialSpec
from vbot_campaign.supervisor.process import WORKER_COMMAND, WorkerProcess
from vbot_campaign.supervisor.slots import Slot, worker_environment

SECONDS = 120.0
START_S = 120.0
"""Time for a worker to start and train its first iteration."""
TOKEN = "probe"  # noqa: S105 - what tells attempts apart


@dataclass(frozen=True)
class Probed:
    """How fast a slot was while all of them were busy."""

    physics: str
    env_steps_per_s: float


def probe(
    plan: PlanSpec, slots: Sequence[Slot], *, seconds: float = SECONDS, command: Sequence[str] = WORKER_COMMAND
) -> list[Probed]:
    """Train on all slots at once for a while, once with each physics engine of a plan, and keep nothing.

    Args:
        plan: The plan.
        slots: Where it would run.
        seconds: In all.
        command: Of a worker.

    Raises:
        StudyError: A worker did not get as far as its second iteration.
    """
    first: dict[str, Stage] = {}
    for stage in plan.stages:
        first.setdefault(stage.physics or plan.physics, stage)
    found: list[Probed] = []
    for physics, stage in first.items():
        training, problems = stage_training(plan, stage)
        require(problems)
        if training is not None:
            speeds = _speeds(training, slots, seconds / len(first), command)
            found += [Probed(physics, speed) for speed in speeds]
    return found


def _speeds(training: TrainingSpec, slots: Sequence[Slot], seconds: float, command: Sequence[str]) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="vbot-probe-") as root:
        folders = [TrialPaths(Path(root) / f"{number}") for number in range(len(slots))]
        workers = [_start(folder, training, slot, command) for folder, slot in zip(folders, slots, strict=True)]
        try:
            _train(folders, workers, seconds)
        finally:
            for folder, worker in zip(folders, workers, strict=True):
                events.request_stop(folder.stop_request, "stop", TOKEN)
                worker.kill()
                worker.wait(30.0)
        return [_speed(folder) for folder in folders]


def _start(folder: TrialPaths, training: TrainingSpec, slot: Slot, command: Sequence[str]) -> WorkerProcess:
    spec = TrialSpec(
        training=training, device=slot.device, slot=slot.name, threads=slot.threads, token=TOKEN, recording="none"
    )
    folder.root.mkdir(parents=True)
    fs.write_json(folder.spec, spec.model_dump(mode="json"))
    return WorkerProcess.spawn(folder, worker_environment(slot, spec.threads), command, None)


def _train(folders: Sequence[TrialPaths], workers: Sequence[WorkerProcess], seconds: float) -> None:
    deadline = time.monotonic() + START_S
    while not all(len(_iterations(folder)) > 1 for folder in folders):
        if time.monotonic() > deadline or any(worker.poll() is not None for worker in workers):
            return
        time.sleep(0.1)
    end = time.monotonic() + seconds
    while time.monotonic() < end and all(worker.poll() is None for worker in workers):
        time.sleep(0.1)


def _speed(folder: TrialPaths) -> float:
    speeds = [float(line["timing"]["env_steps_per_s"]) for line in _iterations(folder)[1:]]  # the first one warms up
    if not speeds:
        last = (folder.log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
        raise StudyError(f"--probe: a worker did not train two iterations in time; its last words: {last}")
    return len(speeds) / sum(1.0 / speed for speed in speeds)


def _iterations(folder: TrialPaths) -> list[dict[str, Any]]:
    return [line for line in fs.read_lines(folder.metrics) if line.get("kind") == "progress"]
