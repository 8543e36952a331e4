"""How long people wait for a look at a large study, and what a terminal that keeps looking costs."""

from __future__ import annotations

import contextlib
import os
import pty
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.benchmarks.rows import Row
from tests.support.large_study import BUDGET, store_large_study
from tests.support.served import dashboard
from vbot_campaign.exporters.mirrors import MirrorExporter
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import CampaignStudy
from vbot_campaign.study.owner import Owner

TRIALS = 2000
SMALL = 8
"""Trials of the study that `status --watch` is held to its promise with: as many as the quickstart has."""
COMMAND = (sys.executable, "-m", "vbot_campaign.cli")
FIRST_VIEW = ("/dashboard/studies/1", "/api/meta", "/api/studies", "/api/studies/1?after=0")
"""What the dashboard's page asks for before it draws a study."""


def measure(folder: Path, quick: bool) -> list[Row]:
    """Store a large study whose supervisor is this process, and look at it in every way."""
    trials = 200 if quick else TRIALS
    large, small = CampaignPaths(folder / "large"), CampaignPaths(folder / "small")
    with _running(large, trials) as study, _running(small, SMALL):
        return [
            Row("status", _command_s(large, "status", "big"), "s", 2, ceiling=1, note="whole process"),
            Row("status --json", _command_s(large, "status", "big", "--json"), "s", 2, note="whole process"),
            *_mirrors(large, study),
            Row("report", _command_s(large, "report", "big", times=1), "s", 1, ceiling=20, note="whole process"),
            *_dashboard(large),
            *_watch(small, "status --watch, 8 trials", 5.0 if quick else 20.0, promised=True),
            *_watch(large, "status --watch, this study", 5.0 if quick else 20.0, promised=False),
        ]


@contextlib.contextmanager
def _running(paths: CampaignPaths, trials: int) -> Iterator[CampaignStudy]:
    """Store a study that looks as if it ran: this process holds its lease, and one more trial is being trained."""
    study = store_large_study(paths, trials)
    study.ledger.begin_session(Owner.here(), ["cpu:0"], 3600.0)
    study.set_status("running", "")
    study.ask()
    study.ledger.open_attempt(trials, slot="cpu:0", first_env_step=0)
    try:
        yield study
    finally:
        study.close()


def _command_s(paths: CampaignPaths, *words: str, times: int = 3) -> float:
    """Return the seconds that a command takes from its start to its end: the median of some runs."""
    command = [*COMMAND, "--runs", str(paths.root), *words]
    return statistics.median(
        _seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(times)
    )


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _mirrors(paths: CampaignPaths, study: CampaignStudy) -> list[Row]:
    """Change one trial some times over, and bring the mirrors up to date after each change."""
    exporter = MirrorExporter(paths, "big")
    first = _seconds(lambda: exporter.update(study.snapshot()))
    resumed = _seconds(lambda: MirrorExporter(paths, "big").update(study.snapshot()))
    number = len(study.snapshot().trials) - 1
    updates, pictures = [], []
    for point in range(1, 8):
        study.report(number, BUDGET * point // 30, 0.1 * point)
        study.ledger.update_trial(number, env_steps=BUDGET * point // 30)
        begun = time.perf_counter()
        snapshot = study.snapshot()
        pictures.append(time.perf_counter() - begun)
        updates.append(_seconds(lambda shown=snapshot: exporter.update(shown)))  # type: ignore[misc]
    return [
        Row("mirrors, all trials", first, "s", 1, note="the first time"),
        Row("mirrors, after a resume", resumed, "s", 1, note="all are rendered, none has changed"),
        Row("mirrors, one changed trial", statistics.median(updates), "s", 3, ceiling=0.3),
        Row("  picture of the study for it", statistics.median(pictures), "s", 3),
    ]


def _dashboard(paths: CampaignPaths) -> list[Row]:
    with dashboard(paths.root) as served:
        times = {path: _seconds(lambda path=path: served.ask("GET", path)) for path in FIRST_VIEW}  # type: ignore[misc]
        size = len(served.ask("GET", FIRST_VIEW[-1]).body)
        again = _seconds(lambda: served.ask("GET", FIRST_VIEW[-1]))
    slowest = max(times, key=lambda path: times[path])
    return [
        Row("dashboard, first view", sum(times.values()), "s", 2, ceiling=5, note=f"slowest {slowest}"),
        Row("  the study once more", again, "s", 2, note=f"{size / 1e6:.1f} MB"),
    ]


def _watch(paths: CampaignPaths, name: str, seconds: float, *, promised: bool) -> list[Row]:
    """Run ``status --watch`` on a terminal of 24 lines and return its start-up and its share of a core."""
    ours, theirs = pty.openpty()
    command = [*COMMAND, "--runs", str(paths.root), "status", "big", "--watch"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        started = _until_shown(ours, b"big") - begun
        reader = threading.Thread(target=_drain, args=(ours,))
        reader.start()
        share = _share_of_core(process.pid, seconds)
    finally:
        process.terminate()
        process.wait(30)
        reader.join(30)
        os.close(ours)
    return [
        Row(name, started, "s", 2, ceiling=1 if promised else None, note="to the first picture"),
        Row(
            "  its share of one core",
            100 * share,
            "%",
            1,
            ceiling=2 if promised else None,
            note=f"over {seconds:.0f} s",
        ),
    ]


def _until_shown(terminal: int, words: bytes) -> float:
    seen = b""
    while words not in seen:
        seen += os.read(terminal, 1 << 16)
    return time.perf_counter()


def _drain(terminal: int) -> None:
    # A terminal that nobody reads would stop who writes to it.
    with contextlib.suppress(OSError):
        while os.read(terminal, 1 << 16):
            pass


def _share_of_core(pid: int, seconds: float) -> float:
    process = psutil.Process(pid)
    begun, cpu_begun = time.monotonic(), _cpu_s(process)
    time.sleep(seconds)
    return (_cpu_s(process) - cpu_begun) / (time.monotonic() - begun)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
