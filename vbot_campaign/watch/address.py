"""Where a local web page listens."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from vbot_campaign.errors import CampaignError

PORTS_TRIED = 20
LAST_PORT = 65535

T = TypeVar("T")


@dataclass(frozen=True)
class Address:
    """Host and port of a page that is being served."""

    host: str
    port: int
    wanted_port: int

    @property
    def url(self) -> str:
        """What to open in a browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    @property
    def note(self) -> str | None:
        """Why it is not the port that was asked for, or None when it is."""
        return None if self.port == self.wanted_port else f"Port {self.wanted_port} is taken; using {self.port}."


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_port(port: int) -> None:
    """Refuse what is no port.

    Raises:
        CampaignError: It is below 0 or above 65535.
    """
    if not 0 <= port <= LAST_PORT:
        raise CampaignError(f"--port {port}: expected 1 to {LAST_PORT}, or 0 to let the system choose.")


def bind(host: str, port: int, listen: Callable[[int], T]) -> tuple[T, Address]:
    """Listen on ``port``, or on the next one that is free.

    Args:
        host: Name or number, for messages.
        port: Wanted port; 0 lets the system choose.
        listen: Listens on a port, or raises OSError.

    Returns:
        What ``listen`` returned, and the address.

    Raises:
        CampaignError: The host is not one of this machine, or 20 ports in a row are taken.
    """
    last = min(port + PORTS_TRIED - 1, LAST_PORT)
    for candidate in range(port, last + 1) if port else (0,):
        try:
            return listen(candidate), Address(host, candidate, port)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise CampaignError(
                    f"cannot listen on {host}:{candidate}: {error.strerror or error}. "
                    "Give an address of this machine, such as 127.0.0.1."
                ) from None
    raise CampaignError(f"ports {port} to {last} on {host} are taken or not allowed; choose another with --port.")


def free_port(host: str, port: int) -> Address:
    """Return the address of the first free port from ``port`` on, for a server in another process."""

    def listen(candidate: int) -> int:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, candidate))
            chosen: int = probe.getsockname()[1]
            return chosen

    chosen, address = bind(host, port, listen)
    return address if port else Address(host, chosen, chosen)
