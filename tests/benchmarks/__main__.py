"""``python -m tests.benchmarks [--quick]``: how fast training is, and what the supervisor costs.

What each row means is in ``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

# Before torch is loaded: the rows measured in this process use one thread; workers are told their own counts.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

from tests.benchmarks import audit, checkpoints, database, environment, overhead, throughput, views
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.rows import Row, table, verdict

Section = tuple[str, Callable[[Path, bool], list[Row]]]

SECTIONS: dict[str, Section] = {
    "train": ("Training, one worker on all cores (as `train`)", throughput.one_worker),
    "slots": ("Training, two workers at once (as a study)", throughput.two_workers),
    "mixed": ("The same, ppo.mixed_precision", throughput.two_workers_in_mixed_precision),
    "environment": ("Environment alone, on all cores", environment.measure),
    "overhead": ("Supervisor, a study of short trials on two slots", overhead.measure),
    "database": ("Database, with 50 trials of 30 reports each in it (10 if quick)", database.measure),
    "checkpoint": ("Checkpoint, default environments and networks", checkpoints.measure),
    "audit": ("Audit of a reward", audit.measure),
    "views": ("Views, of a study of 2,000 trials x 30 points (200 if quick)", views.measure),
}


def main() -> None:
    """Measure and print one table per section."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds per section; figures are rough")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="measure this section (may be repeated)")
    options = parser.parse_args()
    print(describe_machine() + (", quick" if options.quick else ""))
    measured: list[Row] = []
    for name, (title, measure) in SECTIONS.items():
        if options.only and name not in options.only:
            continue
        with tempfile.TemporaryDirectory(prefix="vbot-bench-") as folder:
            rows = measure(Path(folder), options.quick)
        print(f"\n{title}\n{table(rows)}", flush=True)
        measured += rows
    if any(row.limit for row in measured):
        print(f"\n{verdict(measured)}")


if __name__ == "__main__":
    main()
