"""A real Ray cluster of several nodes on this machine, on the loopback alone, in a process of its own.

Run as a program it is that process: it starts the nodes, says where they are and removes those that it is told to.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 0, gives every node the address 127.0.0.1, whatever other addresses this machine has."""
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray gives way to all else on the machine; the tests shall not wait for what else runs.
    "RAY_worker_niceness": "0",
    LOOPBACK: "0",
    # As on a real node, the program is installed where workers run.
    "PYTHONPATH": str(Path(__file__).parents[2]),
}
STORE_BYTES = 80 << 20
STARTS = 3
"""Ray gives itself half a minute to come up, whatever it is told; on a busy machine that is too short at times."""


@dataclass
class RayCluster:
    """A cluster that runs: a head without CPUs, and nodes with some."""

    process: subprocess.Popen[str]
    address: str
    raylets: list[int]
    """Numbers of the processes of its nodes, the head's not among them."""

    def add_node(self, cpus: int = 1) -> None:
        """Add a node."""
        self.raylets.append(self._tell({"add": cpus})["raylet"])

    def actors(self) -> list[str]:
        """Return the names of the actors that live."""
        names: list[str] = self._tell({"actors": True})["names"]
        return names

    def kill_node_of(self, pid: int) -> None:
        """Kill every process of the node that a worker runs on, and the worker with it."""
        above = {parent.pid for parent in psutil.Process(pid).parents()}
        [raylet] = above & set(self.raylets)
        self.raylets.remove(raylet)
        self._tell({"remove": raylet})

    def _tell(self, what: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        answer = _answer(self.process)
        assert answer is not None, "the cluster broke down"
        return answer


@contextlib.contextmanager
def running_cluster(nodes: int) -> Iterator[RayCluster]:
    """Run a cluster of a head and some nodes of one CPU each; tests are skipped where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed here (pip install 'vbot-campaign[ray]')")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        cluster = _started(nodes)
        try:
            yield cluster
        finally:
            _end(cluster.process)


def _started(nodes: int) -> RayCluster:
    """Start a cluster, once more where Ray has given up."""
    for _ in range(STARTS):
        process = subprocess.Popen(
            [sys.executable, __file__, str(nodes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        answer = _answer(process)
        if answer is not None:
            return RayCluster(process, **answer)
        _end(process)
    raise AssertionError(f"the cluster did not start, {STARTS} times")


def _end(process: subprocess.Popen[str]) -> None:
    with process:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(300)


def _answer(process: subprocess.Popen[str]) -> dict[str, Any] | None:
    """Return what a cluster answers; None where it has ended instead."""
    assert process.stdout is not None
    line = process.stdout.readline()
    answer: dict[str, Any] | None = json.loads(line) if line else None
    return answer


def main() -> None:
    """Start a cluster, and do what is told in lines on the standard input until that is closed."""
    import ray
    from ray.cluster_utils import Cluster

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what Ray prints is no answer
    settings = {"object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **settings})
    nodes: dict[int, Any] = {}

    def add(cpus: int) -> int:
        node = cluster.add_node(num_cpus=cpus, **settings)
        pid = int(node.all_processes["raylet"][0].process.pid)
        nodes[pid] = node
        return pid

    raylets = [add(1) for _ in range(int(sys.argv[1]))]
    answers.write(json.dumps({"address": cluster.address, "raylets": raylets}) + "\n")
    for line in sys.stdin:
        what = json.loads(line)
        if "add" in what:
            answers.write(json.dumps({"raylet": add(what["add"])}) + "\n")
        elif "actors" in what:
            ray.init(cluster.address, ignore_reinit_error=True, log_to_driver=False)
            names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
            answers.write(json.dumps({"names": names}) + "\n")
        else:
            cluster.remove_node(nodes.pop(what["remove"]), allow_graceful=False)
            answers.write("{}\n")
    cluster.shutdown()


if __name__ == "__main__":
    main()
