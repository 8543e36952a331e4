"""What a person can get wrong on the command line: each mistake gives one clear line, and changes nothing."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from tests.support.campaign import COMMAND, Campaign, finish, tiny_study
from tests.support.snapshots import make_spec
from tests.support.stored_study import store_study
from tests.support.workers import run_worker, tiny_trial
from vbot_campaign import cli, fs
from vbot_campaign.events import Ended
from vbot_campaign.exporters.mirrors import export_all
from vbot_campaign.paths import RUNS_VARIABLE, TrialPaths
from vbot_campaign.spec.loading import definition
from vbot_campaign.study.study import close_readers

RUN = "runs/vbot_navigation_section001/20260131T120000Z_PPO"
POLICY = f"{RUN}/checkpoints/best_agent.pt"
LONGEST_LINE = 500
"""A refusal may list what is valid, all reward terms for example, but is no essay."""


@dataclass(frozen=True)
class Refusal:
    """A command line, and words that the complaint must have."""

    arguments: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return re.sub(r"[^\w.=-]+", " ", self.arguments).strip()


def refusal(arguments: str, *words: str) -> Refusal:
    """Return a case: arguments as typed, separated by spaces, and words of the complaint."""
    return Refusal(arguments, words)


REFUSALS = [
    # No study of that name: the nearest one is suggested.
    *(
        refusal(f"{command} wakl", "'wakl'", "not found", "Did you mean 'walk'?", "crawl, walk")
        for command in ("resume", "status", "stop", "verify", "export", "status --json", "status --watch")
    ),
    refusal("tensorboard wakl", "'wakl'", "Did you mean 'walk'?"),
    refusal("--runs elsewhere resume walk", "'walk'", "elsewhere/campaign.db", "--runs", "vbot-campaign run FILE"),
    refusal("stop walk", "'walk'", "not running", "finished"),
    # Study files.
    refusal("run studies/wal.yaml", "studies/wal.yaml", "no such file", "Did you mean"),
    refusal("check studies/wal.yaml", "studies/wal.yaml", "no such file"),
    refusal("run studies", "studies", "is a folder", "changed.yaml"),
    refusal("run broken.yaml", "broken.yaml:3", "not valid YAML"),
    refusal("run values.yaml", "values.yaml:3: budget.trials: 0", "at least 1"),
    refusal("run values.yaml", "values.yaml:4: samplre", "Did you mean 'sampler'?"),
    refusal("check values.yaml", "values.yaml:3: budget.trials: 0"),
    refusal("run studies/changed.yaml", "'walk'", "differs", "env_steps_per_trial", "600000", "700000", "new name"),
    # Training without a study.
    refusal("train --env vbot_navigation_section01", "'vbot_navigation_section01'", "Did you mean", "Valid:"),
    refusal("train --env-steps 0", "--env-steps 0", "positive whole number", "16M"),
    refusal("train --env-steps -5", "--env-steps -5", "positive whole number"),
    refusal("train --env-steps many", "--env-steps many", "positive whole number"),
    refusal("train --env-steps 100", "env_steps: 100", "one iteration", "24576"),
    refusal("train --num-envs 0", "num_envs: 0", "at least 1"),
    refusal("train --num-envs 100 --set ppo.mini_batches=7", "ppo.mini_batches", "7 does not divide", "2400"),
    refusal("train --seed -1", "seed: -1", "at least 0"),
    refusal("train --threads 0", "--threads", "greater than or equal to 1"),
    refusal("train --threads 100000", "--threads", "256"),
    refusal("train --physics bullet", "physics: 'bullet'", "Valid: mujoco"),
    refusal("train --set pop.learning_rate=1e-4", "pop.learning_rate", "ppo, reward, env", "Did you mean 'ppo'?"),
    refusal("train --set ppo.learning_rat=1e-4", "ppo.learning_rat", "Did you mean 'learning_rate'?"),
    refusal("train --set reward.arrival_bonsu=1", "reward.arrival_bonsu", "Did you mean 'arrival_bonus'?"),
    refusal("train --set ppo.learning_rate=fast", "ppo.learning_rate: 'fast'", "a number above 0"),
    refusal("train --set ppo.learning_rate", "'ppo.learning_rate'", "GROUP.NAME=VALUE"),
    refusal("train --resume studies", "--resume studies", "no trial.json", "folder of a run"),
    refusal(f"train --resume {RUN} --set ppo.rollouts=8", "--set", "settings of the run", "new run"),
    refusal("train --checkpoint lost.pt", "--checkpoint lost.pt", "no such file"),
    refusal("train --checkpoint notes.txt", "notes.txt", "cannot be read", "no checkpoint"),
    refusal(f"train --checkpoint {POLICY}", "[32, 16]", "[256, 128, 64]", "--set 'ppo.policy_hidden_layer_sizes="),
    # Evaluation.
    refusal("evaluate lost.pt", "lost.pt", "no checkpoint", "cut.pt, other.pt"),
    refusal("evaluate notes.txt", "notes.txt", "cannot be read", "no checkpoint"),
    refusal("evaluate cut.pt", "cut.pt", "cannot be read", "truncated", "older one"),
    refusal("evaluate other.pt", "other.pt", "is not a checkpoint", "'policy'"),
    refusal("evaluate studies", "studies", "best_agent.pt", "run's folder"),
    refusal(f"evaluate {POLICY} --episodes 0", "--episodes", "greater than or equal to 1"),
    refusal(f"evaluate {POLICY} --episodes some", "--episodes", "integer"),
    # Pages.
    refusal("dashboard --host 0.0.0.0", "--host 0.0.0.0", "--token", "127.0.0.1"),
    refusal("dashboard --host 192.0.2.7 --token abc", "192.0.2.7", "cannot listen"),
    refusal("dashboard --port 99999", "--port 99999", "65535"),
    refusal("tensorboard --port 99999", "--port 99999", "65535"),
    # Runs folders and databases.
    refusal("--runs notes.txt list", "notes.txt", "is a file", "--runs"),
    refusal("--runs notes.txt train", "notes.txt", "is a file"),
    refusal("--runs notes.txt/runs run studies/walk.yaml", "notes.txt/runs", "Not a directory"),
    refusal("--runs notes.txt/runs train", "notes.txt/runs", "Not a directory"),
    *(
        refusal(f"--runs text {command}", "text/campaign.db", "not a database", "backup")
        for command in ("list", "status walk", "resume walk", "run studies/walk.yaml", "dashboard")
    ),
    refusal("--runs empty resume walk", "empty/campaign.db", "no studies of this program"),
    # The command line itself.
    refusal("rnu studies/walk.yaml", "rnu"),
    refusal("run", "name a file"),
    refusal("train --env_steps 5", "--env_steps"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a working folder: two finished studies, a finished run, and files that are not what they seem."""
    campaign = Campaign(tmp_path_factory.mktemp("world"))
    store_study(campaign.runs)
    export_all(campaign.runs, "walk")
    _store_empty_study(campaign, "crawl")
    assert run_worker(tiny_trial(campaign.folder / RUN, env_steps=512)).state is Ended.FINISHED
    _write_files(campaign.folder)
    yield campaign.folder
    close_readers()


