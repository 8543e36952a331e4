"""The same question with real trainings, smaller: a few searches with the env steps of eight short trials each.

One repetition says little about which search is better; it shows that what the replay counts is what a study costs.
Each search is a study that is trained by `vbot-campaign resume`; stopped, the same command goes on.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.benchmarks.search.searches import default_settings
from tests.benchmarks.search.table import HERE, Table
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.study import Budget, PrunerSettings, SamplerSettings, StudySpec
from vbot_campaign.study import load_snapshot
from vbot_campaign.study.snapshot import TrialState
from vbot_campaign.supervisor import create_study

TRIALS = 8
ENV_STEPS = 200_000


def run_live(runs: Path, table: Table) -> int:
    """Train all searches, or go on, and print what each came to; return the exit code of the first that stopped.

    Raises:
        CampaignError: A study of that name is there and is another one, or cannot be stored.
    """
    paths = CampaignPaths(runs)
    for name, spec in live_studies(table.spec).items():
        create_study(paths, spec, folder=HERE)
        command = [sys.executable, "-m", "vbot_campaign.cli", "--runs", str(runs), "resume", spec.study]
        if code := subprocess.run(command).returncode:
            return code
        print(f"\n{name}: {_result(paths, spec)}\n", flush=True)
    print(f"{TRIALS} x {ENV_STEPS:,} env steps for each search")
    for name, spec in live_studies(table.spec).items():
        print(f"  {name:<37}{_result(paths, spec)}")
    return 0


def live_studies(spec: StudySpec) -> dict[str, StudySpec]:
    """Return the studies by the name of their search."""
    sampler, pruner = default_settings()
    rows = {
        "random, no pruner": ("random", SamplerSettings(name="random"), PrunerSettings(name="none")),
        f"default: {sampler.name}, {pruner.name}": ("default", sampler, pruner),
        f"{sampler.name}, successive_halving (pause)": (
            "pausing",
            sampler,
            PrunerSettings(name="successive_halving", pause=True),
        ),
    }
    return {
        name: spec.model_copy(
            update={
                "study": f"search-live-{short}",
                "env_steps_per_trial": ENV_STEPS,
                "budget": Budget(env_steps=TRIALS * ENV_STEPS),
                "sampler": drawn,
                "pruner": stopped,
            }
        )
        for name, (short, drawn, stopped) in rows.items()
    }


def _result(paths: CampaignPaths, spec: StudySpec) -> str:
    snapshot = load_snapshot(paths, spec.study)
    complete = sum(trial.state is TrialState.COMPLETE for trial in snapshot.trials)
    best = snapshot.best
    score = "no complete trial" if best is None else f"best score {best.score:.3f} (trial {best.number})"
    return f"{score}; {len(snapshot.trials)} trials, {complete} complete, {snapshot.env_steps_used:,} env steps"
