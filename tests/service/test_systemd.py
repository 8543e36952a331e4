"""What systemd hears, over a real socket, and the unit file that goes with it."""

from __future__ import annotations

import configparser
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vbot_campaign.service.systemd import ServiceManager

UNIT = Path(__file__).parents[2] / "docker" / "vbot-campaign.service"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="systemd and its sockets are of Unix")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """Return a socket that listens as systemd's does, and what NOTIFY_SOCKET says of it."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract sockets are of Linux")
    name = f"@vbot-{tmp_path.name}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(name.replace("@", "\0") if name.startswith("@") else name)
        heard.settimeout(10)
        yield heard, name


def messages(heard: socket.socket) -> list[str]:
    heard.setblocking(False)
    found = []
    while True:
        try:
            found.append(heard.recv(4096).decode())
        except BlockingIOError:
            return found


def test_ready_status_and_stopping_arrive(manager: tuple[socket.socket, str]) -> None:
    heard, name = manager
    service = ServiceManager({"NOTIFY_SOCKET": name})
    service.ready()
    service.status("1 running")
    service.status("1 running")
    service.status("0 running")
    service.alive()
    service.stopping()
    assert messages(heard) == ["READY=1", "STATUS=1 running", "STATUS=0 running", "STOPPING=1"]


def test_the_watchdog_is_fed_at_half_of_its_limit(manager: tuple[socket.socket, str]) -> None:
    heard, name = manager
    now = 100.0
    service = ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "20000000"}, clock=lambda: now)
    for now in (100.0, 101.0, 109.9, 110.0, 110.5, 125.0):  # noqa: B007 - the clock reads it
        service.alive()
    assert messages(heard) == ["WATCHDOG=1"] * 3


def test_another_process_feeds_a_watchdog_that_is_not_ours(manager: tuple[socket.socket, str]) -> None:
    heard, name = manager
    ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}).alive()
    assert messages(heard) == []


def test_without_a_manager_and_with_one_that_is_gone_nothing_happens(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "nonsense"}):
        service = ServiceManager(environ)
        service.ready()
        service.alive()
        service.stopping()


# --- the unit -------------------------------------------------------------------------------------------------------


def test_the_unit_keeps_what_the_service_promises() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(UNIT, encoding="utf-8")
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["Restart"] == "on-failure"
    assert service["KillMode"] == "process", "supervisors outlive a service that crashes"
    assert service["OOMPolicy"] == "continue", "a worker without memory is the supervisor's business"
    assert int(service["WatchdogSec"]) >= 60
    assert int(service["TimeoutStopSec"]) > 120, "a worker has two minutes for its checkpoint"
    assert service["ExecStart"].endswith("vbot-campaign serve")
    assert unit["Install"]["WantedBy"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    # The program and the user that it names are those of another machine.
    program = tmp_path / "vbot-campaign"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = UNIT.read_text(encoding="utf-8")
    lines = [
        f"ExecStart={program} serve" if line.startswith("ExecStart=") else line
        for line in text.splitlines()
        if not line.startswith(("User=", "Group="))
    ]
    copy = tmp_path / UNIT.name
    copy.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=240
    )
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.name in line]
    assert complaints == []
    assert done.returncode == 0, done.stderr
