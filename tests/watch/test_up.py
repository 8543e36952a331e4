"""`up` as a person starts it: two servers, two addresses, one end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.support.stored_study import store_study
from vbot_campaign.cli import app
from vbot_campaign.errors import CampaignError
from vbot_campaign.paths import RUNS_VARIABLE, CampaignPaths
from vbot_campaign.study.study import close_readers

PATIENCE_S = 300.0


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("up") / "runs"
    store_study(CampaignPaths(root))
    yield root
    close_readers()


@dataclass
class Up:
    """A running `up`."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def read_until(self, text: str) -> None:
        """Read what it prints up to a line with this text."""
        assert self.process.stdout is not None
        while not any(text in line for line in self.lines):
            line = self.process.stdout.readline()
            assert line, "".join(self.lines)
            self.lines.append(line)

    def url(self, name: str) -> str:
        """Return the address of one of the two."""
        found = re.search(rf"^{name}: +(http\S+)", "".join(self.lines), flags=re.MULTILINE)
        assert found, self.lines
        return found[1]


@contextlib.contextmanager
def up(runs: Path, *options: str) -> Iterator[Up]:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "vbot_campaign.cli", "up", "walk", *options],
        env={**os.environ, RUNS_VARIABLE: str(runs)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            started = Up(process)
            started.read_until("Ctrl-C ends both.")
            yield started
        finally:
            process.terminate()
            process.wait(240)


def get(url: str) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=240) as answer:  # noqa: S310
                return str(answer.read().decode())
        except OSError:
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.25)


def child_of(process: subprocess.Popen[str]) -> psutil.Process:
    [child] = psutil.Process(process.pid).children()
    return child


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_answer_and_a_signal_ends_both(runs: Path, number: signal.Signals) -> None:
    with up(runs, "--port", "0", "--tensorboard-port", "0") as both:
        assert "optuna" in get(f"{both.url('Dashboard')}dashboard").lower()
        assert "TensorBoard" in get(both.url("TensorBoard"))
        assert "TensorBoard" in get(f"{both.url('Dashboard')}tensorboard"), "the dashboard's link leads there"
        child = child_of(both.process)
        both.process.send_signal(number)
        assert both.process.wait(240) == 0
        assert not child.is_running()
        assert "has ended" not in (both.process.stdout.read() if both.process.stdout else "")


@pytest.mark.slow
def test_taken_ports_are_passed_over_and_the_death_of_tensorboard_is_said(runs: Path) -> None:
    with socket.socket() as first, socket.socket() as second:
        ports = []
        for taken in (first, second):
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            ports.append(taken.getsockname()[1])
        with up(runs, "--port", str(ports[0]), "--tensorboard-port", str(ports[1])) as both:
            printed = "".join(both.lines)
            assert all(f"Port {port} is taken; using" in printed for port in ports)
            child_of(both.process).kill()
            both.read_until("TensorBoard has ended (exit code -9). The dashboard goes on.")
            assert "walk" in get(f"{both.url('Dashboard')}api/studies")


def test_one_port_for_both_is_refused(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    monkeypatch.setenv(RUNS_VARIABLE, str(runs))
    result = CliRunner().invoke(app, ["up", "--port", "6006"])
    assert isinstance(result.exception, CampaignError)
    assert "--port 6006: is also --tensorboard-port" in str(result.exception)
