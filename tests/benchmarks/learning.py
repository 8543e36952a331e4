"""``python -m tests.benchmarks.learning --set ppo.mixed_precision=true --seeds 1,2,42 --env-steps 6M``.

Trains the defaults and each ``--set`` with each seed, and prints how the last policies do in the deterministic
evaluation, as a Markdown table. Each training is a worker on a folder of its own: run the same command again after an
interruption and it continues where it was; what is finished is only read.
"""

from __future__ import annotations

import argparse
import queue
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from vbot_campaign import fs
from vbot_campaign.errors import CampaignError, SpecError
from vbot_campaign.events import Ended, Result
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.counts import parse_count
from vbot_campaign.spec.loading import build_training, read_trial_spec
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.study import WorkerSettings
from vbot_campaign.spec.training import TrainingSpec, TrialSpec
from vbot_campaign.supervisor.slots import Slot, discover_slots, worker_environment
from vbot_campaign.worker.single import next_attempt


@dataclass(frozen=True)
class Case:
    """One training of the comparison."""

    setting: str
    seed: int
    training: TrainingSpec
    paths: TrialPaths


@dataclass(frozen=True)
class Learned:
    """How a case ended."""

    case: Case
    reached: float
    success: float
    fell: float
    score: float
    env_steps_per_s: float


def main() -> None:
    """Train, then print the table."""
    options = _parser().parse_args()
    try:
        cases = _cases(options)
        slots = discover_slots(WorkerSettings(slots=options.at_once, slots_per_gpu=options.at_once))
        for case in cases:
            _prepare(case, slots[0])
    except CampaignError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{len(cases)} trainings of {cases[0].training.env_steps:,} env steps on {_names(slots)}", flush=True)
    free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
    for slot in slots:
        free.put(slot)
    with ThreadPoolExecutor(len(slots)) as pool:
        learned = list(pool.map(lambda case: _learn(case, free), cases))
    print(markdown(learned))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.learning", description=__doc__)
    parser.add_argument("--set", action="append", default=[], help="a setting to compare: one or more GROUP.NAME=VALUE")
    parser.add_argument("--base", action="append", default=[], help="GROUP.NAME=VALUE for all trainings")
    parser.add_argument("--seeds", default="1,2,42", help="default 1,2,42")
    parser.add_argument("--env-steps", default="6M", help="of each training, default 6M")
    parser.add_argument("--episodes", type=int, default=512, help="of the final evaluation, default 512")
    parser.add_argument("--num-envs", type=int, help="default as in a training")
    parser.add_argument("--at-once", type=int, default=1, help="trainings at once, which share cores and GPU")
    parser.add_argument("--folder", type=Path, default=Path("runs/learning"), help="default runs/learning")
    parser.add_argument("--environment", default="vbot_navigation_section001")
    return parser


def _cases(options: argparse.Namespace) -> list[Case]:
    env_steps = parse_count("--env-steps", options.env_steps)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    return [_case(options, setting, seed, env_steps) for setting in ("defaults", *options.set) for seed in seeds]


def _case(options: argparse.Namespace, setting: str, seed: int, env_steps: int) -> Case:
    changes = [] if setting == "defaults" else setting.split()
    training = build_training(
        options.environment,
        env_steps,
        [*options.base, *changes],
        seed=seed,
        num_envs=options.num_envs,
        evaluation={"episodes": options.episodes},
    )
    name = re.sub(r"[^\w.=-]+", "_", f"{setting}-seed-{seed}")
    return Case(setting, seed, training, TrialPaths(options.folder / name))


def _prepare(case: Case, slot: Slot) -> None:
    """Write a new training's ``trial.json``, or open the next attempt of one that was interrupted."""
    if not case.paths.spec.exists():
        spec = TrialSpec(training=case.training, device=slot.device, threads=slot.threads)
        fs.write_json(case.paths.spec, spec.model_dump(mode="json"))
    elif read_trial_spec(case.paths.spec).training != case.training:
        raise SpecError(f"{case.paths.root} holds another training. Give another --folder, or delete it.")
    elif _finished(case) is None:
        next_attempt(case.paths.root)


def _finished(case: Case) -> Result | None:
    result = Result.read(case.paths.result)
    return result if result is not None and result.state is Ended.FINISHED else None


def _learn(case: Case, free: queue.SimpleQueue[Slot]) -> Learned:
    slot = free.get()
    try:
        if _finished(case) is None:
            with case.paths.log.open("ab") as log:
                command = [sys.executable, "-m", "vbot_campaign.worker", str(case.paths.root)]
                subprocess.run(command, env=worker_environment(slot, slot.threads), stdout=log, stderr=log)
        learned = _read(case)
    finally:
        free.put(slot)
    print(f"{case.setting}, seed {case.seed}: score {learned.score:.3f}", file=sys.stderr, flush=True)
    return learned


def _read(case: Case) -> Learned:
    result = _finished(case)
    if result is None:
        raise SystemExit(f"{case.paths.root}: did not finish.\n{case.paths.log.read_text()[-2000:]}")
    lines = fs.read_lines(case.paths.metrics)
    # The last policy, not the best one of the training: what is compared is learning, not the choice of a checkpoint.
    (last,) = (line for line in lines if line["kind"] == "evaluation" and line["checkpoint"] == result.last_checkpoint)
    totals = EpisodeTotals.from_dict(last["episodes"])
    speeds = [line["timing"]["env_steps_per_s"] for line in lines if line["kind"] == "progress"]
    fell = (totals.fell_before + totals.fell_after) / totals.finished
    reached, success = totals.reached / totals.finished, totals.success / totals.finished
    return Learned(case, reached, success, fell, last["score"], statistics.median(speeds))


def markdown(learned: Sequence[Learned]) -> str:
    """Return one row for each training, and the mean of each setting below its rows."""
    lines = [
        "| setting | seed | reached | success | fell | score | env steps/s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for setting, group in groupby(learned, key=lambda one: one.case.setting):
        rows = list(group)
        lines += [_line(setting, one.case.seed, [one]) for one in rows]
        lines.append(_line(setting, "mean", rows))
    return "\n".join(lines)


def _line(setting: str, seed: Any, rows: Sequence[Learned]) -> str:
    def mean(name: str) -> float:
        return statistics.fmean(getattr(row, name) for row in rows)

    shares = " | ".join(f"{100 * mean(name):.1f} %" for name in ("reached", "success", "fell"))
    return f"| `{setting}` | {seed} | {shares} | {mean('score'):.3f} | {mean('env_steps_per_s'):,.0f} |"


def _names(slots: Sequence[Slot]) -> str:
    threads = slots[0].threads
    return f"{', '.join(slot.name for slot in slots)}; {threads.torch} threads for each pool"


if __name__ == "__main__":
    main()
