"""The machine in equal parts, one for each study that runs at the same time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence

from vbot_campaign.errors import CampaignError
from vbot_campaign.service.decisions import Share
from vbot_campaign.supervisor.gpus import gpu_uuids
from vbot_campaign.supervisor.slots import available_cores, visible_gpus

GPU = "gpu:"
CPU = "cpu:"


def divide(parallel: int, gpus: Sequence[str], cores: Sequence[int]) -> list[Share]:
    """Return the part of the machine that each of so many studies gets.

    Each has as many GPUs and as many CPU cores as any other, or one more. A single study has the whole machine,
    whatever that will be when it starts.

    Args:
        parallel: Studies at the same time.
        gpus: UUIDs.
        cores: Numbers of CPU cores.

    Raises:
        CampaignError: There are fewer GPUs, or fewer cores, than studies: two of them would share one.
    """
    if parallel == 1:
        return [()]
    for count, what in ((len(gpus) or parallel, "GPU"), (len(cores), "CPU core")):
        if count < parallel:
            there = f"is {count} {what}" if count == 1 else f"are {count} {what}s"
            raise CampaignError(
                f"--parallel {parallel}: there {there} to use, and no two studies share one. Give {count} at most; "
                "within a study, workers.slots_per_gpu and workers.slots say how many trials run side by side."
            )
    return [
        (
            *(f"{GPU}{uuid}" for uuid in gpus[place::parallel]),
            *(f"{CPU}{core}" for core in _part(cores, place, parallel)),
        )
        for place in range(parallel)
    ]


def _part(cores: Sequence[int], place: int, parallel: int) -> Sequence[int]:
    # Neighbours, because they share caches.
    return cores[len(cores) * place // parallel : len(cores) * (place + 1) // parallel]


def machine_shares(parallel: int) -> list[Share]:
    """Divide this machine, see `divide`; CUDA_VISIBLE_DEVICES and the affinity of this process limit what there is."""
    found = visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), gpu_uuids())
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    # A container's quota may be far less than the cores it sees: parts of those would each be taken for all of it.
    return divide(parallel, [uuid for _, uuid in found], list(usable)[: available_cores()])


def environment(share: Share, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a supervisor that is to find its share alone.

    Args:
        share: GPUs and cores; an empty one leaves everything.
        inherited: What it would have otherwise.
    """
    if not share:
        return dict(inherited)
    gpus = [part.removeprefix(GPU) for part in share if part.startswith(GPU)]
    return {**inherited, "CUDA_VISIBLE_DEVICES": ",".join(gpus)}


@contextlib.contextmanager
def affinity(share: Share) -> Iterator[None]:
    """Let processes that are started in the block have the cores of a share; a no-op where systems know no affinity.

    It is this thread's own affinity that changes, which a child inherits before it runs its first line.
    """
    cores = {int(part.removeprefix(CPU)) for part in share if part.startswith(CPU)}
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def in_words(share: Share) -> str:
    """Say what a share is: ``1 GPU, 8 cores``; empty for the whole machine."""
    gpus = sum(part.startswith(GPU) for part in share)
    cores = len(share) - gpus
    parts = [f"{count} {what}{'' if count == 1 else 's'}" for count, what in ((gpus, "GPU"), (cores, "core")) if count]
    return ", ".join(parts)
