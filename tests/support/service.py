"""Small queued studies with toy workers, and the service as a person starts it."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.support.builders import LEARNING_RATE
from tests.support.served import Reply
from vbot_campaign import fs
from vbot_campaign.paths import RUNS_VARIABLE, CampaignPaths
from vbot_campaign.service.lock import is_served
from vbot_campaign.service.submit import cancel, check_file, submit
from vbot_campaign.study.reading import read_snapshot
from vbot_campaign.study.study import close_readers
from vbot_campaign.study.submissions import Submission, opened, read_submissions

COMMAND = (sys.executable, "-u", "-m", "vbot_campaign.cli")
SUPPORT = Path(__file__).parent
PATIENCE_S = 600.0


def study_values(name: str, **changes: Any) -> dict[str, Any]:
    """Return a study file of two trials of 30 iterations, which a toy worker trains through the public protocol.

    Args:
        name: Its name.
        **changes: Keys of the file in place of the usual ones.
    """
    values = {
        "study": name,
        "environment": "vbot_navigation_section001",
        "env_steps_per_trial": 30_000,
        "budget": {"trials": 2},
        "objective": {"success_rate": 1.0},
        "sampler": {"name": "random", "seed": 1},
        "pruner": {"name": "none"},
        "trainer": {"command": ["python", "toy_worker.py"], "folder": SUPPORT.as_posix()},
        "search_space": {"ppo": {"learning_rate": LEARNING_RATE}},
        "fixed": {"ppo": {"rollouts": 10, "mini_batches": 4}},
        "workers": {"num_envs": 100, "slots": 1, "recording": "none"},
        "report_points": 10,
    }
    return {**values, **changes}


def write_study(folder: Path, name: str, **changes: Any) -> Path:
    """Write such a study to ``folder/NAME.yaml``."""
    return _write(folder, name, study_values(name, **changes))


def write_plan(folder: Path, name: str) -> Path:
    """Write a plan of one stage, a search of two trials and a training without a gate, to ``folder/NAME.yaml``."""
    study = study_values(name)
    search = {"trials": 2, **{key: study[key] for key in ("env_steps_per_trial", "sampler", "pruner", "search_space")}}
    stage = {"stage": "near", "search": search, "train": {"env_steps": study["env_steps_per_trial"]}}
    shared = {key: study[key] for key in ("objective", "trainer", "workers", "report_points")}
    return _write(folder, name, {"plan": name, **shared, "ppo": study["fixed"]["ppo"], "stages": [stage]})


def _write(folder: Path, name: str, values: dict[str, Any]) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


@dataclass
class Service:
    """A running `serve`."""

    process: subprocess.Popen[str]
    log: Path
    host: str = "127.0.0.1"
    port: int = 0

    @property
    def said(self) -> str:
        """Everything that it has printed."""
        return self.log.read_text(encoding="utf-8")

    def ask(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """Send one request."""
        with contextlib.closing(http.client.HTTPConnection(self.host, self.port, timeout=240)) as connection:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@dataclass(frozen=True)
class Queue:
    """A runs folder with a queue, the command line on it, and its services."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def paths(self) -> CampaignPaths:
        """The runs folder."""
        return CampaignPaths(self.folder / "runs")

    def _environ(self, **variables: str) -> dict[str, str]:
        own = {RUNS_VARIABLE: str(self.paths.root), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
        return {**os.environ, **own, **self.environ, **variables}

    def call(self, *arguments: str | Path, code: int = 0) -> str:
        """Run a command to its end and return what it printed; another exit code than ``code`` fails."""
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            env=self._environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def submit(self, *names: str, priority: int = 0, **changes: Any) -> None:
        """Put small studies into the queue, without a process for each."""
        for name in names:
            self.submit_file(write_study(self.folder, name, **changes), priority=priority)

    def submit_file(self, file: Path, *, priority: int = 0) -> None:
        """Put a study or plan file into the queue, without a process for it."""
        with opened(self.paths) as queue:
            submit(self.paths, queue, check_file(self.paths, file), priority=priority)

    def cancel(self, name: str) -> str:
        """Cancel a study, without a process for it; return what was done."""
        with opened(self.paths) as queue:
            return cancel(self.paths, queue, name, served=lambda: is_served(self.paths))

    def serve(self, *options: str, **variables: str) -> Service:
        """Start a service on a free port and wait until it answers."""
        log = self.folder / f"serve{len(self.started)}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [*COMMAND, "serve", "--port", "0", *options],
                env=self._environ(**variables),
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.started.append(process)
        service = Service(process, log)
        wait_until(lambda: "pages: http" in service.said or process.poll() is not None, lambda: service.said)
        found = re.search(r"http://([\d.]+):(\d+)/", service.said)
        assert found, service.said
        service.host = "127.0.0.1" if found[1] == "0.0.0.0" else found[1]  # noqa: S104
        service.port = int(found[2])
        return service

    def rows(self) -> dict[str, Submission]:
        """Return the newest submission of each name."""
        return {one.name: one for one in read_submissions(self.paths)}

    def state(self, name: str) -> str:
        """Return the state of a submission."""
        return self.rows()[name].state.value

    def wait_for(self, condition: Callable[[], Any]) -> None:
        """Wait for a condition; one that does not come true fails with all that was printed."""
        wait_until(condition, self._story)

    def _story(self) -> str:
        logs = [*sorted(self.folder.glob("serve*.log")), *sorted(self.paths.service.root.glob("*.log"))]
        return "\n".join(f"== {log.name}\n{log.read_text(encoding='utf-8')}" for log in logs)

    def iterations(self, name: str) -> int:
        """Return how many iterations a study's workers have reported, over all trials."""
        logs = self.paths.study(name).trials.glob("*/metrics.jsonl")
        return sum(line["kind"] == "progress" for log in logs for line in fs.read_lines(log))

    def assert_trained_once(self, name: str, trials: int = 2) -> None:
        """Check that a study has all its trials, none twice, and that no iteration of any was logged twice."""
        snapshot = read_snapshot(self.paths, name)
        assert [trial.number for trial in snapshot.trials] == list(range(trials))
        assert all(trial.state.value == "complete" for trial in snapshot.trials)
        for log in sorted(self.paths.study(name).trials.glob("*/metrics.jsonl")):
            seen = [line["iteration"] for line in fs.read_lines(log) if line["kind"] == "progress"]
            assert seen == list(range(1, 31)), log

    def end(self) -> None:
        """Kill the services that are left, and what they have started."""
        for process in self.started:
            process.kill()
            process.wait(240)
        for one in read_submissions(self.paths):
            if one.owner is not None and one.owner.is_alive():
                root = psutil.Process(one.owner.pid)
                for victim in (*root.children(recursive=True), root):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        victim.kill()


def wait_until(condition: Callable[[], Any], story: Callable[[], str]) -> None:
    """Wait for a condition; one that does not come true fails with a story."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited too long\n{story()}"
        time.sleep(0.1)


@contextlib.contextmanager
def queue_in(folder: Path, **environ: str) -> Iterator[Queue]:
    """Yield a queue in a folder of its own, and leave no process behind."""
    queue = Queue(folder, environ)
    try:
        yield queue
    finally:
        queue.end()
        close_readers()
