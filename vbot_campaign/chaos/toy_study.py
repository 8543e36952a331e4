"""The study that chaos is let loose on: real workers, real robots, small enough for a trial to take seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vbot_campaign import fs

NAME = "toy"
TRIALS = 6
NUM_ENVS = 32
ROLLOUTS = 16
ITERATION = NUM_ENVS * ROLLOUTS
"""Env steps of one iteration."""
ITERATIONS = 200
"""So many that no trial is trained to its end, and completes, while the supervisor that would prune it is held up."""
INTERVAL = 6 * ITERATION
"""Env steps between two checkpoints: what an interruption may cost at most."""
ENV_STEPS = ITERATIONS * ITERATION
WATCHDOG_S = 6.0


def toy_study(trials: int = TRIALS) -> dict[str, Any]:
    """Return the study file as values.

    One slot, one thread and fixed seeds make it the same every time. Trials with too much noise in their actions fall
    and stay below the pruner's bound at every report point, so that it does not matter how soon the pruner is asked.

    Args:
        trials: How many; the second and the fourth are of that kind.
    """
    layers = {"policy_hidden_layer_sizes": [32, 16], "value_hidden_layer_sizes": [32, 16]}
    return {
        "study": NAME,
        "environment": "vbot_navigation_section001",
        "env_steps_per_trial": ENV_STEPS,
        "budget": {"trials": trials},
        "objective": {"goal_progress": 0.3, "survival_rate": 0.7},
        "sampler": {"name": "tpe", "startup_trials": 4, "seed": 5},
        "pruner": {"name": "threshold", "lower": 0.6, "warmup": 0.15},
        "search_space": {
            "ppo": {
                "learning_rate": {"type": "loguniform", "low": 1e-4, "high": 3e-3, "prior": 1e-3},
                "initial_log_std": {"type": "choice", "values": [-1.0, 2.0], "prior": -1.0},
            },
            "reward": {"forward_velocity": {"type": "uniform", "low": 1.0, "high": 2.5}},
        },
        "fixed": {
            "ppo": {"rollouts": ROLLOUTS, "learning_epochs": 2, "mini_batches": 2, **layers},
            "env": {"episode_seconds": 1.0},
        },
        # A trial is struck more often than a real one may die before it is given up.
        # Drawing its policy would take longer than a trial's training.
        "workers": {
            "num_envs": NUM_ENVS,
            "slots": 1,
            "max_attempts": 1000,
            "watchdog_s": WATCHDOG_S,
            "recording": "none",
        },
        "checkpoints": {"every_iterations": INTERVAL // ITERATION, "keep_last": 2},
        "evaluation": {"episodes": 16},
        "report_points": 20,
    }


def write_toy_study(folder: Path, trials: int = TRIALS) -> Path:
    """Write the study file into a folder and return its path."""
    path = folder / f"{NAME}.yaml"
    fs.write_text(path, yaml.safe_dump(toy_study(trials), sort_keys=False))
    return path
