"""What systemd is told, see sd_notify(3): that the service is ready, what it does, that it lives, that it stops."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Callable, Mapping

SOCKET = "NOTIFY_SOCKET"
VARIABLES = (SOCKET, "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""Of systemd's agreement with the service itself, so no child gets them."""


class ServiceManager:
    """Whoever started the service: systemd, or nobody who listens.

    Args:
        environ: NOTIFY_SOCKET has a path, or the name of an abstract socket after an ``@``; WATCHDOG_USEC the
            microseconds after which a silent service is killed, unless WATCHDOG_PID is another process.
        clock: Monotonic seconds.
    """

    def __init__(self, environ: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        name = environ.get(SOCKET, "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        ours = environ.get("WATCHDOG_PID") in (None, str(os.getpid()))
        limit = environ.get("WATCHDOG_USEC", "") if ours else ""
        # Half of the limit, as sd_watchdog_enabled(3) advises.
        self._every_s = int(limit) / 1e6 / 2 if limit.isdecimal() and int(limit) else None
        self._clock = clock
        self._alive_at = -math.inf
        self._status = ""

    def ready(self) -> None:
        """Say that the service answers."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that it is about to end."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Say what it does, in one line; the same line is said once."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Say that the main loop came round; as often as the watchdog asks for and no more."""
        if self._every_s is not None and self._clock() - self._alive_at >= self._every_s:
            self._alive_at = self._clock()
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        # A manager that does not hear must not end the studies.
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(1.0)
                channel.sendto(message.encode(), self._address)
