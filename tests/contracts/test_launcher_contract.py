"""What every launcher does, with toy workers: processes of this machine, and actors of a Ray cluster."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from datetime import UTC, datetime

import pytest

from tests.support.builders import TOY_COMMAND, study_spec
from vbot_campaign import events, fs
from vbot_campaign.events import Ended, Result
from vbot_campaign.paths import StudyPaths, TrialPaths
from vbot_campaign.spec.training import TrialSpec
from vbot_campaign.study.owner import process_alive
from vbot_campaign.study.snapshot import AttemptView, TrialState, TrialView
from vbot_campaign.study.training import trial_training
from vbot_campaign.supervisor.launcher import LocalLauncher, Order
from vbot_campaign.supervisor.process import Exit

TIMEOUT_S = 300.0
LONG = 0.5
"""Seconds of an iteration in a training that is to be interrupted; 30 of them are a training."""


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def make_launcher(request):
    """Return what makes a launcher, as every supervisor has its own; all are closed in the end."""
    made = []

    def make():
        if request.param == "local":
            made.append(LocalLauncher())
        else:
            from vbot_campaign.supervisor.raycluster.launcher import RayLauncher

            made.append(RayLauncher(request.getfixturevalue("ray_cluster").address))
        return made[-1]

    yield make
    for launcher in made:
        launcher.close()
    if request.param == "ray":
        # Whatever was over is no more when its launcher has been closed; else it would keep its CPU for good.
        # That Ray still names an actor for a moment after its end is no matter.
        cluster, deadline = request.getfixturevalue("ray_cluster"), time.monotonic() + TIMEOUT_S
        while left := cluster.actors():
            assert time.monotonic() < deadline, left
            time.sleep(0.1)


@pytest.fixture
def launcher(make_launcher):
    return make_launcher()


@pytest.fixture
def paths(tmp_path):
    return StudyPaths(tmp_path / "toy")


STUDY = study_spec(workers={"num_envs": 100, "slots": 1})


def trial_view(*attempts):
    return TrialView(
        number=0, state=TrialState.RUNNING, reason="", parameters={"ppo.learning_rate": 3e-4}, score=None, parts=None,
        env_steps=0, reports={}, started=None, ended=None, folder="trials/0000_x", attempts=attempts,
    )  # fmt: skip


def attempt_view(process, spec):
    """Return what the database says of an attempt that a supervisor has started."""
    owner = process.owner
    return AttemptView(
        number=spec.attempt, token=spec.token, host=owner.host, pid=owner.pid, pid_started=owner.pid_started,
        slot=spec.slot, started=datetime.now(UTC), ended=None, reason=None, exit_code=None, first_env_step=0,
        last_env_step=0, memory_peak_mb=None,
    )  # fmt: skip


def start(launcher, paths, *, iteration_s=0.01, plan="{}", earlier=()):
    """Start the next attempt of the trial, as a supervisor does; return its process and its ``trial.json``."""
    trial = trial_view(*earlier)
    [slot] = launcher.slots(STUDY.workers)
    number = len(earlier) + 1
    spec = TrialSpec(
        study="toy", trial=0, attempt=number, token=f"{os.urandom(8).hex()}", training=trial_training(STUDY, trial),
        device=slot.device, slot=slot.name, threads=slot.threads, parameters=trial.parameters,
    )  # fmt: skip
    folder = TrialPaths(paths.root / "trials" / "0000_x")
    folder.root.mkdir(parents=True, exist_ok=True)
    fs.write_json(folder.spec, spec.model_dump(mode="json"))
    # The variables of a supervisor stay on its machine.
    command = ("env", f"TOY_ITERATION_S={iteration_s}", f"TOY_PLAN={plan}", *TOY_COMMAND)
    return launcher.start(Order(trial, spec, slot, folder, command, None, STUDY.workers)), spec


def folder_of(paths):
    return TrialPaths(paths.root / "trials" / "0000_x")


def until(process, condition):
    """Look at a worker, as a supervisor's loop does, until a condition holds; it must not end before."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def end_of(process):
    end = process.wait(TIMEOUT_S)
    assert end is not None, "timed out"
    return end


def iterations(paths):
    return [line["iteration"] for line in fs.read_lines(folder_of(paths).metrics)]


def files(paths):
    return {path.name for path in folder_of(paths).root.rglob("*") if path.is_file() and path.name[0] != "."}


