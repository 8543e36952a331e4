"""Machines as far as the network can tell: namespaces with addresses of their own, and links that can be cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

CAN_MAKE_NETWORKS = (
    pytest.mark.skipif(shutil.which("ip") is None, reason="needs the program ip (iproute2)"),
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to make network namespaces"),
)


@dataclass(frozen=True)
class Machine:
    """A network of its own with one link to somewhere."""

    name: str
    """Of the namespace."""
    address: str
    """Its own."""
    peer: str
    """Address of the other end of the link."""
    plug: tuple[str, ...]
    """The end that is pulled, as arguments of `ip`."""

    @property
    def inside(self) -> tuple[str, ...]:
        """What the command line of a program on it begins with."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        """Take the plug out."""
        ip(*self.plug, "down")

    def restore(self) -> None:
        """Put the plug in again."""
        ip(*self.plug, "up")


def ip(*arguments: str | int) -> None:
    """Run the program of that name."""
    subprocess.run(["ip", *map(str, arguments)], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def machine(number: int) -> Iterator[Machine]:
    """Make a machine with a link to here.

    Args:
        number: From 1 on, another one for each machine.
    """
    link = f"vb{os.getpid() % 100_000}_{number}"
    here, there = f"10.213.{number}.1", f"10.213.{number}.2"
    with _namespace(number) as name:
        try:
            ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("addr", "add", f"{here}/24", "dev", link)
            ip("link", "set", link, "up")
            _plug_in(name, there)
            yield Machine(name, there, here, ("link", "set", link))
        finally:
            subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)


@contextlib.contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Make two machines with a link between them, and none to anywhere else."""
    with _namespace(1) as one, _namespace(2) as two:
        ip("-n", one, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", two)
        here, there = "10.213.0.1", "10.213.0.2"
        machines = Machine(one, here, there, _end(one)), Machine(two, there, here, _end(two))
        for each in machines:
            _plug_in(each.name, each.address)
        yield machines


def _end(name: str) -> tuple[str, ...]:
    return ("-n", name, "link", "set", "eth0")


def _plug_in(name: str, address: str) -> None:
    ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
    ip(*_end(name), "up")
    ip("-n", name, "link", "set", "lo", "up")


@contextlib.contextmanager
def _namespace(number: int) -> Iterator[str]:
    """Make a network without links; what still runs in it is killed in the end."""
    name = f"vbot{os.getpid()}_{number}"
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
    try:
        yield name
    finally:
        while _kill_all(name):
            time.sleep(0.1)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _kill_all(name: str) -> bool:
    """Kill what runs in a namespace; return whether there was anything."""
    found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout.split()
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    return bool(found)
