"""Worker processes: real ones, with real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from vbot_campaign.errors import StudyError
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.training import CommandTrainer
from vbot_campaign.study.owner import process_alive
from vbot_campaign.supervisor.process import AdoptedProcess, Exit, WorkerProcess, command_of, exit_words


@pytest.mark.parametrize(
    ("trainer", "command"),
    [
        ("builtin", (sys.executable, "-m", "vbot_campaign.worker")),
        ("skrl", (sys.executable, "-m", "vbot_campaign.worker")),
        (CommandTrainer(command=("python", "a.py", "--fast")), (sys.executable, "a.py", "--fast")),
        (CommandTrainer(command=("train-robots",), folder=Path("/robots")), ("train-robots",)),
        (CommandTrainer(command=("./train", "x"), folder=Path("/robots")), ("/robots/train", "x")),
        (CommandTrainer(command=("/opt/train",), folder=Path("/robots")), ("/opt/train",)),
    ],
)
def test_a_trainer_becomes_a_command_in_its_folder(trainer, command):
    assert command_of(trainer) == (command, getattr(trainer, "folder", None))


def test_a_worker_runs_where_it_is_told_and_finds_the_trial_all_the_same(tmp_path, monkeypatch):
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    code = "import os, pathlib, sys; (pathlib.Path(sys.argv[-1]) / 'cwd').write_text(os.getcwd())"
    (tmp_path / "trial").mkdir()
    worker = WorkerProcess.spawn(TrialPaths(Path("trial")), os.environ, [sys.executable, "-c", code], elsewhere)
    assert worker.wait(240) == Exit(0)
    assert (tmp_path / "trial" / "cwd").read_text() == str(elsewhere)


@pytest.fixture
def folder(tmp_path):
    return TrialPaths(tmp_path)


def spawn(folder, code):
    return WorkerProcess.spawn(folder, os.environ, [sys.executable, "-c", code])


def wait_for(condition, timeout_s=240.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def test_a_worker_runs_on_its_folder_in_its_own_session_and_prints_into_its_log(folder):
    folder.log.write_text("attempt 1\n")
    process = spawn(folder, "import os, sys; print(sys.argv[1], os.getsid(0) == os.getpid()); sys.exit(3)")
    assert process.wait(240) == Exit(3)
    assert folder.log.read_text() == f"attempt 1\n{folder.root} True\n"
    assert not process_alive(process.pid, process.started)


def test_what_a_worker_started_goes_with_it(folder):
    code = (
        "import subprocess, sys, os\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    process = spawn(folder, code)
    assert process.wait(240) == Exit(0)
    child = int(folder.log.read_text())
    wait_for(lambda: not process_alive(child, None))


def test_signals_reach_the_whole_group(folder):
    process = spawn(folder, "import time; print('up', flush=True); time.sleep(600)")
    wait_for(lambda: folder.log.read_text() == "up\n")
    assert process.poll() is None
    assert process_alive(process.pid, process.started)
    process.terminate()
    assert process.wait(240) == Exit(-15)
    process.kill()  # one that is gone is left alone


SLEEP = "import time; print('up', flush=True); time.sleep(600)"


def test_a_frozen_worker_is_deaf_to_sigterm_and_can_be_killed(folder):
    process = spawn(folder, SLEEP)
    wait_for(lambda: folder.log.read_text() == "up\n")
    os.kill(process.pid, signal.SIGSTOP)
    wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    process.terminate()
    assert process.wait(0.3) is None
    process.kill()
    assert process.wait(240) == Exit(-9)


def test_a_worker_prints_its_stacks_only_if_it_knows_the_signal(folder):
    process = spawn(folder, SLEEP)
    wait_for(lambda: folder.log.read_text() == "up\n")
    assert not process.dump_stacks(), "the signal would end it"
    assert process.poll() is None
    process.kill()
    process.wait(240)
    folder.log.unlink()
    process = spawn(folder, "import faulthandler, signal; faulthandler.register(signal.SIGUSR1); " + SLEEP)
    wait_for(lambda: folder.log.read_text() == "up\n")
    assert process.dump_stacks()
    wait_for(lambda: 'File "<string>", line 1 in <module>' in folder.log.read_text())
    assert process.poll() is None
    process.kill()
    process.wait(240)


# --- adopted ones -----------------------------------------------------------------------------------------------

STARTER = """
import os, sys
from vbot_campaign.paths import TrialPaths
from vbot_campaign.supervisor.process import WorkerProcess
from pathlib import Path
process = WorkerProcess.spawn(TrialPaths(Path(sys.argv[1])), os.environ, [sys.executable, "-c", sys.argv[2]])
print(process.pid, process.started, flush=True)
os._exit(0)
"""


def orphan(folder, code):
    """Start a worker whose starter has gone, and return its pid and start."""
    done = subprocess.run(
        [sys.executable, "-c", STARTER, str(folder.root), code], capture_output=True, text=True, check=True, timeout=240
    )
    pid, started = done.stdout.split()
    return int(pid), float(started)


def test_an_adopted_worker_is_seen_asked_and_its_code_stays_unknown(folder):
    adopted = AdoptedProcess(*orphan(folder, SLEEP))
    wait_for(lambda: folder.log.read_text() == "up\n")
    assert adopted.poll() is None
    assert adopted.memory_mb() > 1
    adopted.terminate()
    assert adopted.wait(240) == Exit(None)
    adopted.kill()  # one that is gone is left alone


def test_what_an_adopted_worker_started_goes_with_it(folder):
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    adopted = AdoptedProcess(*orphan(folder, code))
    wait_for(lambda: folder.log.read_text().endswith("\n"))
    child = int(folder.log.read_text())
    os.kill(adopted.pid, signal.SIGKILL)
    assert adopted.wait(240) == Exit(None)
    wait_for(lambda: not process_alive(child, None) and adopted.poll() is not None)


def test_a_later_process_with_the_number_of_a_worker_is_not_touched(folder):
    stranger = spawn(folder, SLEEP)
    wait_for(lambda: folder.log.read_text() == "up\n")
    adopted = AdoptedProcess(stranger.pid, stranger.started - 60)
    assert adopted.poll() == Exit(None)
    adopted.terminate()
    adopted.kill()
    assert stranger.wait(0.3) is None
    stranger.kill()
    stranger.wait(240)


def test_a_worker_whose_number_was_never_written_down_is_found_by_its_folder(folder, tmp_path):
    assert AdoptedProcess.find(folder) is None
    pid, started = orphan(folder, SLEEP)
    found = AdoptedProcess.find(folder)
    assert (found.pid, found.started) == (pid, started)
    assert AdoptedProcess.find(TrialPaths(tmp_path / "other")) is None
    found.kill()
    assert found.wait(240) == Exit(None)
    assert AdoptedProcess.find(folder) is None


def test_a_command_that_does_not_exist_is_named(folder):
    with pytest.raises(StudyError, match="cannot start the worker /no/such/python: No such file"):
        WorkerProcess.spawn(folder, os.environ, ["/no/such/python"])


def test_the_end_of_a_process_in_words(folder):
    assert exit_words(-9, folder.log) == "killed by SIGKILL"
    assert exit_words(3, folder.log) == "exit code 3 without a result"
    folder.log.write_text("Traceback\nMemoryError: no more\n\n")
    assert exit_words(3, folder.log) == "exit code 3 without a result: MemoryError: no more"
    assert exit_words(None, folder.log) == "ended unseen"