def test_a_worker_trains_and_all_it_wrote_is_here(launcher, paths):
    process, spec = start(launcher, paths)
    assert end_of(process) == Exit(0)
    assert process.owner is not None
    assert iterations(paths) == list(range(1, 31))
    result = Result.read(folder_of(paths).result)
    assert (result.state, result.score, result.token) == (Ended.FINISHED, 1.0, spec.token)
    kept = {"trial.json", "metrics.jsonl", "worker.log", "result.json", "checkpoints.jsonl"}
    # What the worker's own rules have removed is removed here too.
    assert files(paths) == kept | {"agent_25000.pt", "agent_30000.pt", "best_agent.pt"}
    for line in fs.read_lines(folder_of(paths).checkpoint_log):
        if (file := folder_of(paths).checkpoints / line["file"]).exists() and not line.get("deleted"):
            assert fs.sha256(file) == line["sha256"]


def test_a_worker_that_fails_has_its_code_and_its_last_words(launcher, paths):
    process, _ = start(launcher, paths, plan='{"0": {"1": "exit at start 7"}}')
    assert end_of(process) == Exit(7)
    assert folder_of(paths).log.read_text() == "ModuleNotFoundError: No module named 'robots'\n"


def test_a_worker_that_is_asked_writes_a_checkpoint_and_ends(launcher, paths):
    process, _ = start(launcher, paths, iteration_s=LONG)
    until(process, lambda: len(iterations(paths)) >= 2)
    assert process.is_seen
    process.terminate()
    assert end_of(process) == Exit(0)
    result = Result.read(folder_of(paths).result)
    assert (result.state, result.reason) == (Ended.STOPPED, "SIGTERM")
    assert folder_of(paths).checkpoint(result.env_steps).exists()


def test_a_stop_request_reaches_the_worker(launcher, paths):
    process, spec = start(launcher, paths, iteration_s=LONG)
    until(process, lambda: len(iterations(paths)) >= 2)
    events.request_stop(folder_of(paths).stop_request, events.STOP_PRUNED, spec.token)
    assert end_of(process) == Exit(0)
    assert Result.read(folder_of(paths).result).reason == events.STOP_PRUNED


def test_a_worker_that_is_killed_leaves_what_it_had_written(launcher, paths):
    process, _ = start(launcher, paths, iteration_s=LONG)
    until(process, lambda: len(iterations(paths)) >= 2)
    process.kill()
    assert end_of(process) == Exit(-9)
    assert len(iterations(paths)) >= 2
    assert not folder_of(paths).result.exists()


def test_a_worker_that_dies_is_noticed_and_the_next_goes_on_from_its_checkpoint(launcher, paths):
    process, spec = start(launcher, paths, plan='{"0": {"1": "kill"}}')
    assert end_of(process) == Exit(-9)
    assert iterations(paths) == list(range(1, 17))
    first = fs.read_lines(folder_of(paths).metrics)[:15]
    process, _ = start(launcher, paths, earlier=(attempt_view(process, spec),))
    assert end_of(process) == Exit(0)
    lines = fs.read_lines(folder_of(paths).metrics)
    assert lines[:15] == first
    assert [line["iteration"] for line in lines] == list(range(1, 31))
    assert [line["attempt"] for line in lines] == [1] * 15 + [2] * 15


def test_another_launcher_finds_a_worker_that_lives_and_nothing_is_trained_twice(make_launcher, paths):
    first = make_launcher()
    process, spec = start(first, paths, iteration_s=0.2)
    until(process, lambda: len(iterations(paths)) >= 6)
    first.close()
    trial = trial_view(attempt_view(process, spec))
    adopted = make_launcher().adopt(paths, trial)
    until(adopted, lambda: adopted.owner is not None)
    assert adopted.owner == process.owner
    assert end_of(adopted).code in (0, None)
    assert iterations(paths) == list(range(1, 31))
    assert Result.read(folder_of(paths).result).token == spec.token
    process.poll()  # the first one is a parent that lives on, in this test alone


def test_nobody_is_found_where_the_worker_has_gone(make_launcher, paths):
    process, spec = start(make_launcher(), paths, iteration_s=LONG)
    until(process, lambda: len(iterations(paths)) >= 1)
    view = attempt_view(process, spec)
    process.kill()
    end_of(process)
    assert not process_alive(view.pid, view.pid_started)
    launcher = make_launcher()
    deadline = time.monotonic() + TIMEOUT_S
    # An actor goes a moment after its worker.
    while launcher.adopt(paths, trial_view(view)) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert launcher.adopt(paths, trial_view(dataclasses.replace(view, ended=datetime.now(UTC)))) is None


def test_a_frozen_worker_is_deaf_and_can_be_killed(launcher, paths):
    process, _ = start(launcher, paths, plan='{"0": {"1": "freeze"}}')
    until(process, lambda: len(iterations(paths)) >= 16)
    process.terminate()
    assert process.wait(1.0) is None
    process.kill()
    assert end_of(process) == Exit(-signal.SIGKILL)
