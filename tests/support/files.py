"""Small reward files, search spaces and plans, and the command line on them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vbot_campaign import cli

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "templates"

REWARDS = """\
reward:
  navigation:
    arrival_bonus: 120
    stop_scale: 6
  termination:
    termination: -80
presets:
  far:
    reward: {termination: {termination: -200}}
"""

SPACE = """\
search_space:
  ppo:
    learning_rate: {type: loguniform, low: 1e-4, high: 1e-3, prior: 3e-4}
    rollouts: {type: choice, values: [16, 24, 32], prior: 16}
    entropy_loss_scale: {type: loguniform, low: 1e-3, high: 1e-2}
  reward:
    arrival_bonus: {type: uniform, low: 50, high: 200, prior: 90}
    termination: {type: choice, values: [-200, -100, -80], prior: -100}
presets:
  rewards: {search: [reward]}
  one: {search: [ppo.learning_rate], fixed: {reward: {termination: -50}}}
"""

PLAN = """\
plan: two
budget: {hours: 2}
workers: {num_envs: 256}
ppo: {rollouts: 16}
reward: {file: rewards.yaml}
stages:
  - stage: near
    env: {spawn_outer_radius: 4.0}
    search:
      trials: 4
      env_steps_per_trial: 200_000
      search_space: {file: space.yaml, preset: rewards}
    train: {env_steps: 1_000_000}
    gate: {metric: success_rate, threshold: 0.9, patience: 2}
  - stage: far
    env: {spawn_inner_radius: 5.0, spawn_outer_radius: 8.0}
    reward: {file: rewards.yaml, preset: far}
    warm_start: {stage: near}
    train: {env_steps: 2_000_000}
"""


def edited(text: str, *edits: tuple[str, str]) -> str:
    """Return a text with pieces replaced; each must be there, so that a test cannot miss its target."""
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def write_files(folder: Path, **texts: str) -> Path:
    """Write ``rewards.yaml``, ``space.yaml`` and ``plan.yaml``, with other texts in place of the usual ones."""
    for name, text in {"rewards": REWARDS, "space": SPACE, "plan": PLAN, **texts}.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Call the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["vbot-campaign", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert isinstance(end.value.code, int)
    return end.value.code
