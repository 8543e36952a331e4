"""A Ray cluster of hosts with networks of their own; the link of the one that trains is cut, for short and for long."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.network import CAN_MAKE_NETWORKS, Machine, two_machines
from tests.support.ray_cluster import ENVIRONMENT, LOOPBACK, STORE_BYTES
from tests.support.ray_study import attempts, checkpoints, progress, start
from tests.support.toy_study import actions, alerts, decisions, wait_until
from vbot_campaign import fs
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.owner import process_alive
from vbot_campaign.study.snapshot import AttemptView, TrialState
from vbot_campaign.study.study import load_snapshot

pytestmark = [
    pytest.mark.ray,
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # it waits far more than it computes, on a busy machine for long
    *CAN_MAKE_NETWORKS,
]
PORT = 6379
HEALTH = {
    # A node is asked every second and has two for its answer; after seven failures, some twenty seconds, it is dead.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "7",
}
CUT_S = 7.0
WATCHDOG_S = 5.0
"""Shorter than the cut."""
ITERATIONS = 20
SERVICE = 'until "$@"; do sleep 1; done'
"""Starts Ray again when it ends, and when it was not there within the half minute that it gives itself."""


@dataclass
class Service:
    """Ray on one machine."""

    process: subprocess.Popen[bytes]
    log: Path

    def starts(self) -> int:
        """Return how often it has started."""
        return self.log.read_text().count("Ray runtime started")

    def ends(self) -> int:
        """Return how often it has ended by itself."""
        return self.log.read_text().count("Some Ray subprocesses exited unexpectedly")


@dataclass
class Hosts:
    """Two machines with a link between them: the head and the supervisor on one, CPUs for two attempts on the other."""

    head: Machine
    node: Machine
    folder: Path
    services: list[Service]

    @property
    def address(self) -> str:
        """Of the cluster."""
        return f"{self.head.address}:{PORT}"

    @property
    def node_service(self) -> Service:
        """Of the node."""
        return self.services[1]

    def start_head(self) -> None:
        """Start the head, which trains nothing."""
        self._serve(self.head, "--head", f"--port={PORT}", "--include-dashboard=false", "--num-cpus=0")

    def start_node(self, machine: Machine, cpus: int) -> None:
        """Start a node."""
        self._serve(machine, f"--address={self.address}", f"--num-cpus={cpus}")

    def trained_by(self, attempt: AttemptView) -> int:
        """Return the last env step that an attempt has written on the node, fetched or not."""
        logs = self._work(self.node).glob("vbot-campaign-*/trial/*/metrics.jsonl")
        return last_step([line for log in logs for line in fs.read_lines(log)], attempt)

    def _work(self, machine: Machine) -> Path:
        return self.folder / "work" / machine.name

    def _serve(self, machine: Machine, *arguments: str) -> None:
        self._work(machine).mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{len(self.services)}.log"
        own = (f"--node-ip-address={machine.address}", f"--temp-dir={self.folder / machine.name[-1]}")
        lean = ("--disable-usage-stats", "--include-log-monitor=false", f"--object-store-memory={STORE_BYTES}")
        ray = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *own, *lean, *arguments)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*machine.inside, "sh", "-c", SERVICE, "sh", *ray],
                env={**os.environ, "TMPDIR": str(self._work(machine))},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.services.append(service := Service(process, log))
        wait_until(service.starts, 300)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed here (pip install 'vbot-campaign[ray]')")
    # Ray's sockets lie in there, and their paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="vb"))
    services: list[Service] = []
    try:
        with pytest.MonkeyPatch.context() as patch, two_machines() as (head, node):
            for name, value in {**ENVIRONMENT, **HEALTH, "RAY_AUTH_MODE": "token"}.items():
                patch.setenv(name, value)
            patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
            patch.delenv(LOOPBACK)
            hosts = Hosts(head, node, folder, services)
            hosts.start_head()
            hosts.start_node(node, 2)
            yield hosts
    finally:
        for service in services:
            service.process.wait(240)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def paths(tmp_path):
    return CampaignPaths(tmp_path / "runs")


@contextlib.contextmanager
def two_trials(paths, hosts, iteration_s):
    """Run a study of two trials in the block, which begins when both have a checkpoint and it is known where."""
    supervisor = start(
        paths,
        hosts.address,
        iteration_s,
        before=hosts.head.inside,
        budget={"trials": 2},
        env_steps_per_trial=ITERATIONS * 1000,
        workers={"num_envs": 100, "slots": 2, "watchdog_s": WATCHDOG_S},
    )
    try:
        wait_until(lambda: checkpoints(paths, 0) and checkpoints(paths, 1), 300)
        wait_until(lambda: all(attempt.pid for attempt in attempts(paths)), 300)
        yield supervisor
    finally:
        supervisor.kill()
        supervisor.wait(240)


def last_step(lines: list[dict[str, Any]], attempt: AttemptView) -> int:
    return max(line["env_steps"] for line in lines if line["token"] == attempt.token)


def fetched_of(paths, attempt):
    """Return the last env step of an attempt that has come back."""
    logs = paths.study("toy").trials.glob("*/metrics.jsonl")
    return last_step([line for log in logs for line in fs.read_lines(log)], attempt)


def assert_trained_once(paths):
    trials = load_snapshot(paths, "toy").trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert Counter(line["trial"] for line in decisions(paths) if line["action"] == "completed") == {0: 1, 1: 1}
    for trial in trials:
        assert progress(paths, trial) == list(range(1000, ITERATIONS * 1000 + 1, 1000))
        assert len(trial.reports) == 10
    return trials


def test_a_link_that_is_cut_for_some_seconds(paths, hosts):
    with two_trials(paths, hosts, 0.7) as supervisor:
        before = attempts(paths)
        hosts.node.cut()
        time.sleep(CUT_S)
        # The workers train on, and what they do does not come here.
        assert all(hosts.trained_by(one) > fetched_of(paths, one) + 3000 for one in before)
        hosts.node.restore()
        assert supervisor.wait(300) == 0
    for trial, attempt in zip(assert_trained_once(paths), before, strict=True):
        assert [(one.pid, one.reason) for one in trial.attempts] == [(attempt.pid, "trained and evaluated")]
    assert alerts(paths) == []
    assert hosts.node_service.ends() == 0


def test_a_link_that_is_cut_until_the_node_is_given_up(paths, hosts):
    with two_trials(paths, hosts, 1.0) as supervisor:
        before = attempts(paths)
        hosts.node.cut()
        # A machine with room for one of the two comes meanwhile.
        hosts.start_node(hosts.head, 1)
        wait_until(lambda: actions(paths).count("died") == 2, 300)
        wait_until(lambda: any(attempt.number == 2 and attempt.pid for attempt in attempts(paths)), 300)
        assert hosts.node_service.ends() == 0, "behind the cut nobody knows"
        hosts.node.restore()
        # The raylet learns that it was given up, and ends with all that ran on the node.
        wait_until(lambda: hosts.node_service.ends() == 1, 300)
        wait_until(lambda: not any(process_alive(one.pid, one.pid_started) for one in before), 300)
        assert supervisor.wait(300) == 0
    for trial in assert_trained_once(paths):
        first, second = trial.attempts
        assert first.reason.startswith("lost with its place on the Ray cluster: ")
        assert second.reason == "trained and evaluated"
        assert second.first_env_step >= 5000
        # The first attempt went on behind the cut, and nothing that it wrote there was taken.
        assert hosts.trained_by(first) > second.first_env_step
        assert fetched_of(paths, first) == second.first_env_step
    wait_until(lambda: hosts.node_service.starts() == 2, 300)
