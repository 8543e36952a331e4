"""Where attempts run: shares of GPUs found through NVML, or shares of the CPU where there is none."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pynvml

from vbot_campaign.spec.settings import STORAGE_VARIABLE
from vbot_campaign.spec.study import WorkerSettings
from vbot_campaign.spec.training import ThreadSettings
from vbot_campaign.supervisor.gpus import Nvml, gpu_uuids
from vbot_campaign.supervisor.notify import VARIABLE as NOTIFY_VARIABLE

DEFAULT_CPU_SLOTS = 8
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Slot:
    """The right to run one attempt."""

    name: str
    """``cpu:0``, ``gpu:1``, or ``gpu:1.0`` where several share a GPU."""
    device: str
    """What the worker calls it: ``cpu`` or ``cuda:0``."""
    visible_devices: str
    """CUDA_VISIBLE_DEVICES of the worker: a UUID, or nothing."""
    threads: ThreadSettings


def discover_slots(
    settings: WorkerSettings, environ: Mapping[str, str] | None = None, nvml: Nvml = pynvml, cores: int | None = None
) -> tuple[Slot, ...]:
    """Return the slots of this machine.

    Args:
        settings: `slots_per_gpu`, and `slots` for machines without a GPU.
        environ: Environment; its CUDA_VISIBLE_DEVICES limits the GPUs, and an empty one leaves the CPU.
        nvml: NVML.
        cores: CPU cores to share; by default those this process may use.
    """
    environ = os.environ if environ is None else environ
    cores = available_cores() if cores is None else cores
    gpus = visible_gpus(environ.get("CUDA_VISIBLE_DEVICES"), gpu_uuids(nvml))
    if not gpus:
        return _cpu_slots(settings.slots or min(cores, DEFAULT_CPU_SLOTS), cores)
    per_gpu = settings.slots_per_gpu
    threads = _threads(cores, len(gpus) * per_gpu)
    return tuple(
        Slot(f"gpu:{index}" if per_gpu == 1 else f"gpu:{index}.{share}", "cuda:0", uuid, threads)
        for share in range(per_gpu)  # all GPUs get their first worker before any gets a second
        for index, uuid in gpus
    )


def visible_gpus(visible: str | None, uuids: list[str]) -> list[tuple[int, str]]:
    """Return index and UUID of the GPUs that CUDA_VISIBLE_DEVICES leaves.

    Args:
        visible: Its value: indices, UUIDs or their beginnings, separated by commas; None leaves all.
        uuids: UUIDs of all GPUs.

    As in CUDA, an entry that names no GPU hides all that follow it. A MIG device is passed on under its own name.
    """
    if visible is None:
        return list(enumerate(uuids))
    chosen: list[tuple[int, str]] = []
    for entry in (part.strip() for part in visible.split(",")):
        found = _find_gpu(entry, uuids, len(chosen))
        if found is None or found in chosen:
            break
        chosen.append(found)
    return chosen


def _find_gpu(entry: str, uuids: list[str], position: int) -> tuple[int, str] | None:
    if entry.startswith("MIG-"):
        return position, entry
    if entry.isdigit():
        return (int(entry), uuids[int(entry)]) if int(entry) < len(uuids) else None
    matches = [(i, uuid) for i, uuid in enumerate(uuids) if entry.startswith("GPU-") and uuid.startswith(entry)]
    return matches[0] if len(matches) == 1 else None


def available_cores(cgroup: Path = _CGROUP) -> int:
    """Return the CPU cores this process may use: its affinity, and the quota of its control group (containers)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_cores(cgroup)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _cgroup_cores(cgroup: Path) -> float | None:
    try:
        if (cgroup / "cpu.max").exists():  # version 2
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        return float(quota) / float(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError):
        return None


def slots_to_keep(held: Sequence[str], slots: Sequence[str]) -> list[str]:
    """Return the slots that workers take which run already.

    Args:
        held: Where each of them was started.
        slots: The slots there are now.

    Returns:
        For each its own slot if that still exists; else a free one, of the same GPU if there is one; and its own name
        when all are taken, so that no two share a slot.
    """
    free = [slot for slot in slots if slot not in held]
    kept = []
    for name in held:
        if free and (name not in slots or name in kept):
            kept.append(min(free, key=lambda slot: _gpu(slot) != _gpu(name)))
            free.remove(kept[-1])
        else:
            kept.append(name)
    return kept


def _gpu(slot: str) -> str:
    return slot.partition(".")[0]


def worker_environment(slot: Slot, threads: ThreadSettings, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a worker.

    Args:
        slot: Where it runs.
        threads: Thread counts of its trial.
        environ: What it inherits; by default this process's environment.
    """
    count = str(threads.torch)
    inherited = os.environ if environ is None else environ
    return {
        # Addresses hold secrets, and a worker may be anyone's code.
        **{name: value for name, value in inherited.items() if name not in (NOTIFY_VARIABLE, STORAGE_VARIABLE)},
        "CUDA_VISIBLE_DEVICES": slot.visible_devices,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        # Two OpenMP pools that spin while they wait make each other 5 to 17 times slower.
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "PYTHONUNBUFFERED": "1",
    }


def _cpu_slots(count: int, cores: int) -> tuple[Slot, ...]:
    return tuple(Slot(f"cpu:{i}", "cpu", "", _threads(cores, count)) for i in range(count))


def _threads(cores: int, slots: int) -> ThreadSettings:
    share = max(1, cores // slots)
    return ThreadSettings(torch=share, physics=share)
