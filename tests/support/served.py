"""The dashboard as a person starts it, and requests to it over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vbot_campaign.paths import RUNS_VARIABLE


@dataclass(frozen=True)
class Reply:
    """Status, headers and body of an answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True)
class Served:
    """A dashboard that answers."""

    host: str
    port: int
    printed: str
    """The line with its address."""
    pid: int

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> Reply:
        """Send one request; ``Host`` and others may be given as headers."""
        with contextlib.closing(http.client.HTTPConnection(self.host, self.port, timeout=240)) as connection:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())


@contextlib.contextmanager
def dashboard(runs: Path, *options: str, **variables: str) -> Iterator[Served]:
    """Run ``vbot-campaign dashboard`` on a free port until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "vbot_campaign.cli", "dashboard", "--port", "0", *options],
        env={**os.environ, RUNS_VARIABLE: str(runs), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout:
        try:
            line = process.stdout.readline()
            found = re.search(r"http://([\d.]+):(\d+)/", line)
            assert found, line + process.stdout.read()
            host = "127.0.0.1" if found[1] == "0.0.0.0" else found[1]  # noqa: S104
            yield Served(host, int(found[2]), line, process.pid)
        finally:
            process.terminate()
            process.wait(240)
