"""What it costs to save and to restore everything that an exact resume needs."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

from tests.benchmarks.rows import Row
from vbot_campaign.envs.registry import env_for
from vbot_campaign.rl import checkpoint
from vbot_campaign.rl.learner import Learner
from vbot_campaign.spec.training import TrainingSpec


def measure(folder: Path, quick: bool) -> list[Row]:
    """Save and restore a learner after its first iteration, on one thread."""
    torch.set_num_threads(1)
    learner = _learner()
    learner.iterate()
    saves, restores, size = [], [], 0
    for index in range(3 if quick else 10):
        path = folder / f"agent_{index}.pt"
        started = time.perf_counter()
        record = checkpoint.save(path, learner.state_dict(), {})
        saved = time.perf_counter()
        learner.load_state_dict(checkpoint.load(path, record.sha256))
        saves.append(1000.0 * (saved - started))
        restores.append(1000.0 * (time.perf_counter() - saved))
        size = record.bytes
        path.unlink()
    return [
        Row("save, with hash and fsync", statistics.median(saves), "ms", note=f"slowest {max(saves):.0f}"),
        Row("restore, with hash", statistics.median(restores), "ms", note=f"slowest {max(restores):.0f}"),
        Row("size", size / 1e6, "MB", 1),
    ]


def _learner() -> Learner:
    training = TrainingSpec(env_steps=1_000_000)
    env = env_for(training, threads=1, training=True)
    return Learner(env, training.ppo, iterations=training.iterations, seed=training.seed)
