"""The supervisor's end of the pipe to the `Bridge`, which it starts, and starts again when it has died."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from vbot_campaign.errors import SpecError, StudyError

CONNECT_S = 60.0
"""Time for the bridge to start and to find the cluster."""
PING_S = 5.0
UNHEARD_S = 15.0
"""Time without an answer to a ping after which nothing is known of the cluster."""
RENEW_S = 60.0
"""Time without one after which the bridge is given up and another one is started."""
RETRY_S = 5.0
LEAVE_S = 15.0
_BRIDGE = "from vbot_campaign.supervisor.raycluster.bridge import main; main()"


@dataclass
class Ticket:
    """A request on its way."""

    kind: str | None = None
    """Of the answer, see `vbot_campaign.supervisor.raycluster.bridge`; None before it is there."""
    value: Any = None


class Link:
    """Asks the bridge, and never waits for it unless told to.

    Args:
        address: Of the cluster, as Ray writes it: ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._tickets: dict[int, Ticket] = {}
        self._number = 0
        self._started = self._heard = 0.0
        self._ping: Ticket | None = None
        self._pinged = 0.0

    @property
    def is_heard(self) -> bool:
        """Whether the cluster has answered of late."""
        return self._connection is not None and time.monotonic() - self._heard < UNHEARD_S

    def ask(self, operation: str, *arguments: Any) -> Ticket:
        """Send a request; where there is no bridge just now, nobody knows the answer."""
        return self._send(self._next_number(), operation, arguments)

    def need(self, operation: str, *arguments: Any) -> Any:
        """Send a request and wait for its answer; connect first, if that was not done.

        Raises:
            SpecError: Ray is not installed.
            StudyError: The cluster does not answer, or not as hoped.
        """
        self.open()
        ticket = self.ask(operation, *arguments)
        self.wait(ticket, CONNECT_S)
        if ticket.kind != "ok":
            raise StudyError(f"the Ray cluster at {self.address} does not answer: {ticket.value or 'no answer'}")
        return ticket.value

    def wait(self, ticket: Ticket, timeout_s: float) -> None:
        """Wait for an answer, so long at most."""
        deadline = time.monotonic() + timeout_s
        while ticket.kind is None and time.monotonic() < deadline:
            self._receive(0.05)

    def pump(self) -> None:
        """Take the answers that are there; see to it that there is a bridge, and that it hears from the cluster."""
        self._receive(0.0)
        now = time.monotonic()
        if self._process is None:
            return  # closed
        if self._connection is not None and now - max(self._heard, self._started) > RENEW_S:
            self._lose()
        if self._connection is None:
            if now - self._started > RETRY_S:
                self._spawn()
        elif self._ping is None and now - self._pinged > PING_S:
            self._ping, self._pinged = self.ask("nodes"), now

    def close(self) -> None:
        """Let the bridge finish what it was asked for, and end it. The next `need` starts another one."""
        if self._process is None:
            return
        if self._connection is not None:
            self.wait(self.ask("leave"), LEAVE_S)
        self._lose()
        self._process = None

    def open(self) -> None:
        """Connect to the cluster, if that was not done.

        Raises:
            SpecError: Ray is not installed.
            StudyError: No cluster answers at the address.
        """
        if self._process is not None:
            return
        if importlib.util.find_spec("ray") is None:
            raise SpecError("launcher ray: Ray is not installed. Install it with: pip install 'vbot-campaign[ray]'")
        self._spawn()
        ticket = self._tickets[0]
        self.wait(ticket, CONNECT_S)
        if ticket.kind != "ok":
            self._lose()
            self._process = None
            raise StudyError(
                f"no Ray cluster at address '{self.address}': {ticket.value or 'no answer'}. Start one with "
                "`ray start --head`, or name its address with --address HOST:PORT, see docs/ray.md."
            )

    def _spawn(self) -> None:
        self._connection, theirs = Pipe()
        self._tickets = {0: Ticket()}
        self._ping = None
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BRIDGE, str(theirs.fileno()), self.address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # a Ctrl-C in the terminal is for the supervisor alone
        )
        theirs.close()

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _send(self, number: int, operation: str, arguments: tuple[Any, ...]) -> Ticket:
        ticket = Ticket()
        if self._connection is None:
            ticket.kind = "silent"
            return ticket
        self._tickets[number] = ticket
        try:
            self._connection.send((number, operation, arguments))
        except OSError:
            self._lose()
        return ticket

    def _receive(self, timeout_s: float) -> None:
        if self._connection is None:
            time.sleep(timeout_s)
            return
        with contextlib.suppress(EOFError, OSError):
            while self._connection.poll(timeout_s):
                number, kind, value = self._connection.recv()
                timeout_s = 0.0
                self._take(self._tickets.pop(number, Ticket()), kind, value)
            return
        self._lose()

    def _take(self, ticket: Ticket, kind: str, value: Any) -> None:
        ticket.kind, ticket.value = kind, value
        if kind != "silent":
            self._heard = time.monotonic()
        if ticket is self._ping:
            self._ping = None

    def _lose(self) -> None:
        """End the bridge; nobody knows the answers that were to come."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for ticket in self._tickets.values():
            ticket.kind = "silent"
        self._tickets.clear()
