"""How many attempts fit on a cluster, and what each asks for."""

from __future__ import annotations

import pytest

from vbot_campaign.errors import StudyError
from vbot_campaign.spec.study import WorkerSettings
from vbot_campaign.study.usage import is_gpu
from vbot_campaign.supervisor.raycluster.places import cluster_slots, demand

HEAD = {"memory": 8e9, "node:__internal_head__": 1.0}


def cpu_node(cpus):
    return {"CPU": float(cpus), "memory": 16e9}


def gpu_node(gpus, cpus):
    return {"GPU": float(gpus), **cpu_node(cpus)}


@pytest.mark.parametrize(
    ("nodes", "settings", "count", "threads"),
    [
        ([cpu_node(2)], {}, 2, 1),
        ([cpu_node(8)], {"slots": 2}, 2, 4),
        ([cpu_node(32)], {}, 8, 4),
        ([HEAD, cpu_node(4), cpu_node(4)], {"slots": 2}, 2, 4),
        # Five threads each would leave room for two on each of the larger nodes and none on the small one.
        ([cpu_node(10), cpu_node(10), cpu_node(4)], {"slots": 5}, 5, 4),
        ([cpu_node(2)], {"slots": 4}, 4, 1),
        ([gpu_node(2, 16)], {}, 2, 8),
        ([gpu_node(2, 16)], {"slots_per_gpu": 2, "slots": 1}, 4, 4),
        ([HEAD, gpu_node(1, 8), gpu_node(4, 8), cpu_node(64)], {}, 5, 2),
        ([gpu_node(8, 4)], {}, 8, 1),
    ],
)
def test_slots_follow_from_the_nodes(nodes, settings, count, threads):
    slots = cluster_slots(WorkerSettings(**settings), nodes)
    assert len(slots) == len({slot.name for slot in slots}) == count
    assert {(slot.threads.torch, slot.threads.physics) for slot in slots} == {(threads, threads)}
    has_gpus = any("GPU" in node for node in nodes)
    assert {is_gpu(slot.name) for slot in slots} == {has_gpus}
    assert {slot.device for slot in slots} == {"cuda:0" if has_gpus else "cpu"}


@pytest.mark.parametrize(
    ("node", "settings", "asked"),
    [
        (cpu_node(8), {"slots": 2}, {"num_cpus": 4, "num_gpus": 0}),
        (gpu_node(1, 6), {"slots_per_gpu": 3}, {"num_cpus": 2, "num_gpus": 0.3333}),
        (gpu_node(1, 1), {"slots_per_gpu": 16}, {"num_cpus": 1, "num_gpus": 0.0625}),
        (cpu_node(2), {"slots": 1, "memory_gb": 1.5}, {"num_cpus": 2, "num_gpus": 0, "memory": 1_500_000_000}),
    ],
)
def test_an_attempt_asks_for_its_share(node, settings, asked):
    workers = WorkerSettings(**settings)
    assert demand(cluster_slots(workers, [node])[0], workers) == asked


def test_what_no_node_can_give_is_refused():
    with pytest.raises(StudyError, match=r"has 1 nodes and none with a CPU .* --num-cpus N"):
        cluster_slots(WorkerSettings(), [HEAD])
    with pytest.raises(StudyError, match=r"memory_gb: 32 GB for an attempt, and the largest node .* has 16\.0 GB"):
        cluster_slots(WorkerSettings(memory_gb=32), [HEAD, cpu_node(4)])
