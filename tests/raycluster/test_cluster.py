"""Whole studies on a Ray cluster of three nodes: nodes and supervisors that die; and the same as on one machine."""

from __future__ import annotations

import contextlib
import time

import psutil
import pytest

from tests.support.builders import study_spec
from tests.support.campaign import Campaign, stable_lines
from tests.support.ray_study import attempts, checkpoints, progress, start, toy
from tests.support.toy_study import actions, alerts, decisions, wait_until
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.owner import process_alive
from vbot_campaign.study.snapshot import TrialState
from vbot_campaign.study.study import load_snapshot
from vbot_campaign.supervisor import resume_study, run_study
from vbot_campaign.supervisor.raycluster.launcher import RayLauncher

pytestmark = [pytest.mark.ray, pytest.mark.slow]
COMPLETE = TrialState.COMPLETE


@pytest.fixture
def paths(tmp_path):
    return CampaignPaths(tmp_path / "runs")


def resume(paths, cluster, iteration_s=0.01):
    launcher = RayLauncher(cluster.address)
    return resume_study(paths, "toy", worker_command=toy(iteration_s), poll_s=0.05, launcher=launcher)


@contextlib.contextmanager
def two_trials(paths, cluster):
    """Run a study of two trials in the block; a supervisor that is left at its end is killed."""
    supervisor = start(paths, cluster.address, 0.4, budget={"trials": 2})
    try:
        yield supervisor
    finally:
        supervisor.kill()
        supervisor.wait(240)


def both_placed(paths):
    """Tell whether it is known where the workers of both trials run: that comes a while after their attempts."""
    found = attempts(paths)
    return len(found) == 2 and all(attempt.pid for attempt in found)


def test_a_trial_whose_node_dies_goes_on_from_its_checkpoint_on_another(paths, ray_cluster):
    with two_trials(paths, ray_cluster) as supervisor:
        wait_until(lambda: checkpoints(paths, 0) >= 1 and both_placed(paths), 300)
        [victim, other] = attempts(paths)
        try:
            ray_cluster.kill_node_of(victim.pid)
            # What Ray loses with a node is ended, not left behind.
            wait_until(lambda: not process_alive(victim.pid, victim.pid_started), 300)
            wait_until(lambda: len(load_snapshot(paths, "toy").trials[0].attempts) == 2, 300)
        finally:
            ray_cluster.add_node()
        assert supervisor.wait(300) == 0
    snapshot = load_snapshot(paths, "toy")
    assert [trial.state for trial in snapshot.trials] == [COMPLETE] * 2
    first, second = snapshot.trials[0].attempts
    assert first.reason.startswith("lost with its place on the Ray cluster: ")
    assert "node" in first.reason
    assert first.exit_code is None
    assert second.first_env_step >= 5000
    assert second.pid != first.pid
    for trial in snapshot.trials:
        assert progress(paths, trial) == list(range(1000, 30_001, 1000))
    assert [attempt.pid for attempt in snapshot.trials[1].attempts] == [other.pid]


def test_a_supervisor_that_is_killed_finds_its_workers_and_nothing_is_trained_twice(paths, ray_cluster):
    with two_trials(paths, ray_cluster) as supervisor:
        wait_until(lambda: checkpoints(paths, 0) >= 1 and checkpoints(paths, 1) >= 1 and both_placed(paths), 300)
        supervisor.kill()
    before = attempts(paths)
    assert all(process_alive(attempt.pid, attempt.pid_started) for attempt in before)
    time.sleep(2)  # they train on meanwhile
    outcome = resume(paths, ray_cluster)
    assert [trial.state for trial in outcome.snapshot.trials] == [COMPLETE] * 2
    assert actions(paths).count("adopted") == 2
    for trial, attempt in zip(outcome.snapshot.trials, before, strict=True):
        assert [(one.pid, one.reason) for one in trial.attempts] == [(attempt.pid, "trained and evaluated")]
        assert progress(paths, trial) == list(range(1000, 30_001, 1000))
        assert len(trial.reports) == 10


def test_attempts_for_which_there_is_no_room_wait_and_are_not_taken_for_hung(paths, ray_cluster):
    # A worker may take 18 s for its start; the third one waits for longer than that.
    spec = study_spec(budget={"trials": 3}, workers={"num_envs": 100, "slots": 3, "watchdog_s": 6.0})
    outcome = run_study(paths, spec, worker_command=toy(0.8), poll_s=0.05, launcher=RayLauncher(ray_cluster.address))
    assert [trial.state for trial in outcome.snapshot.trials] == [COMPLETE] * 3
    assert [len(trial.attempts) for trial in outcome.snapshot.trials] == [1] * 3
    assert alerts(paths) == []
    # All were started at once, on slots of their own; the third one's time counts from when it had a place.
    started = [line["slot"] for line in decisions(paths) if line["action"] == "started"]
    assert started == ["ray:0", "ray:1", "ray:2"]
    *_, last = sorted((trial.attempts[0] for trial in outcome.snapshot.trials), key=lambda one: one.started)
    assert last.started >= min(trial.attempts[0].ended for trial in outcome.snapshot.trials)


def test_the_process_that_speaks_with_ray_may_die(paths, ray_cluster):
    launcher = RayLauncher(ray_cluster.address)
    killed = []

    def kill_once(decision):
        if decision.action == "reported" and not killed:
            [bridge] = [child for child in psutil.Process().children() if "raycluster.bridge" in str(child.cmdline())]
            bridge.kill()
            killed.append(bridge.pid)

    spec = study_spec(budget={"trials": 1}, workers={"num_envs": 100, "slots": 1})
    outcome = run_study(paths, spec, worker_command=toy(0.4), poll_s=0.05, launcher=launcher, progress=kill_once)
    [trial] = outcome.snapshot.trials
    assert len(killed) == 1
    assert [attempt.reason for attempt in trial.attempts] == ["trained and evaluated"]
    assert progress(paths, trial) == list(range(1000, 30_001, 1000))


def test_a_study_of_real_workers_is_the_same_on_ray_as_on_one_machine(tmp_path, ray_cluster):
    local, cluster = (Campaign(tmp_path / name) for name in ("local", "cluster"))
    small = {"budget": {"trials": 2}, "env_steps_per_trial": 8 * 512, "report_points": 2}
    for campaign, options in ((local, ()), (cluster, ("--launcher", "ray", "--address", ray_cluster.address))):
        campaign.folder.mkdir()
        campaign.call("run", campaign.write(**small), "--no-audit", *options)
    one, other = local.snapshot().trials, cluster.snapshot().trials
    assert [(t.state, t.parameters, t.score, t.reports) for t in one] == [
        (t.state, t.parameters, t.score, t.reports) for t in other
    ]
    assert [trial.state for trial in other] == [COMPLETE] * 2
    assert {trial.attempts[0].slot for trial in other} == {"ray:0"}
    for number in range(2):
        assert stable_lines(local.trial_folder(number)) == stable_lines(cluster.trial_folder(number))
        here = {checkpoint.path.rpartition("/")[2] for checkpoint in other[number].checkpoints}
        assert here == {path.name for path in cluster.trial_folder(number).checkpoints.glob("*.pt")}
        assert list(cluster.trial_folder(number).root.glob("events.out.tfevents.*"))
