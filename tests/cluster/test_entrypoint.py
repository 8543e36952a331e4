"""The container's entry point with real signals: what `docker stop` sends reaches the program."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest

from tests.support.docker_context import ROOT
from tests.support.postgres import PostgresServer
from tests.support.service import Queue, queue_in, write_study
from vbot_campaign.study.reading import read_snapshot

ENTRYPOINT = ROOT / "docker" / "entrypoint.sh"
HEALTHCHECK = ROOT / "docker" / "healthcheck.py"
PATIENCE_S = 300.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a shell script with signals of Unix")


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with queue_in(tmp_path, TOY_ITERATION_S="0.5") as made:
        yield made


def environ(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a container with the runs folder of a test."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"PATH": path, "VBOT_CAMPAIGN_RUNS": str(folder / "runs"), "TMPDIR": str(folder)}
    own |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **own, **more}


def begin(folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """Start the entry point as a container does; what it prints goes to ``entry.log``."""
    with (folder / "entry.log").open("a") as log:
        return subprocess.Popen(
            ["sh", ENTRYPOINT, *arguments], env=environ(folder, **more), cwd=folder, stdout=log, stderr=log, text=True
        )


def call(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the entry point to its end."""
    return subprocess.run(
        ["sh", ENTRYPOINT, *arguments], env=environ(folder, **more), cwd=folder, capture_output=True, text=True
    )


@pytest.mark.slow
def test_docker_stop_writes_checkpoints_and_the_next_container_goes_on(queue: Queue) -> None:
    file = write_study(queue.folder, "toy")
    container = begin(queue.folder, "run", str(file), TOY_ITERATION_S="0.5")
    try:
        queue.wait_for(lambda: queue.iterations("toy") > 0 or container.poll() is not None)
        command = psutil.Process(container.pid).cmdline()
        assert any(word.endswith("vbot-campaign") for word in command), "the shell has given way to the program"
        container.send_signal(signal.SIGTERM)
        assert container.wait(PATIENCE_S) == 0, (queue.folder / "entry.log").read_text()
    finally:
        container.kill()
        container.wait(240)
    stopped = read_snapshot(queue.paths, "toy")
    assert (stopped.state, stopped.supervisor) == ("stopped", None)
    resume_points = [one for one in stopped.trials[0].checkpoints if one.kind == "resume"]
    assert resume_points, "stopped with a checkpoint"
    done = call(queue.folder, "resume", "toy", TOY_ITERATION_S="0.001")
    assert done.returncode == 0, done.stderr
    queue.assert_trained_once("toy")