def _store_empty_study(campaign: Campaign, name: str) -> None:
    from vbot_campaign.study import CampaignStudy, open_storage

    storage = open_storage(campaign.runs)
    CampaignStudy.create(storage, make_spec(study=name)).set_status("finished", "nothing to do")
    storage.close()


def _write_files(folder: Path) -> None:
    walk = {key: value for key, value in definition(make_spec()).items() if value is not None}
    (folder / "studies").mkdir()
    (folder / "studies" / "walk.yaml").write_text(yaml.safe_dump(walk))
    (folder / "studies" / "changed.yaml").write_text(yaml.safe_dump({**walk, "env_steps_per_trial": 700_000}))
    (folder / "broken.yaml").write_text("study: [walk, \nbudget: {trials: 3}\n")
    values = yaml.safe_dump({k: v for k, v in tiny_study().items() if k not in ("study", "budget", "sampler")})
    (folder / "values.yaml").write_text(
        f"# wrong values\nstudy: values\nbudget: {{trials: 0}}\nsamplre: {{name: tpe}}\n{values}"
    )
    (folder / "notes.txt").write_text("a text\n")
    (folder / "cut.pt").write_bytes((folder / POLICY).read_bytes()[:5000])
    torch.save({"weights": torch.zeros(3)}, folder / "other.pt")
    for name, content in (("text", b"not a database at all, just some text\n" * 9), ("empty", b"")):
        (folder / name).mkdir()
        (folder / name / "campaign.db").write_bytes(content)


