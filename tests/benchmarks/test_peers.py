"""The other trainers really train our environment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.peers import NAMES

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_trainer_takes_the_iterations_it_was_asked_for(tmp_path: Path, name: str) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks.peers", "--train", name, "--iterations", "2", "--out", str(out)]

    subprocess.run([*command, "--device", "cpu"], cwd=ROOT, check=True)

    figures = json.loads(out.read_text())
    assert {key: len(values) for key, values in figures.items()} == {"seconds": 2, "rewards": 2, "episodes": 2}
    assert min(figures["seconds"]) > 0.05
