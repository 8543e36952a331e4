"""Which process owns something, told apart from a later process with the same number."""

from __future__ import annotations

import functools
import os
import socket
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Owner:
    """A process of one host."""

    host: str
    pid: int
    pid_started: float
    """Seconds since the epoch."""

    @classmethod
    @functools.cache
    def here(cls) -> Owner:
        """Return the calling process."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, psutil.Process(pid).create_time())

    @property
    def is_local(self) -> bool:
        """Whether it runs, or ran, on this host."""
        return self.host == socket.gethostname()

    def is_alive(self) -> bool:
        """Tell whether the process still runs here; of another host's nothing is known, so it counts as dead."""
        return self.is_local and process_alive(self.pid, self.pid_started)


def process_alive(pid: int | None, started: float | None) -> bool:
    """Tell whether the process that started at ``started`` still runs.

    Args:
        pid: Process number; None was never started.
        started: Its start time in seconds since the epoch. The clock of the boot may move it by a little.
    """
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        same = started is None or abs(process.create_time() - started) < 2.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
