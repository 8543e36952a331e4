"""A small valid study file, with its lines numbered by hand in the tests that break it."""

from __future__ import annotations

from pathlib import Path

STUDY = """\
study: tiny
environment: vbot_navigation_section001
physics: mujoco
env_steps_per_trial: 2_000_000
budget: {trials: 10}
objective:
  success_rate: 0.6
  goal_progress: {weight: 0.4}
sampler: {name: tpe, startup_trials: 4, seed: 1}
pruner: {name: median}
search_space:
  ppo:
    learning_rate: {type: loguniform, low: 1e-4, high: 1e-3, prior: 3e-4}
    rollouts: {type: choice, values: [16, 24, 32], prior: 24}
    policy_hidden_layer_sizes: {type: categorical, choices: [[128, 64], [256, 128, 64]]}
  reward:
    arrival_bonus: {type: uniform, low: 50, high: 200, prior: 100}
    near_target_speed: {type: loguniform, low: -4, high: -0.5}
fixed:
  ppo: {discount_factor: 0.99}
  env: {spawn_outer_radius: 4.0}
constraints:
  - {skip_if: "ppo.learning_rate > 5e-4 and ppo.rollouts < 20", reason: unstable}
workers: {num_envs: 512}
"""


def study_text(*edits: tuple[str, str]) -> str:
    """Return the study with texts replaced; each must be there, so that a test cannot miss its target."""
    text = STUDY
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def write_study(folder: Path, *edits: tuple[str, str]) -> Path:
    """Write the study with texts replaced to ``folder/x.yaml``."""
    path = folder / "x.yaml"
    path.write_text(study_text(*edits), encoding="utf-8")
    return path
