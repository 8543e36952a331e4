"""Memory that ran out."""

from __future__ import annotations

import pytest

from vbot_campaign.spec.training import PpoSettings, TrainingSpec
from vbot_campaign.supervisor import memory
from vbot_campaign.supervisor.memory import OomKills, fewer_envs


@pytest.mark.parametrize(
    ("num_envs", "rollouts", "mini_batches", "fewer"),
    [
        (2048, 24, 4, 1024),
        (1000, 24, 4, 500),
        (129, 24, 4, 64),
        (100, 24, 4, 64),
        (65, 24, 4, 64),
        (64, 24, 4, None),
        (32, 24, 4, None),
        # 16 mini-batches of 24 steps: the environments come in twos
        (250, 24, 16, 124),
        # 32 mini-batches of 25 steps: in 32s
        (1056, 25, 32, 512),
        (160, 25, 32, 64),
        # 48 of 25: in 48s, of which 96 is the least that reaches 64
        (144, 25, 48, 96),
        (96, 25, 48, None),
    ],
)
def test_half_the_environments_but_no_fewer_than_64_and_equal_mini_batches(num_envs, rollouts, mini_batches, fewer):
    ppo = PpoSettings(rollouts=rollouts, mini_batches=mini_batches)
    found = fewer_envs(TrainingSpec(env_steps=10**7, num_envs=num_envs, ppo=ppo))
    assert found == fewer
    assert found is None or found * rollouts % mini_batches == 0


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Put our own files in place of the kernel's: a real kill for want of memory would hit whoever it likes."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "7").mkdir(parents=True)
    (proc / "vmstat").write_text("pgfault 9\noom_kill 4\n")
    (cgroups / "jobs" / "a").mkdir(parents=True)
    monkeypatch.setattr(memory, "PROC", proc)
    monkeypatch.setattr(memory, "CGROUPS", cgroups)
    return proc, cgroups / "jobs" / "a" / "memory.events"


def test_a_kill_is_seen_in_the_control_group_of_the_worker(system):
    proc, events = system
    (proc / "7" / "cgroup").write_text("1:name=systemd:/\n0::/jobs/a\n")
    events.write_text("low 0\noom 2\noom_kill 2\n")
    kills = OomKills(7)
    (proc / "vmstat").write_text("oom_kill 5\n")  # somewhere else on this machine
    assert not kills.has_risen()
    events.write_text("low 0\noom 3\noom_kill 3\n")
    assert kills.has_risen()
    assert not OomKills(7).has_risen()


def test_without_control_groups_a_kill_on_the_machine_counts(system):
    proc, _ = system
    (proc / "7" / "cgroup").write_text("4:memory:/jobs/a\n0::/jobs/a\n")
    kills = OomKills(7)
    assert not kills.has_risen()
    (proc / "vmstat").write_text("oom_kill 5\n")
    assert kills.has_risen()


def test_a_system_without_such_counts_sees_none(system):
    (system[0] / "vmstat").unlink()
    assert not OomKills(7).has_risen()


def test_the_counts_of_this_machine_can_be_read():
    assert not OomKills(1).has_risen()
