"""Trainers that an installed package registers, and what the worker says of those it cannot load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.workers import tiny_trial
from vbot_campaign import fs
from vbot_campaign.errors import SpecError
from vbot_campaign.events import Ended, Result
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.training import CommandTrainer
from vbot_campaign.worker.trainer import load_trainer

PACKAGE = '''
"""A package with a trainer: our PPO with another first learning rate, which it notes in the folder."""

from vbot_campaign.worker.training import Training


class Halving(Training):
    def make_learner(self, env, spec):
        half = spec.training.ppo.model_copy(update={"learning_rate": spec.training.ppo.learning_rate / 2})
        training = spec.training.model_copy(update={"ppo": half})
        return super().make_learner(env, spec.model_copy(update={"training": training}))
'''


def install(folder: Path, target: str = "robots:Halving") -> None:
    """Lay out a package with an entry point as pip would."""
    (folder / "robots.py").write_text(PACKAGE, encoding="utf-8")
    info = folder / "robots-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: robots\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[vbot_campaign.trainers]\nhalving = {target}\n", encoding="utf-8")


def run(paths: TrialPaths, *path: Path) -> Result:
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, path))}
    subprocess.run(
        [sys.executable, "-m", "vbot_campaign.worker", paths.root], env=environ, timeout=240, capture_output=True
    )
    result = Result.read(paths.result)
    assert result is not None
    return result


def short_trial(folder: Path, trainer: Any) -> TrialPaths:
    return tiny_trial(folder, trainer=trainer, env_steps=512 * 2, env={"episode_seconds": 1.0})


def test_a_registered_trainer_trains(tmp_path: Path) -> None:
    install(tmp_path)
    paths = short_trial(tmp_path / "trial", "halving")
    assert run(paths, tmp_path).state is Ended.FINISHED
    line = fs.read_lines(paths.metrics)[0]
    # Linear from 1e-3 / 2: after the first of two iterations half of it is left.
    assert line["learning_rate"] == pytest.approx(2.5e-4)
    assert fs.read_json(paths.meta)["trainer"] == "halving"


def test_one_that_is_not_installed_is_invalid(tmp_path: Path) -> None:
    result = run(short_trial(tmp_path / "trial", "halving"))
    assert (result.state, result.token) == (Ended.INVALID, "token-1")
    assert "'halving' is not installed here" in result.reason


@pytest.mark.parametrize("target", ["no_robots:Halving", "robots:Thirding"])
def test_one_that_is_broken_is_invalid(tmp_path: Path, target: str) -> None:
    install(tmp_path, target)
    result = run(short_trial(tmp_path / "trial", "halving"), tmp_path)
    assert result.state is Ended.INVALID
    assert "entry point 'halving' of vbot_campaign.trainers cannot be loaded" in result.reason


def test_a_command_is_named_with_how_to_run_it() -> None:
    with pytest.raises(SpecError, match=r"cd /my/scripts && python train.py TRIAL_DIR"):
        load_trainer(CommandTrainer(command=("python", "train.py"), folder=Path("/my/scripts")))
