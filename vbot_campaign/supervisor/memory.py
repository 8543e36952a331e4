"""Memory that ran out: whether the kernel killed a process for it, and with how many environments to go on."""

from __future__ import annotations

import math
from pathlib import Path

from vbot_campaign.spec.training import TrainingSpec

FLOOR_ENVS = 64
"""Fewer environments than these are not tried: PPO learns too little from them."""

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


class OomKills:
    """The kernel's count of processes it killed for their memory, where a worker lives.

    That is the ``oom_kill`` of the worker's control group (version 2), or of the whole machine where there is none.
    See https://docs.kernel.org/admin-guide/cgroup-v2.html, ``memory.events``.
    """

    def __init__(self, pid: int) -> None:
        """Start counting."""
        self._file = _counter(pid)
        self._before = _read(self._file)

    def has_risen(self) -> bool:
        """Tell whether a process was killed for its memory since this object was made."""
        return _read(self._file) > self._before


def fewer_envs(training: TrainingSpec) -> int | None:
    """Return half the environments of a training, or None when there are too few to halve.

    A rollout must still split into equal mini-batches, so it may be a little less than half; and a little more where
    half is below `FLOOR_ENVS`.
    """
    step = training.ppo.mini_batches // math.gcd(training.ppo.mini_batches, training.ppo.rollouts)
    half = training.num_envs // 2 // step * step
    least = -(-FLOOR_ENVS // step) * step
    fewer = max(half, least)
    return fewer if fewer < training.num_envs else None


def _counter(pid: int) -> Path:
    try:
        lines = (PROC / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        number, _, path = line.split(":", 2)
        events = CGROUPS / path.lstrip("/") / "memory.events"
        if number == "0" and events.exists():
            return events
    return PROC / "vmstat"


def _read(file: Path) -> int:
    try:
        entries = (line.split() for line in file.read_text().splitlines())
        return next((int(entry[1]) for entry in entries if entry[0] == "oom_kill"), 0)
    except (OSError, ValueError, IndexError):
        return 0