@pytest.mark.slow
def test_the_service_is_healthy_with_its_token_and_drains_at_docker_stop(queue: Queue) -> None:
    token = queue.folder / "token"
    token.write_text("open sesame\n")
    queue.submit("toy")
    secret = {"VBOT_CAMPAIGN_TOKEN_FILE": str(token)}
    options = ("serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    # The first trial dozes in its middle until it is stopped, however long it takes to look at all else.
    container = begin(queue.folder, *options, TOY_PLAN='{"0": {"1": "doze"}}', **secret)
    log = queue.folder / "entry.log"
    try:
        queue.wait_for(lambda: "pages: http" in log.read_text() or container.poll() is not None)
        found = re.search(r"http://0\.0\.0\.0:(\d+)/", log.read_text())
        assert found, log.read_text()
        url = f"http://127.0.0.1:{found[1]}/healthz"
        # The check gives a page some seconds, which a busy machine may need more than once.
        healthy = (0, f"{url}: 200\n")
        queue.wait_for(lambda: health(queue.folder, url, **secret) == healthy or container.poll() is not None)
        queue.wait_for(lambda: "401" in health(queue.folder, url)[1] or container.poll() is not None)
        assert container.poll() is None, log.read_text()
        assert health(queue.folder, url)[0] == 1
        queue.wait_for(lambda: queue.iterations("toy") > 0)
        container.send_signal(signal.SIGTERM)
        assert container.wait(PATIENCE_S) == 0, log.read_text()
    finally:
        container.kill()
        container.wait(240)
    assert queue.state("toy") == "queued"
    assert read_snapshot(queue.paths, "toy").trials[0].checkpoints
    code, said = health(queue.folder, url, **secret)
    assert code == 1
    assert "refused" in said


def health(folder: Path, *arguments: str, **more: str) -> tuple[int, str]:
    """Run the health check; return its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, HEALTHCHECK, *arguments], env=environ(folder, **more), capture_output=True, text=True
    )
    return done.returncode, done.stdout


def test_a_hung_page_is_no_health(tmp_path: Path) -> None:
    code, said = health(tmp_path, "http://127.0.0.1:1/healthz")
    assert (code, said.startswith("http://127.0.0.1:1/healthz: ")) == (1, True)


# --- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["VBOT_CAMPAIGN_TOKEN_FILE", "PGPASSWORD_FILE"])
def test_a_secret_that_is_not_there_is_named(tmp_path: Path, variable: str) -> None:
    for path in (tmp_path / "lost", tmp_path):  # what Docker makes where a file to mount is missing is a folder
        done = call(tmp_path, "list", **{variable: str(path)})
        assert done.returncode == 2
        assert f"error: {variable}={path}: no such file" in done.stderr
        assert done.stdout == ""


SHOW = """
import os, sys
for name in ("VBOT_CAMPAIGN_TOKEN", "PGPASSFILE"):
    print(os.environ.get(name))
print(any("p:a\\\\ss" in value for value in os.environ.values()))
print(sys.argv[1:])
"""


def test_secrets_arrive_and_the_password_in_no_variable(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("p:a\\ss\n")
    (tmp_path / "token").write_text("open sesame\n")
    secrets = {"PGPASSWORD_FILE": str(tmp_path / "password"), "VBOT_CAMPAIGN_TOKEN_FILE": str(tmp_path / "token")}
    done = call(tmp_path, "--", "python", "-c", SHOW, "two words", **secrets)
    token, file, leaked, arguments = done.stdout.splitlines()
    assert (token, leaked, arguments) == ("open sesame", "False", "['two words']")
    assert Path(file).read_text() == "*:*:*:*:p\\:a\\\\ss\n"
    assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600


@pytest.mark.postgres
def test_the_database_takes_the_password_from_its_file(tmp_path: Path, postgres_server: PostgresServer) -> None:
    with postgres_server.database() as url:
        password = "p:a\\s s"
        whole = postgres_server.url_with_password(url.rpartition("/")[2], password)
        address = re.sub(r"(//[^:@]+):[^@]+@", r"\1@", whole)
        assert password not in unquote(address)
        (tmp_path / "password").write_text(f"{password}\n")
        with_file = {"VBOT_CAMPAIGN_STORAGE": address, "PGPASSWORD_FILE": str(tmp_path / "password")}
        done = call(tmp_path, "submit", str(write_study(tmp_path, "toy")), **with_file)
        assert done.returncode == 0, done.stderr
        (tmp_path / "password").write_text("wrong\n")
        refused = call(tmp_path, "submit", str(write_study(tmp_path, "other")), **with_file)
        assert refused.returncode == 2
        assert "wrong" in refused.stderr


def test_another_program_is_run_in_its_place(tmp_path: Path) -> None:
    begun = begin(tmp_path, "--", "sleep", "60")
    try:
        deadline = time.monotonic() + 240
        while psutil.Process(begun.pid).name() != "sleep":
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        begun.kill()
        begun.wait(240)
    assert call(tmp_path, "--", "sh", "-c", "exit 7").returncode == 7


def test_without_anything_else_it_is_the_command_line(tmp_path: Path) -> None:
    done = call(tmp_path, "--version")
    assert done.returncode == 0
    assert re.fullmatch(r"vbot-campaign \S+\n", done.stdout)
    assert call(tmp_path, "statsu").returncode == 2
