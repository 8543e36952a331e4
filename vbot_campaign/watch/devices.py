"""What the slots of a study run on, and how full, busy and hot it is."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from vbot_campaign.study.owner import process_alive
from vbot_campaign.study.snapshot import AttemptView, StudySnapshot, TrialState

if TYPE_CHECKING:
    from vbot_campaign.supervisor.gpus import GpuReading

MB = 1e6
_GPU_SLOT = re.compile(r"gpu:(\d+)")
_CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "acpitz")


@dataclass(frozen=True)
class SlotReading:
    """One slot at one instant. What cannot be told is None."""

    slot: str
    trial: int | None = None
    """The one that runs there."""
    device: str = ""
    """Name of the GPU, or how many cores the CPU has."""
    memory_used_mb: float | None = None
    """Of the whole GPU, or of the worker on a CPU slot."""
    memory_total_mb: float | None = None
    utilisation: float | None = None
    """Of the GPU, 0..1; of a worker on a CPU slot in cores: 1.9 are nearly two."""
    temperature_c: float | None = None
    throttled: str | None = None
    """Why the GPU runs slower than it could."""


class DeviceReader:
    """Reads the slots of this machine again and again; the load of a CPU slot is that since the last reading."""

    def __init__(self) -> None:
        self._cpu: dict[int, tuple[float, float]] = {}
        """Time of the last reading and CPU seconds by then, by process."""

    def read(self, snapshot: StudySnapshot) -> list[SlotReading]:
        """Return a reading of each slot; of another machine's only its name and trial are known."""
        attempts = {
            trial.attempts[-1].slot: (trial.number, trial.attempts[-1])
            for trial in snapshot.trials
            if trial.state is TrialState.RUNNING and trial.attempts
        }
        names = [*snapshot.slots, *(slot for slot in attempts if slot not in snapshot.slots)]
        if snapshot.supervisor is not None and snapshot.supervisor["host"] != socket.gethostname():
            where = f"on {snapshot.supervisor['host']}"
            return [SlotReading(name, attempts[name][0] if name in attempts else None, where) for name in names]
        gpus = {gpu.index: gpu for gpu in _read_gpus()} if any(map(_GPU_SLOT.match, names)) else {}
        heat = None if all(map(_GPU_SLOT.match, names)) else cpu_temperature_c()
        return [self._slot(name, attempts.get(name), gpus, heat) for name in names]

    def _slot(
        self, name: str, held: tuple[int, AttemptView] | None, gpus: dict[int, GpuReading], cpu_c: float | None
    ) -> SlotReading:
        trial, attempt = held or (None, None)
        found = _GPU_SLOT.match(name)
        if found is None:
            return self._cpu_slot(name, trial, attempt, cpu_c)
        gpu = gpus.get(int(found[1]))
        if gpu is None:
            return SlotReading(name, trial, "does not answer")
        return SlotReading(
            slot=name,
            trial=trial,
            device=gpu.name,
            memory_used_mb=gpu.memory_used_mb,
            memory_total_mb=gpu.memory_total_mb,
            utilisation=gpu.utilisation,
            temperature_c=gpu.temperature_c,
            throttled=gpu.throttled,
        )

    def _cpu_slot(
        self, name: str, trial: int | None, attempt: AttemptView | None, temperature_c: float | None
    ) -> SlotReading:
        cores = psutil.cpu_count() or 1
        device = f"CPU, {cores} core{'s' if cores > 1 else ''}"
        total = psutil.virtual_memory().total / MB
        used, load = self._worker(attempt) if attempt is not None else (None, None)
        return SlotReading(name, trial, device, used, total, load, temperature_c)

    def _worker(self, attempt: AttemptView) -> tuple[float | None, float | None]:
        """Return memory in MB and load in cores of a worker."""
        if attempt.pid is None or not process_alive(attempt.pid, attempt.pid_started):
            return None, None
        try:
            process = psutil.Process(attempt.pid)
            spent, now = sum(process.cpu_times()[:2]), time.time()
            since, before = self._cpu.get(attempt.pid, (process.create_time(), 0.0))
            memory = process.memory_info().rss / MB
        except psutil.Error:
            return None, None
        if now - since < 0.5:  # too short for the system's clock ticks
            return memory, None
        self._cpu[attempt.pid] = now, spent
        return memory, max(spent - before, 0.0) / (now - since)


def cpu_temperature_c() -> float | None:
    """Return the CPU's temperature in degrees Celsius, or None where the system does not tell."""
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    found = [entry.current for name in _CPU_SENSORS for entry in sensors.get(name, ())[:1]]
    return found[0] if found else None


def _read_gpus() -> list[GpuReading]:
    # Here, because the supervisor's package loads Optuna.
    from vbot_campaign.supervisor.gpus import read_gpus

    return read_gpus()
