"""TensorBoard is started as a module of this interpreter and ends with us."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from vbot_campaign.errors import CampaignError, StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.watch.address import Address, bind, free_port, is_loopback
from vbot_campaign.watch.tensorboard import command, log_folder

SERVE = """
import sys
from pathlib import Path
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.watch.tensorboard import serve
ready = lambda address: print(address.url, flush=True)
sys.exit(serve(CampaignPaths(Path(sys.argv[1])), "walk", port=int(sys.argv[2]), ready=ready))
"""


def test_a_study_or_everything_can_be_shown(tmp_path: Path) -> None:
    paths = CampaignPaths(tmp_path / "runs")
    with pytest.raises(StudyNotFoundError, match="no such folder"):
        log_folder(paths, None)
    paths.study("walk").root.mkdir(parents=True)
    assert log_folder(paths, "walk") == paths.root / "walk"
    assert log_folder(paths, None) == paths.root
    with pytest.raises(StudyNotFoundError, match=r"'wlak'.*Did you mean 'walk'\?"):
        log_folder(paths, "wlak")


def test_no_script_on_the_path_is_needed(tmp_path: Path) -> None:
    line = command(tmp_path, Address("127.0.0.1", 6007, 6006))
    assert line[:3] == [sys.executable, "-m", "tensorboard.main"]
    assert line[3:] == ["--logdir", str(tmp_path), "--host", "127.0.0.1", "--port", "6007"]


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        address = free_port("127.0.0.1", port)
    assert port < address.port < port + 20
    assert address.note == f"Port {port} is taken; using {address.port}."


def test_too_many_taken_ports_are_an_error_that_says_so() -> None:
    def listen(port: int) -> None:
        raise OSError(98, "Address already in use")

    with pytest.raises(CampaignError, match=r"ports 8080 to 8099 on 127\.0\.0\.1 .* --port"):
        bind("127.0.0.1", 8080, listen)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.9.9.9", True), ("0.0.0.0", False), ("box", False)],  # noqa: S104
)
def test_what_only_this_machine_can_reach(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_and_ends_with_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    paths = CampaignPaths(tmp_path / "runs")
    paths.study("walk").root.mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(paths.root), "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PATH": ""},
    )
    assert process.stdout is not None
    with process, process.stdout:
        url = process.stdout.readline().decode().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*/", url)
        assert "TensorBoard" in _read(url, timeout_s=300)
        process.send_signal(number)
        assert process.wait(timeout=300) == 0
    with pytest.raises(OSError, match="refused"):
        _read(url, timeout_s=0)


def _read(url: str, timeout_s: float) -> str:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=240) as answer:  # noqa: S310
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.25)
