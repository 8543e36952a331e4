"""Short ways to what tests need over and over."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from vbot_campaign.spec.study import StudySpec
from vbot_campaign.spec.training import ThreadSettings
from vbot_campaign.supervisor.slots import Slot

TOY_COMMAND = (sys.executable, str(Path(__file__).with_name("toy_worker.py")))
"""Worker command of the toy worker."""

LEARNING_RATE = {"type": "loguniform", "low": 1e-5, "high": 1e-3, "prior": 3e-4}


def study_spec(**overrides: Any) -> StudySpec:
    """Return a small study: 30 iterations of 1000 env steps per trial, one parameter, scored by success.

    Args:
        **overrides: Keys of the study file in place of the default ones.
    """
    values: dict[str, Any] = {
        "study": "toy",
        "environment": "vbot_navigation_section001",
        "env_steps_per_trial": 30_000,
        "budget": {"trials": 4},
        "objective": {"success_rate": 1.0},
        "sampler": {"name": "random", "seed": 1},
        "pruner": {"name": "none"},
        "search_space": {"ppo": {"learning_rate": LEARNING_RATE}},
        "fixed": {"ppo": {"rollouts": 10, "mini_batches": 4}},
        "workers": {"num_envs": 100, "slots": 2},
        "report_points": 10,
    }
    return StudySpec.model_validate({**values, **overrides})


def cpu_slots(count: int = 2) -> tuple[Slot, ...]:
    """Return CPU slots with one thread each."""
    return tuple(Slot(f"cpu:{i}", "cpu", "", ThreadSettings()) for i in range(count))
