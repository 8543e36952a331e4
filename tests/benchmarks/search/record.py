"""``python -m tests.benchmarks.search.record``: train the table that searches are replayed on, or go on with it.

The trainings are queued trials of one study, each with its own seed, and it is `vbot-campaign resume` that trains them.
Ctrl-C (or a SIGTERM) stops it with checkpoints; the same command goes on. The table is written after every few
trainings and is all that is needed to go on elsewhere: what is in it is not trained again.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.search.table import (
    CONFIGURATIONS,
    HERE,
    STUDY_FILE,
    TABLE_FILE,
    Table,
    Training,
    new_table,
    read_table,
    write_table,
)
from vbot_campaign.errors import CampaignError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import CampaignStudy, load_snapshot, open_storage
from vbot_campaign.study.queue import QueuedTrial
from vbot_campaign.study.snapshot import TrialState, TrialView
from vbot_campaign.study.storage import storage_errors
from vbot_campaign.study.study import is_stored
from vbot_campaign.supervisor import create_study
from vbot_campaign.supervisor.signals import stop_signals

LOOK_EVERY_S = 10.0
WRITE_EVERY = 2
"""Trainings between two writings of the table."""


def main(arguments: list[str] | None = None) -> int:
    """Record until the table is whole or somebody stops it; return the exit code."""
    options = _parser().parse_args(arguments)
    paths = CampaignPaths(options.runs)
    try:
        table = _table(options)
        code = 0
        if not options.export:
            _wait_for_other(paths, table, options.table)
            if queue_missing(paths, table, options.study.parent) or _unfinished(paths, table):
                code = _train(paths, table, options.table)
        table = export(paths, table, options.table)
    except CampaignError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.table} holds {table.words()}; {options.table.stat().st_size:,} bytes")
    return code


def queue_missing(paths: CampaignPaths, table: Table, folder: Path = HERE) -> int:
    """Queue what the table lacks and nobody is at, and drop from the queue what it has by now; return how many wait.

    Args:
        paths: The runs folder.
        table: What is known.
        folder: Where the policy lies that all trainings start from.

    Raises:
        CampaignError: The study is at work, is another one, or cannot be stored.
    """
    create_study(paths, table.spec, folder=folder)
    storage = open_storage(paths)
    try:
        with storage_errors(storage.url):
            study = CampaignStudy.open(storage, table.spec.study)
            missing = set(table.missing)
            study.drop_queued([e.id for e in study.queue if _pair(e.trial.origin, e.trial.seed) not in missing])
            trials = study.snapshot().trials
            there = {_pair(entry.trial.origin, entry.trial.seed) for entry in study.queue}
            there |= {_pair(t.origin, t.seed) for t in trials if not t.state.is_finished or _training(t) is not None}
            study.enqueue(
                [
                    QueuedTrial(table.points[number], f"configuration {number}", seed)
                    for number, seed in table.missing
                    if (number, seed) not in there
                ]
            )
            return len(study.queue)
    finally:
        storage.close()


def export(paths: CampaignPaths, table: Table, file: Path) -> Table:
    """Write the table with what the study has trained by now, and return it."""
    grown = _grown(paths, table)
    if grown != table or not file.exists():
        write_table(grown, file)
    return grown


def _wait_for_other(paths: CampaignPaths, table: Table, file: Path) -> None:
    """Wait while a supervisor trains that an earlier recorder began and did not live to see the end of."""
    said = False
    while (owner := _supervisor(paths, table)) is not None:
        if not said:
            print(f"pid {owner['pid']} trains study {table.spec.study} already; the table is written meanwhile")
        said = True
        time.sleep(LOOK_EVERY_S)
        table = export(paths, table, file)


def _supervisor(paths: CampaignPaths, table: Table) -> dict[str, Any] | None:
    name = table.spec.study
    return load_snapshot(paths, name).supervisor if paths.database.exists() and is_stored(paths, name) else None


def _train(paths: CampaignPaths, table: Table, file: Path) -> int:
    """Have the program train what is queued, write the table meanwhile, and return the program's exit code."""
    command = [sys.executable, "-m", "vbot_campaign.cli", "--runs", str(paths.root), "resume", table.spec.study]
    # In a session of its own: a Ctrl-C reaches it once, from here, as a SIGTERM does.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        with stop_signals(lambda name: process.send_signal(signal.SIGINT)):
            while not _has_ended(process):
                grown = _grown(paths, table)
                if len(grown.trainings) >= len(table.trainings) + WRITE_EVERY:
                    table = grown
                    write_table(table, file)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()
    # As a shell says it, where a signal has ended it.
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(LOOK_EVERY_S)
    return process.poll() is not None


def _unfinished(paths: CampaignPaths, table: Table) -> bool:
    return any(not trial.state.is_finished for trial in load_snapshot(paths, table.spec.study).trials)


def _grown(paths: CampaignPaths, table: Table) -> Table:
    name = table.spec.study
    trials = load_snapshot(paths, name).trials if paths.database.exists() and is_stored(paths, name) else ()
    return table.with_trainings([found for trial in trials if (found := _training(trial)) is not None])


def _table(options: argparse.Namespace) -> Table:
    if options.table.exists():
        return read_table(options.table)
    return new_table(options.study, options.configurations)


def _pair(origin: str | None, seed: int | None) -> tuple[int, int]:
    found = re.fullmatch(r"configuration (\d+)", origin or "")
    return (int(found[1]), seed) if found and seed is not None else (-1, -1)


def _training(trial: TrialView) -> Training | None:
    """Return a trial as the table has it; None where it has not ended, or ended for a reason that is not its own."""
    diverged = trial.state is TrialState.FAILED and trial.reason.startswith("diverged")
    if trial.state is not TrialState.COMPLETE and not diverged:
        return None
    number, seed = _pair(trial.origin, trial.seed)
    ended = [attempt for attempt in trial.attempts if attempt.ended is not None]
    seconds = sum((attempt.ended - attempt.started).total_seconds() for attempt in ended if attempt.ended is not None)
    return Training(
        configuration=number,
        seed=seed,
        curve=tuple((step, round(score, 5)) for step, score in sorted(trial.reports.items())),
        score=None if diverged or trial.score is None else round(trial.score, 5),
        parts={} if diverged else {name: round(value, 5) for name, value in (trial.parts or {}).items()},
        env_steps=trial.env_steps,
        seconds=round(seconds, 1),
        reason=trial.reason if diverged else "",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.search.record", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/search"), help="default runs/search")
    parser.add_argument("--table", type=Path, default=TABLE_FILE, help="default four.json.gz beside this file")
    parser.add_argument(
        "--study", type=Path, default=STUDY_FILE, help="of a new table, default four.yaml; beside it lies start.pt"
    )
    parser.add_argument(
        "--configurations", type=int, default=CONFIGURATIONS, help=f"of a new table, default {CONFIGURATIONS}"
    )
    parser.add_argument("--export", action="store_true", help="only write what is trained by now")
    return parser


if __name__ == "__main__":
    sys.exit(main())
