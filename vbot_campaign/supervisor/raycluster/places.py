"""How many attempts fit on a cluster at once, and what each needs of its node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vbot_campaign.errors import StudyError
from vbot_campaign.spec.study import WorkerSettings
from vbot_campaign.spec.training import ThreadSettings
from vbot_campaign.study.usage import RAY
from vbot_campaign.supervisor.slots import DEFAULT_CPU_SLOTS, Slot

Node = Mapping[str, float]
"""A node's resources by Ray's names: ``CPU``, ``GPU``, ``memory`` in bytes."""
_GB = 1_000_000_000
_GRAIN = 10_000
"""Ray counts shares of a GPU in ten-thousandths."""


def cluster_slots(settings: WorkerSettings, nodes: Sequence[Node]) -> tuple[Slot, ...]:
    """Return the slots of a cluster; which node an attempt runs on is Ray's to decide.

    As on one machine, every GPU gives `slots_per_gpu`, and where there is none there are `slots`, or one per CPU.

    Args:
        settings: Of the study.
        nodes: The nodes that live.

    Raises:
        StudyError: No node could ever run an attempt.
    """
    _check_memory(settings, nodes)
    with_gpus = [node for node in nodes if _count(node, "GPU") > 0]
    if with_gpus:
        per_gpu = settings.slots_per_gpu
        share = min(_count(node, "CPU") // (_count(node, "GPU") * per_gpu) for node in with_gpus)
        _check_cpus(with_gpus)
        threads = _threads(max(1, share))
        count = sum(_count(node, "GPU") for node in with_gpus) * per_gpu
        return tuple(Slot(f"{RAY}gpu:{index}", "cuda:0", "", threads) for index in range(count))
    _check_cpus(nodes)
    cpus = [_count(node, "CPU") for node in nodes]
    count = settings.slots or min(sum(cpus), DEFAULT_CPU_SLOTS)
    threads = _threads(_share(cpus, count))
    return tuple(Slot(f"{RAY}{index}", "cpu", "", threads) for index in range(count))


def demand(slot: Slot, settings: WorkerSettings) -> dict[str, Any]:
    """Return what an attempt needs of its node, as options of a Ray actor."""
    needs: dict[str, Any] = {"num_cpus": slot.threads.torch, "num_gpus": 0}
    if slot.device != "cpu":
        needs["num_gpus"] = _GRAIN // settings.slots_per_gpu / _GRAIN
    if settings.memory_gb is not None:
        needs["memory"] = int(settings.memory_gb * _GB)
    return needs


def _share(cpus: Sequence[int], count: int) -> int:
    """Return the most CPUs that so many attempts can have at once, each on one node; 1 where they cannot."""
    shares = range(sum(cpus) // count, 1, -1)
    return next((share for share in shares if sum(cpu // share for cpu in cpus) >= count), 1)


def _threads(count: int) -> ThreadSettings:
    return ThreadSettings(torch=count, physics=count)


def _count(node: Node, resource: str) -> int:
    return int(node.get(resource, 0))


def _check_cpus(nodes: Sequence[Node]) -> None:
    if not any(_count(node, "CPU") > 0 for node in nodes):
        raise StudyError(
            f"the Ray cluster has {len(nodes)} nodes and none with a CPU for an attempt; start one with "
            "`ray start --address HOST:PORT --num-cpus N`."
        )


def _check_memory(settings: WorkerSettings, nodes: Sequence[Node]) -> None:
    largest = max((node.get("memory", 0.0) for node in nodes), default=0.0) / _GB
    if settings.memory_gb is not None and settings.memory_gb > largest:
        raise StudyError(
            f"workers.memory_gb: {settings.memory_gb:g} GB for an attempt, and the largest node of the Ray cluster has "
            f"{largest:.1f} GB. Ask for less, or add a node."
        )