@pytest.fixture(autouse=True)
def _quiet_world(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(world)
    monkeypatch.setenv(RUNS_VARIABLE, "runs")
    monkeypatch.setenv("COLUMNS", "80")
    yield
    close_readers()


def tree(folder: Path) -> dict[str, str]:
    """Return a hash of every file. SQLite's own side files come and go with whoever reads."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
        if not path.name.startswith("campaign.db-")
    }


def run_main(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Call the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["vbot-campaign", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize("case", REFUSALS, ids=str)
def test_refused(
    case: Refusal, world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = tree(world)
    code = run_main(case.arguments.split(), monkeypatch)
    output, complaint = capfd.readouterr()
    assert code == 2, complaint
    assert output == ""
    assert_clear(complaint)
    flat = " ".join(complaint.replace("│", " ").split())
    missing = [word for word in case.words if word not in flat]
    assert not missing, f"{missing} not in: {flat}"
    assert tree(world) == before


def assert_clear(complaint: str) -> None:
    """Check that it is one line for each mistake, or the usage box of a wrong option, and no traceback."""
    assert "Traceback" not in complaint
    lines = complaint.splitlines()
    if lines[0].startswith("Usage:"):
        assert len(lines) <= 7
        return
    assert 1 <= len(lines) <= 3
    for line in lines:
        assert line.startswith("error: ")
        assert len(line) <= LONGEST_LINE, f"{len(line)} letters: {line}"
        assert line.endswith((".", "?", "THIS_MACHINE")), line


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("device", ["cuda:0", "gpu"])
def test_a_device_that_is_not_there(
    device: str, world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = tree(world)
    assert run_main(["train", "--device", device], monkeypatch) == 2
    assert capfd.readouterr().err.startswith(f"error: --device {device}: not on this machine.")
    assert tree(world) == before


def test_verbose_shows_the_traceback(world: Path) -> None:
    plain, verbose = (
        subprocess.run([*COMMAND, *options, "status", "wakl"], cwd=world, capture_output=True, text=True, timeout=240)
        for options in ([], ["-v"])
    )
    assert (plain.returncode, plain.stdout) == (2, "")
    assert plain.stderr.startswith("error: study 'wakl'")
    assert verbose.returncode == 1
    assert "Traceback" in verbose.stderr
    assert "StudyNotFoundError" in verbose.stderr


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("arguments", ["run studies/walk.yaml", "train"])
def test_a_folder_that_may_not_be_written(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    try:
        assert run_main(["--runs", str(tmp_path / "runs"), *arguments.split()], monkeypatch) == 2
    finally:
        tmp_path.chmod(0o700)
    complaint = capfd.readouterr().err
    assert "Permission denied" in complaint
    assert_clear(complaint)


def test_a_run_that_is_being_trained(
    world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (world / RUN / "trial.json").read_bytes()
    with fs.hold_lock(TrialPaths(world / RUN).lock, what="the run"):
        assert run_main(["train", "--resume", RUN], monkeypatch) == 2
    assert "a process trains this run just now" in capfd.readouterr().err
    assert (world / RUN / "trial.json").read_bytes() == before


@pytest.mark.parametrize("arguments", [["run", "tiny.yaml"], ["run", "larger.yaml"], ["resume", "tiny"]])
def test_a_second_supervisor(running: Campaign, arguments: list[str]) -> None:
    refused = running.call(*arguments, code=2)
    assert refused.startswith("error: study 'tiny' is run by the supervisor with pid ")
    for word in ("status tiny", "stop tiny"):
        assert word in refused
    assert len(refused.splitlines()) == 1
    assert running.snapshot().spec.budget.trials == 4, "the budget was not raised under the feet of the first"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """Run a study that lasts until the tests are over."""
    campaign = Campaign(tmp_path_factory.mktemp("running"))
    file = campaign.write(budget={"trials": 5}, env_steps_per_trial=10_000_000)
    file.rename(campaign.folder / "larger.yaml")
    process = campaign.start("run", campaign.write(env_steps_per_trial=10_000_000))
    campaign.wait_for(process, lambda: campaign.iteration(0) >= 1)
    yield campaign
    process.send_signal(signal.SIGTERM)
    finish(process)
