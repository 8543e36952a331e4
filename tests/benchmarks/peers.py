"""``python -m tests.benchmarks.peers [--quick]``: our trainer beside those of skrl and rsl_rl, on our environment.

One after the other, each in a process of its own with a thread per core, on the GPU if there is one. What is made to
agree is in ``tests/benchmarks/peer_trainers.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from vbot_campaign.supervisor.slots import available_cores

NAMES = ("ours", "ours, mixed precision", "skrl", "rsl_rl")
DROPPED = 2
"""First iterations, in which memory is touched for the first time, are not timed."""


def main() -> None:
    """Train with each and print one table; with ``--train``, train with one and write its figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few iterations; figures are rough and nothing is learned")
    parser.add_argument("--iterations", type=int, help="iterations of each trainer (default 40, quick 5)")
    parser.add_argument("--device", default="auto", help="cpu, cuda:0 or auto")
    parser.add_argument("--train", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    iterations = options.iterations or (5 if options.quick else 40)
    if options.train:
        _train(options.train, iterations, options.device, options.out)
    else:
        _compare(iterations, options.device)


def _train(name: str, iterations: int, device: str, out: Path) -> None:
    from tests.benchmarks.peer_trainers import train
    from vbot_campaign.worker.single import choose_device

    figures = train(name, iterations, available_cores(), choose_device(device))
    out.write_text(json.dumps(figures))


def _compare(iterations: int, device: str) -> None:
    from tests.benchmarks.machine import describe_machine
    from vbot_campaign.spec.training import TrainingSpec

    training = TrainingSpec(env_steps=1)
    ppo, steps = training.ppo, training.steps_per_iteration
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("skrl", "rsl-rl-lib"))
    print(f"{describe_machine()}, {versions}")
    print(
        f"{training.num_envs} environments x {ppo.rollouts} steps, {ppo.learning_epochs} epochs x {ppo.mini_batches} "
        f"mini-batches, layers {'-'.join(map(str, ppo.policy_hidden_layer_sizes))}; {available_cores()} threads; "
        f"median of {iterations - DROPPED} iterations"
    )
    # An average over the end of the training: the last quarter of it.
    print(f"\n  {'trainer':<24} {'steps/s':>9} {'ratio':>6} {'ms/iter.':>9}   reward per episode")
    print(f"  {'':<24} {'':>9} {'':>6} {'':>9}   first quarter -> last of {iterations * steps / 1e6:.1f}M env steps")
    ours = None
    for name in NAMES:
        figures = _figures(name, iterations, device)
        seconds = statistics.median(figures["seconds"][DROPPED:])
        ours = ours or seconds
        quarter = max(iterations // 4, 1)
        first, last = (_reward(figures, part) for part in (slice(0, quarter), slice(-quarter, None)))
        line = f"  {name:<24} {steps / seconds:>9,.0f} {ours / seconds:>6.2f} {1000 * seconds:>9,.0f}"
        print(f"{line}   {first:.1f} -> {last:.1f}", flush=True)


def _figures(name: str, iterations: int, device: str) -> dict[str, Any]:
    environ = {**os.environ, "OMP_NUM_THREADS": str(available_cores()), "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryDirectory(prefix="vbot-peers-") as folder:
        out = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "tests.benchmarks.peers", "--train", name, "--out", str(out)]
        command += ["--iterations", str(iterations), "--device", device]
        done = subprocess.run(command, env=environ, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{name} failed:\n{done.stdout}{done.stderr}")
        return json.loads(out.read_text())


def _reward(figures: dict[str, list[float]], part: slice) -> float:
    return sum(figures["rewards"][part]) / max(sum(figures["episodes"][part]), 1.0)


if __name__ == "__main__":
    main()
