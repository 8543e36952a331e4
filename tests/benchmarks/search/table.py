"""The recorded trainings that searches are replayed on, and the file that holds them.

The file is gzipped JSON and everything that is needed to go on recording: the study, the points of all configurations,
the training seeds, and what has been trained so far. The study file is only asked when there is no table yet, so that
a table stays one experiment.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.benchmarks.search.drawing import draw_points
from vbot_campaign import fs
from vbot_campaign.errors import SpecError
from vbot_campaign.spec.loading import definition, load_study, study_from_definition
from vbot_campaign.spec.resolve import with_defaults
from vbot_campaign.spec.study import StudySpec

HERE = Path(__file__).parent
STUDY_FILE = HERE / "four.yaml"
TABLE_FILE = HERE / "four.json.gz"
CONFIGURATIONS = 144
TEN_FILE = HERE / "ten.json.gz"
"""The harder table; its study file lies beside it."""
SEEDS = (1, 2)
_VERSION = 1


@dataclass(frozen=True)
class Training:
    """One configuration, trained to its end with one seed."""

    configuration: int
    seed: int
    curve: tuple[tuple[int, float], ...]
    """Reported scores: env step of the canonical grid and score, rising."""
    score: float | None
    """Of the evaluation at the end; None where the training failed."""
    parts: dict[str, float]
    """Of the evaluation."""
    env_steps: int
    seconds: float
    """Wall time of all its attempts, on whatever the machine did beside."""
    reason: str = ""
    """Why it failed."""


@dataclass(frozen=True)
class Table:
    """Configurations of one search space and their trainings."""

    spec: StudySpec
    """With all defaults, so that a later version of the program trains the rest as the first did."""
    points: tuple[dict[str, Any], ...]
    """Real values by real name, by configuration."""
    seeds: tuple[int, ...]
    trainings: tuple[Training, ...] = ()

    @property
    def known(self) -> dict[tuple[int, int], Training]:
        """Trainings by configuration and seed."""
        return {(training.configuration, training.seed): training for training in self.trainings}

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Configurations and seeds that are still to be trained: all seeds of one, then the next."""
        known = self.known
        pairs = [(number, seed) for number in range(len(self.points)) for seed in self.seeds]
        return [pair for pair in pairs if pair not in known]

    @property
    def complete(self) -> list[int]:
        """Configurations that were trained with every seed; a replay uses these alone."""
        gone = {number for number, _ in self.missing}
        return [number for number in range(len(self.points)) if number not in gone]

    def with_trainings(self, trainings: Sequence[Training]) -> Table:
        """Return the table with further trainings; one that is there already stays as it is."""
        known = {**{(t.configuration, t.seed): t for t in trainings}, **self.known}
        return replace(self, trainings=tuple(known[pair] for pair in sorted(known)))

    def words(self) -> str:
        """Say how much of the table is there."""
        whole = f"{len(self.points)} configurations x {len(self.seeds)} seeds"
        if not self.missing:
            return f"the whole table: {whole}"
        return f"a PARTIAL table: {len(self.complete)} of {whole} are trained ({len(self.trainings)} trainings)"


def new_table(study_file: Path = STUDY_FILE, configurations: int = CONFIGURATIONS) -> Table:
    """Return the table of a study file without any training.

    Raises:
        SpecError: The study file is wrong.
    """
    spec = with_defaults(load_study(study_file))
    return Table(spec, tuple(draw_points(spec, configurations)), SEEDS)


def read_table(file: Path) -> Table:
    """Read a table.

    Raises:
        SpecError: There is none, or it is damaged.
    """
    try:
        record = json.loads(gzip.decompress(file.read_bytes()))
        trainings = [Training(**{**row, "curve": tuple(map(tuple, row["curve"]))}) for row in record["trainings"]]
        spec = study_from_definition(record["study"], file.name)
        return Table(spec, tuple(record["points"]), tuple(record["seeds"]), tuple(trainings))
    except FileNotFoundError:
        message = f"{file}: no such table. Record it with: python -m tests.benchmarks.search.record"
        raise SpecError(message) from None
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        message = f"{file}: no table of this benchmark ({error}). Restore it, or delete it and record it again."
        raise SpecError(message) from None


def write_table(table: Table, file: Path) -> None:
    """Write a table so that a crash leaves the old one or the new one; equal tables are equal files."""
    record = {
        "version": _VERSION,
        "made_by": "python -m tests.benchmarks.search.record",
        "study": definition(table.spec),
        "points": table.points,
        "seeds": table.seeds,
        "trainings": [asdict(training) for training in table.trainings],
    }
    with fs.replacing(file) as part:
        part.write(gzip.compress(json.dumps(record, separators=(",", ":")).encode(), mtime=0))
