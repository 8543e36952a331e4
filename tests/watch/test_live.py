"""Looking on while a study runs: on a real terminal, and where there is none."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tests.support import toy_study
from tests.support.stored_study import store_study
from vbot_campaign.errors import StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import CampaignStudy, open_storage
from vbot_campaign.study.study import close_readers
from vbot_campaign.watch.live import watch_status
from vbot_campaign.watch.study_list import list_studies


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[CampaignPaths]:
    paths = CampaignPaths(tmp_path / "runs")
    store_study(paths)
    yield paths
    close_readers()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_finished_study_is_shown_once(stored: CampaignPaths) -> None:
    stream = io.StringIO()
    watch_status(stored, "walk", console=Console(file=stream, width=80, force_terminal=False))
    assert stream.getvalue().count("walk · finished: all 3 trials are done") == 1
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_is_drawn_on_a_screen_of_its_own_and_left_with_the_last_picture(stored: CampaignPaths) -> None:
    stream = io.StringIO()
    watch_status(stored, "walk", console=Console(file=stream, width=80, height=30, force_terminal=True))
    written = stream.getvalue()
    assert "\x1b[?1049h" in written
    assert "\x1b[2J" not in written, "a screen that is cleared flickers"
    assert "walk · finished" in plain(written[written.rindex("\x1b[?1049l") :])


def test_without_a_terminal_each_event_is_a_line(stored: CampaignPaths) -> None:
    storage = open_storage(stored)
    study = CampaignStudy.open(storage, "walk")
    study.set_status("stopped", "Ctrl-C")
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=False)
    options = {"interval_s": 0.05, "console": console}
    watcher = threading.Thread(target=watch_status, args=(stored, "walk"), kwargs=options)
    watcher.start()
    toy_study.wait_until(lambda: "study walk: 4 trials or 2 h" in stream.getvalue())
    study.ask()
    study.ledger.open_attempt(3, slot="cpu:0", first_env_step=0)
    study.complete(3, 0.75, {"success_rate": 0.75}, None)
    toy_study.wait_until(lambda: "trial 3 complete: score 0.750, the best so far (success 75%)" in stream.getvalue())
    study.set_status("finished", "all trials have ended")
    watcher.join(240)
    assert not watcher.is_alive()
    assert stream.getvalue().count("walk · stopped: Ctrl-C") == 1
    assert stream.getvalue().count("walk · finished: all trials have ended") == 1
    storage.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_it_follows_a_running_study_until_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_ITERATION_S", "0.2")
    paths = CampaignPaths(tmp_path / "runs")
    supervisor = toy_study.start(paths, {"env_steps_per_trial": 1_000_000})
    toy_study.wait_until(lambda: toy_study.checkpoint_lines(paths) > 0)
    with Terminal("status", "toy", "--watch", runs=paths.root) as terminal:
        toy_study.wait_until(lambda: re.search(r"cpu:[01] +[━┄]+ +\d+%", terminal.text))
        toy_study.kill(supervisor)
        # Its workers train on alone, and the screen says so.
        toy_study.wait_until(lambda: "toy · stopped: its supervisor is gone; resume it" in terminal.text)
        # The picture may come in pieces: its foot says what to type.
        toy_study.wait_until(lambda: "resume toy" in terminal.text)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(240) == 0
    for attempt in toy_study.live_workers(paths):
        os.kill(attempt.pid or 0, signal.SIGKILL)
    close_readers()


class Terminal:
    """A command on a pseudo-terminal of 80 by 30, and what it wrote there."""

    def __init__(self, *arguments: str, runs: Path) -> None:
        from pty import openpty

        self._master, slave = openpty()
        environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "30", "PYTHONIOENCODING": "utf-8"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vbot_campaign.cli", "--runs", str(runs), *arguments],
            stdin=slave, stdout=slave, stderr=slave, env=environ,
        )  # fmt: skip
        os.close(slave)
        self._written = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def text(self) -> str:
        """What was written so far, without control codes."""
        return plain(self._written.decode(errors="replace"))

    @property
    def raw(self) -> str:
        """What was written so far."""
        return self._written.decode(errors="replace")

    def _read(self) -> None:
        # Linux ends the reading of a terminal that nobody has open any more with an error, macOS with nothing.
        while True:
            try:
                chunk = os.read(self._master, 1 << 16)
            except OSError:
                return
            if not chunk:
                return
            self._written += chunk

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._master)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_gets_its_own_screen_back_when_the_command_is_terminated(stored: CampaignPaths) -> None:
    storage = open_storage(stored)
    CampaignStudy.open(storage, "walk").set_status("stopped", "by hand")
    storage.close()
    with Terminal("status", "walk", "--watch", runs=stored.root) as terminal:
        toy_study.wait_until(lambda: "walk · stopped" in terminal.text)
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(240) == 0
    assert terminal.raw.rstrip().count("\x1b[?1049h") == terminal.raw.count("\x1b[?1049l") == 1


def test_a_study_that_is_not_there_is_said_before_the_screen_is_cleared(stored: CampaignPaths) -> None:
    stream = io.StringIO()
    with pytest.raises(StudyNotFoundError):
        watch_status(stored, "wolk", console=Console(file=stream, width=80, height=30, force_terminal=True))
    assert stream.getvalue() == ""


def test_the_list_of_studies(stored: CampaignPaths, tmp_path: Path) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=False)
    console.print(list_studies(stored))
    assert "walk   finished  1 complete, 1 pruned, 1 failed  0.600" in stream.getvalue()
    console.print(list_studies(CampaignPaths(tmp_path / "empty")))
    assert "No studies in" in stream.getvalue()
