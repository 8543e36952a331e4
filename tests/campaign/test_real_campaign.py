"""A small campaign with real workers: killed in each stage and between them, it ends as one that never was."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.support.campaign import Campaign, finish, json_of, kill_everything, progress_lines, stable_lines
from tests.support.workers import TINY
from vbot_campaign import fs
from vbot_campaign.paths import TrialPaths
from vbot_campaign.rl import checkpoint

STEPS = 24 * 512

PLAN: dict[str, Any] = {
    "plan": "small",
    "workers": {"num_envs": TINY["num_envs"], "slots": 1, "recording": "none"},
    "ppo": TINY["ppo"],
    "env": TINY["env"],
    "checkpoints": TINY["checkpoints"],
    "evaluation": TINY["evaluation"],
    "report_points": TINY["report_points"],
    "stages": [
        {
            "stage": "near",
            "train": {"env_steps": STEPS},
            "gate": {"metric": "survival_rate", "threshold": 0.01, "seeds": 2, "episodes": 8, "otherwise": "promote"},
        },
        {
            "stage": "far",
            "warm_start": {
                "stage": "near",
                "freeze": ["normalizer"],
                "load": ["policy", "value", "normalizer", "optimizer"],
            },
            "env": {"spawn_inner_radius": 3.0},
            "train": {"env_steps": STEPS},
        },
    ],
}

DIES_BETWEEN_STAGES = """
import os, signal, typer
said = typer.echo
def echo(line="", **options):
    said(line, **options)
    if str(line).startswith("stage near: promoted"):
        os.kill(os.getpid(), signal.SIGKILL)
typer.echo = echo
from vbot_campaign.cli import main
main()
"""
"""The command line, which is killed when a stage is over and the next one has not begun."""


def write(campaign: Campaign) -> Path:
    campaign.folder.mkdir(parents=True, exist_ok=True)
    path = campaign.folder / "small.yaml"
    path.write_text(yaml.safe_dump(PLAN, sort_keys=False), encoding="utf-8")
    return path


def training(campaign: Campaign, stage: str) -> TrialPaths | None:
    """Return the folder of a stage's training, or None before it was made."""
    found = sorted(campaign.runs.study(f"small.{stage}.train").trials.glob("0000_*"))
    return TrialPaths(found[0]) if found else None


def trained(campaign: Campaign, stage: str) -> TrialPaths:
    folder = training(campaign, stage)
    assert folder is not None
    return folder


def kill_in(campaign: Campaign, stage: str, *command: str | Path) -> None:
    """Kill a command and its worker in the middle of a stage's training."""
    process = campaign.start(*command)

    def learns() -> bool:
        folder = training(campaign, stage)
        return folder is not None and len(progress_lines(folder)) >= 9

    campaign.wait_for(process, learns)
    kill_everything(process)


@pytest.mark.slow
def test_killed_in_each_stage_and_between_them_it_ends_as_one_that_never_was(tmp_path: Path) -> None:
    undisturbed, killed = Campaign(tmp_path / "undisturbed"), Campaign(tmp_path / "killed")
    output = undisturbed.call("run", write(undisturbed), "--mode", "full")
    assert "stage near: asked: try 1: survival_rate" in output
    assert "2 of 2 stages over" in output, "and it ends with the table of `campaign status`"

    kill_in(killed, "near", "campaign", "run", write(killed))
    resume = ("campaign", "resume", "small")
    dies = subprocess.Popen(
        [sys.executable, "-c", DIES_BETWEEN_STAGES, *resume],
        env=killed.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert "stage near: promoted" in finish(dies, -signal.SIGKILL)
    assert training(killed, "far") is None
    kill_in(killed, "far", *resume)
    killed.call(*resume)

    for stage in ("near", "far"):
        assert stable_lines(trained(killed, stage)) == stable_lines(trained(undisturbed, stage)), stage
    assert summary(killed) == summary(undisturbed)
    # What was frozen is what the stage before had learned, to the last bit; the backed-up policy is that one.
    near, far = (killed.runs.plan("small").root / "stages" / name / "best_agent.pt" for name in ("1_near", "2_far"))
    assert near.read_bytes() == killed.runs.study("small.far.train").warm_start.read_bytes()
    before, after = checkpoint.load(near), checkpoint.load(far)
    for name, statistics in before["state_preprocessor"].items():
        assert torch.equal(after["state_preprocessor"][name], statistics), name
    assert fs.read_json(trained(killed, "far").spec)["warm_start_rules"]["load"][-1] == "optimizer"
    assert "agree" in killed.call("verify", "small.far.train")


def summary(campaign: Campaign) -> dict[str, Any]:
    """Return what a campaign has come to, without times and hashes of files that hold times."""
    values = json_of(campaign.call("campaign", "status", "small", "--json"))
    stages = [
        {
            "score": stage["score"],
            "passed": stage["passed"],
            "status": stage["status"],
            "parts": [one["gate"] and one["gate"]["parts"] for one in stage["tries"]],
            "env_steps": stage["env_steps"],
        }
        for stage in values["stages"]
    ]
    return {"state": values["state"], "progress": values["curriculum_progress"], "stages": stages}
