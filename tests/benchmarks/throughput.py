"""Training speed of real workers with the default network and the default settings."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.rows import Row
from vbot_campaign import fs
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.study import WorkerSettings
from vbot_campaign.spec.training import PpoSettings, ThreadSettings, TrainingSpec, TrialSpec
from vbot_campaign.supervisor.slots import available_cores, discover_slots, worker_environment

FLOOR = 20_000.0
"""Env steps per second over all slots on two cores, in float32."""
DROPPED = 2
"""First iterations, in which memory is touched for the first time, are not counted."""
TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Worker:
    """A worker to be measured."""

    folder: TrialPaths
    spec: TrialSpec
    environ: Mapping[str, str]


def one_worker(folder: Path, quick: bool) -> list[Row]:
    """Measure one worker with a thread per core, on the GPU if there is one."""
    cores = available_cores()
    slot = discover_slots(WorkerSettings(slots=1))[0]
    environ = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": slot.visible_devices,
        "OMP_NUM_THREADS": str(cores),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    threads = ThreadSettings(torch=cores, physics=cores)
    return _measure([_worker(folder / "0", slot.device, threads, environ, PpoSettings())], quick, FLOOR)


def two_workers(folder: Path, quick: bool) -> list[Row]:
    """Measure two workers that share the machine as two slots of a study do."""
    return _measure(_workers_on_two_slots(folder, PpoSettings()), quick, FLOOR)


def two_workers_in_mixed_precision(folder: Path, quick: bool) -> list[Row]:
    """Measure the same with updates in bfloat16."""
    return _measure(_workers_on_two_slots(folder, PpoSettings(mixed_precision=True)), quick, None)


def _workers_on_two_slots(folder: Path, ppo: PpoSettings) -> list[Worker]:
    slots = discover_slots(WorkerSettings(slots=2, slots_per_gpu=2))[:2]
    return [
        _worker(folder / str(index), slot.device, slot.threads, worker_environment(slot, slot.threads), ppo)
        for index, slot in enumerate(slots)
    ]


def _worker(folder: Path, device: str, threads: ThreadSettings, environ: Mapping[str, str], ppo: PpoSettings) -> Worker:
    training = TrainingSpec(env_steps=1_000_000_000, ppo=ppo)
    return Worker(TrialPaths(folder), TrialSpec(training=training, device=device, threads=threads), environ)


def _measure(workers: list[Worker], quick: bool, floor: float | None) -> list[Row]:
    iterations = DROPPED + (3 if quick else 12)
    processes = [_start(worker) for worker in workers]
    try:
        _wait(workers, processes, iterations)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    counted = [_lines(worker)[DROPPED:iterations] for worker in workers]
    speeds = [statistics.median(line["timing"]["env_steps_per_s"] for line in lines) for lines in counted]
    rows = [Row("training, env steps", sum(speeds), "steps/s", floor=floor)]
    if len(speeds) > 1:
        rows.append(Row("slowest worker", min(speeds), "steps/s"))
    for name in ("physics", "environment", "policy", "update"):
        shares = [line["timing"]["shares"][name] for lines in counted for line in lines]
        rows.append(Row(f"share of {name}", 100 * statistics.median(shares), "%"))
    for name, where in (("rss_mb", "memory of a worker"), ("device_mb", "its memory on the GPU")):
        used = [line["memory"][name] for lines in counted for line in lines if name in line["memory"]]
        rows += [Row(where, max(used), "MB")] if used else []
    spec = workers[0].spec
    return [*rows, Row("threads of a worker, each pool", spec.threads.torch, "", note=f"on {spec.device}")]


def _start(worker: Worker) -> subprocess.Popen[bytes]:
    fs.write_json(worker.folder.spec, worker.spec.model_dump(mode="json"))
    command = [sys.executable, "-m", "vbot_campaign.worker", str(worker.folder.root)]
    with worker.folder.log.open("ab") as log:
        return subprocess.Popen(command, env=dict(worker.environ), stdout=log, stderr=log)


def _wait(workers: list[Worker], processes: list[subprocess.Popen[bytes]], iterations: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while any(len(_lines(worker)) < iterations for worker in workers):
        for worker, process in zip(workers, processes, strict=True):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"a worker ended or hangs:\n{worker.folder.log.read_text()}")
        time.sleep(0.2)


def _lines(worker: Worker) -> list[dict]:
    return [line for line in fs.read_lines(worker.folder.metrics) if line["kind"] == "progress"]
