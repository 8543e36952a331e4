"""The image itself, built from the Dockerfile without an engine. Only `make test-image` runs this."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.campaign import tiny_study
from tests.support.image import Builder, first_process
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.reading import read_snapshot
from vbot_campaign.study.study import close_readers

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(5400),
    pytest.mark.skipif(not os.environ.get("TEST_IMAGE"), reason="`make test-image` runs it"),
]
NEEDED = ("buildah", "debootstrap")
USER = 10001
COMPILERS = re.compile(r"(.*-)?(gcc|g\+\+|cc|c\+\+|cpp|clang|clang\+\+|ld|as|make|cmake|rustc|go|nvcc)(-[\d.]+)?")


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.fail(f"needs root, and {' '.join(NEEDED)} (Debian: apt-get install {' '.join(NEEDED)})")
    made = Builder(tmp_path_factory.mktemp("image"))
    try:
        made.make_base()
        index = os.environ.get("TORCH_INDEX")
        made.build({"TORCH_INDEX": index} if index else {})
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def container(builder: Builder) -> Iterator[tuple[str, Path]]:
    with builder.container() as found:
        yield found


def test_it_says_how_it_is_run(builder: Builder) -> None:
    config = builder.config()
    assert config["User"] == f"{USER}:{USER}"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["tini", "--", "entrypoint.sh"]
    assert config["Cmd"] == ["serve"]
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "/usr/local/bin/healthcheck.py"]
    assert not [text for text in config["Env"] if re.search("PASSWORD|TOKEN|INDEX|PROXY", text, re.IGNORECASE)]


def test_there_is_what_is_needed_and_nothing_else(container: tuple[str, Path]) -> None:
    _, root = container
    programs = {
        path.name
        for folder in ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "opt/vbot-campaign/bin")
        for path in (root / folder).iterdir()
    }
    assert {"python3", "tini", "wget", "entrypoint.sh", "healthcheck.py", "vbot-campaign", "tensorboard"} <= programs
    assert [name for name in programs if COMPILERS.fullmatch(name)] == []
    program = root / "opt" / "vbot-campaign"
    (package,) = program.glob("lib/python3*/site-packages/vbot_campaign")
    assert (package / "envs" / "vbot").is_dir()
    assert (program / "share" / "vbot-campaign" / "templates" / "automl_config.yaml").is_file()
    installed = {path.name for path in package.parent.iterdir()}
    assert not {"tests", "pytest", "mypy", "ruff"} & installed
    assert sorted(path.name for path in (root / "srv" / "vbot").iterdir()) == ["runs", "studies"]
    assert list((root / "srv" / "vbot" / "runs").iterdir()) == []
    assert list((root / "var" / "lib" / "apt" / "lists").iterdir()) == []
    for gone in ("src", "root/.cache", "opt/vbot-campaign/tests"):
        assert not (root / gone).exists(), gone


def test_a_login_shell_finds_the_program(builder: Builder, container: tuple[str, Path]) -> None:
    found = builder.call("run", container[0], "--", "bash", "-lc", "command -v vbot-campaign")
    assert found == "/opt/vbot-campaign/bin/vbot-campaign"


def test_its_user_may_write_to_runs_alone(container: tuple[str, Path]) -> None:
    _, root = container
    own = [path for path in (root / "srv", root / "opt", root / "usr" / "local") for path in (path, *path.rglob("*"))]
    writable = [path for path in own if not path.is_symlink() and _may_write(path.stat())]
    assert sorted(path.relative_to(root).as_posix() for path in writable) == ["srv/vbot", "srv/vbot/runs"]


def _may_write(found: os.stat_result) -> bool:
    return found.st_uid == USER or bool(found.st_mode & stat.S_IWOTH)


@pytest.fixture
def volume(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder that the image's user owns, with a small real study."""
    folder = tmp_path_factory.mktemp("volume")
    study = tiny_study(budget={"trials": 2})
    (folder / "tiny.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    (folder / "runs").mkdir()
    os.chown(folder / "runs", USER, USER)
    yield folder
    close_readers()


def wait_for(condition: Callable[[], object], log: Path) -> None:
    deadline = time.monotonic() + 600.0
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def test_it_trains_stops_with_checkpoints_and_goes_on(
    builder: Builder, container: tuple[str, Path], volume: Path
) -> None:
    name, root = container
    log, paths = volume / "log", CampaignPaths(volume / "runs")
    mounts = [f"{volume / 'runs'}:/srv/vbot/runs", f"{volume / 'tiny.yaml'}:/srv/vbot/tiny.yaml:ro"]
    running = builder.start(name, ["run", "--no-audit", "tiny.yaml"], log, mounts, OMP_NUM_THREADS="1")
    trials = paths.study("tiny").trials
    wait_for(lambda: list(trials.glob("*/checkpoints/agent_*.pt")) or running.poll() is not None, log)
    first = first_process(running)
    assert first is not None, log.read_text()
    assert first.uids().real == USER
    first.send_signal(signal.SIGTERM)
    assert running.wait(300) == 0, log.read_text()
    stopped = read_snapshot(paths, "tiny")
    assert stopped.state == "stopped", log.read_text()
    assert stopped.trials[0].checkpoints
    running = builder.start(name, ["resume", "tiny"], log, mounts, OMP_NUM_THREADS="1")
    assert running.wait(600) == 0, log.read_text()
    done = read_snapshot(paths, "tiny")
    assert done.state == "finished"
    assert [trial.state.value for trial in done.trials] == ["complete", "complete"]
    assert len(done.trials[0].attempts) == 2
    assert list((root / "srv" / "vbot" / "runs").iterdir()) == [], "all of it lies in the volume"


def test_the_service_is_healthy_until_docker_stop(builder: Builder, container: tuple[str, Path], volume: Path) -> None:
    name, _ = container
    log, mounts = volume / "log", [f"{volume / 'runs'}:/srv/vbot/runs"]
    port = "18090"
    running = builder.start(name, ["serve", "--port", port], log, mounts)
    wait_for(lambda: "pages: http" in log.read_text() or running.poll() is not None, log)
    check = ["python", "/usr/local/bin/healthcheck.py", f"http://127.0.0.1:{port}/healthz"]
    done = subprocess.run(
        builder.command("run", "--isolation=chroot", name, "--", *check), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"http://127.0.0.1:{port}/healthz: 200"), done.stderr
    first = first_process(running)
    assert first is not None
    first.send_signal(signal.SIGTERM)
    assert running.wait(120) == 0, log.read_text()
    assert "draining" in log.read_text()
