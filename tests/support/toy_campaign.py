"""A small campaign with toy workers: run here or in a process of its own, and what it left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.builders import LEARNING_RATE, TOY_COMMAND, cpu_slots
from vbot_campaign.campaign.runner import CampaignOutcome, resume_campaign, run_campaign
from vbot_campaign.campaign.state import CampaignState
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.plan import PlanSpec
from vbot_campaign.spec.stages import Phase, study_name
from vbot_campaign.study.plans import load_plan_record
from vbot_campaign.study.snapshot import TrialView
from vbot_campaign.study.study import close_readers, load_snapshot, study_names
from vbot_campaign.supervisor import warm_start

FOLDER = Path(__file__).parent
EVALUATOR = (sys.executable, str(FOLDER / "toy_evaluator.py"))
READER = (sys.executable, str(FOLDER / "toy_reader.py"))

SEARCH: dict[str, Any] = {
    "trials": 3,
    "env_steps_per_trial": 10_000,
    "sampler": {"name": "random", "seed": 1},
    "pruner": {"name": "none"},
    "search_space": {"ppo": {"learning_rate": LEARNING_RATE}},
}
NEAR: dict[str, Any] = {
    "stage": "near",
    "search": SEARCH,
    "train": {"env_steps": 20_000},
    "gate": {"metric": "success_rate", "threshold": 0.9, "seeds": 2, "episodes": 8, "tries": 2},
}
FAR: dict[str, Any] = {
    "stage": "far",
    "env": {"spawn_outer_radius": 8.0},
    "warm_start": {"stage": "near", "take": "last", "freeze": ["normalizer"], "learning_rate_multiplier": 0.5},
    "train": {"env_steps": 10_000},
    "gate": {"metric": "success_rate", "threshold": 0.9, "patience": 2},
}

DRIVER = """
import json, os, signal, sys
from pathlib import Path
from tests.support.toy_campaign import toy_programs, plan_spec, options
from vbot_campaign.campaign import runner
from vbot_campaign.campaign.runner import resume_campaign, run_campaign
from vbot_campaign.errors import CampaignError
from vbot_campaign.paths import CampaignPaths
root, overrides = Path(sys.argv[1]), json.loads(sys.argv[2])
saves, store = [int(os.environ.get("TOY_DIE_BEFORE_SAVE", "0"))], runner.update_plan
def dying(*arguments, **values):
    saves[0] -= 1
    if saves[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    store(*arguments, **values)
runner.update_plan = dying
with toy_programs():
    try:
        if overrides is None:
            outcome = resume_campaign(CampaignPaths(root), "toy", say=print, **options())
        else:
            outcome = run_campaign(CampaignPaths(root), plan_spec(**overrides), say=print, **options())
    except CampaignError as error:
        sys.exit(str(error))
assert "torch" not in sys.modules, "the supervisor's side loaded torch"
"""


@dataclass(frozen=True)
class ToySettings:
    """How the toy programs behave."""

    apply: Callable[[dict[str, list[float]], float], None]
    log: Path

    def __call__(self, gates: dict[str, list[float]] | None = None, iteration_s: float = 0.001) -> None:
        """Set them.

        Args:
            gates: By stage, the success rate at the gate of each try.
            iteration_s: Duration of an iteration.
        """
        self.apply(gates or {}, iteration_s)

    def evaluated(self) -> list[str]:
        """Return a line per evaluation."""
        return self.log.read_text().splitlines() if self.log.exists() else []


def plan_spec(**overrides: Any) -> PlanSpec:
    """Return a plan of two stages; the second starts from the first.

    Args:
        **overrides: Keys of the plan file in place of the usual ones.
    """
    values: dict[str, Any] = {
        "plan": "toy",
        "objective": {"success_rate": 1.0},
        "ppo": {"rollouts": 10, "mini_batches": 4},
        "workers": {"num_envs": 100, "slots": 2},
        "report_points": 10,
        "stages": [NEAR, FAR],
    }
    return PlanSpec.model_validate({**values, **overrides})


def options(**overrides: Any) -> dict[str, Any]:
    """Return options of a campaign that is quick."""
    quick = {"worker_command": TOY_COMMAND, "slots": cpu_slots(), "poll_s": 0.02, "grace_s": 20.0}
    return {**quick, "evaluate_command": EVALUATOR, **overrides}


@contextmanager
def toy_programs() -> Iterator[None]:
    """Read policies with the toy reader in the block."""
    before, warm_start.READER_COMMAND = warm_start.READER_COMMAND, READER
    try:
        yield
    finally:
        warm_start.READER_COMMAND = before
        close_readers()


def run(paths: CampaignPaths, *, more: dict[str, Any] | None = None, **overrides: Any) -> CampaignOutcome:
    """Run the toy campaign here.

    Args:
        paths: The runs folder.
        more: Options of the runner and of its supervisors.
        **overrides: Keys of the plan.
    """
    return run_campaign(paths, plan_spec(**overrides), **options(**(more or {})))


def resume(paths: CampaignPaths, **more: Any) -> CampaignOutcome:
    """Resume the toy campaign here."""
    return resume_campaign(paths, "toy", **options(**more))


def start(paths: CampaignPaths, overrides: dict[str, Any] | None, *, die_before_save: int = 0) -> subprocess.Popen[str]:
    """Start the toy campaign in its own process; ``None`` resumes.

    Args:
        paths: The runs folder.
        overrides: Keys of the plan.
        die_before_save: Kill itself right before it stores its state for so many times; 0 lives on.
    """
    environ = {
        **os.environ,
        "TOY_DIE_BEFORE_SAVE": str(die_before_save),
        "PYTHONPATH": str(Path.cwd()),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-c", DRIVER, str(paths.root), json.dumps(overrides)]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def state_of(paths: CampaignPaths) -> CampaignState:
    """Return what the database says of the toy campaign."""
    return CampaignState.from_dict(load_plan_record(paths, "toy").state)


def trials_of(paths: CampaignPaths, stage: str, phase: Phase) -> tuple[TrialView, ...]:
    """Return the trials of one part of a stage."""
    plan = plan_spec()
    found = next(one for one in plan.stages if one.stage == stage)
    return load_snapshot(paths, study_name(plan, found, phase)).trials


def result(paths: CampaignPaths) -> dict[str, Any]:
    """Return what must be the same however often a campaign was interrupted."""
    state = state_of(paths).as_dict()
    for stage in state["stages"].values():
        for one in stage["tries"]:
            if one["gate"] is not None:
                del one["gate"]["seconds"]
    studies = {
        name: [
            (t.number, t.parameters, t.seed, t.origin, t.score, t.env_steps, t.state)
            for t in load_snapshot(paths, name).trials
        ]
        for name in study_names(paths)
    }
    return {"word": state["word"], "stages": state["stages"], "studies": studies}
