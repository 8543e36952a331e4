"""Which process owns something, told apart from a later process with the same number."""

from __future__ import annotations

import functools
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

# The kernel's number never changes; elsewhere a correction of the clock moves it by a little.
_TOLERANCE_S = 0.005 if sys.platform == "linux" else 2.0


@dataclass(frozen=True)
class Owner:
    """A process of one host."""

    host: str
    pid: int
    pid_started: float
    """From `process_started`."""

    @classmethod
    @functools.cache
    def here(cls) -> Owner:
        """Return the calling process."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, process_started(pid))

    @property
    def is_local(self) -> bool:
        """Whether it runs, or ran, on this host."""
        return self.host == socket.gethostname()

    def is_alive(self) -> bool:
        """Tell whether the process still runs here; of another host's nothing is known, so it counts as dead."""
        return self.is_local and process_alive(self.pid, self.pid_started)


def process_started(pid: int) -> float:
    """Return when a process started, to tell it from a later one with its number.

    On Linux these are seconds since the boot, which the kernel fixes with the process. Seconds since the epoch, as
    other systems have them, are worked out from the wall clock: whoever sets it moves the start of every process.

    Raises:
        psutil.NoSuchProcess: It has gone.
    """
    if sys.platform != "linux":
        return psutil.Process(pid).create_time()
    try:
        # The name stands in brackets and may hold brackets and spaces; the start is field 22, counted from 1.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def process_alive(pid: int | None, started: float | None) -> bool:
    """Tell whether the process that started at ``started`` still runs.

    Args:
        pid: Process number; None was never started.
        started: Its `process_started`; None takes any process of that number for it.
    """
    if pid is None:
        return False
    try:
        same = started is None or abs(process_started(pid) - started) < _TOLERANCE_S
        return same and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
