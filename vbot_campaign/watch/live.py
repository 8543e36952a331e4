"""Looking on while a study runs."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live

from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.reading import StudyReader
from vbot_campaign.watch.devices import DeviceReader
from vbot_campaign.watch.progress_lines import ProgressLines
from vbot_campaign.watch.status import status_table

INTERVAL_S = 2.0
EAR_S = 0.2
"""Time between two looks for a signal."""

Ended = Callable[[], bool]

_ENDING = (signal.SIGINT, signal.SIGTERM)


def watch_status(
    paths: CampaignPaths, name: str, *, interval_s: float = INTERVAL_S, console: Console | None = None
) -> None:
    """Show a study until it is finished, or Ctrl-C or SIGTERM.

    On a terminal the screen is drawn in place, and stays below the prompt at the end. Elsewhere the study is shown
    once, then each event is a line.

    Raises:
        StudyNotFoundError: No study has that name.
        StorageError: The database cannot be read.
    """
    console = console or Console()
    with StudyReader(paths, name) as reader:
        reader.snapshot()  # a study that is not there is said before the screen is cleared
        with _end_asked_for() as ended:
            if console.is_terminal and not console.is_dumb_terminal:
                _watch_screen(paths, reader, interval_s, console, ended)
            else:
                _print_events(paths, reader, interval_s, console, ended)
        if console.is_terminal or reader.snapshot().state == "finished":
            console.print(status_table(paths, reader.snapshot()))


@contextlib.contextmanager
def _end_asked_for() -> Iterator[Ended]:
    # A note and no exception: one that is raised in a destructor is lost, and ended by SIGTERM as it is, a terminal
    # would stay on the screen that was drawn.
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, lambda got, _: asked.append(got)) for number in _ENDING}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pause(seconds: float, ended: Ended) -> None:
    wake = time.monotonic() + seconds
    while not ended() and time.monotonic() < wake:
        time.sleep(min(seconds, EAR_S))


def _watch_screen(paths: CampaignPaths, reader: StudyReader, interval_s: float, console: Console, ended: Ended) -> None:
    devices = DeviceReader()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while not ended():
            snapshot = reader.snapshot()
            live.update(status_table(paths, snapshot, height=console.height, devices=devices), refresh=True)
            if snapshot.state == "finished":
                return
            _pause(interval_s, ended)


def _print_events(paths: CampaignPaths, reader: StudyReader, interval_s: float, console: Console, ended: Ended) -> None:
    snapshot = reader.snapshot()
    if snapshot.state == "finished":
        return
    console.print(status_table(paths, snapshot), end="\n\n")
    lines = ProgressLines(paths, console)
    while snapshot.state != "finished" and not ended():
        lines.update(snapshot)
        _pause(interval_s, ended)
        snapshot = reader.snapshot()
    lines.update(snapshot)
