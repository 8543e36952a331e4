"""Puts points of elsewhere into a study's queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vbot_campaign import fs
from vbot_campaign.errors import SpecError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.point_file import Candidate, read_points, read_renames
from vbot_campaign.spec.reward_file import RewardFile
from vbot_campaign.study import CampaignStudy, load_snapshot, open_storage
from vbot_campaign.study.queue import QueuedTrial
from vbot_campaign.study.snapshot import StudySnapshot
from vbot_campaign.study.storage import storage_errors
from vbot_campaign.study.transfer_points import Fitted, candidates_of, fit_all


@dataclass(frozen=True)
class Enqueued:
    """What became of the points."""

    points: tuple[Fitted, ...]
    """In the order given; those without `Fitted.refused` were queued."""
    waiting: int
    """Queued trials that are still to be made, these among them."""
    snapshot: StudySnapshot
    """The study."""


def parse_source(text: str) -> tuple[str, list[int] | None]:
    """Split ``section001:4,7`` into a study and trials; None where it names none.

    Raises:
        SpecError: It is no such thing.
    """
    name, colon, numbers = text.partition(":")
    parts = [part.strip() for part in numbers.split(",")] if colon else []
    if not name or not all(part.isdecimal() for part in parts):
        raise SpecError(f"--from {text}: expected STUDY or STUDY:TRIAL,TRIAL, such as section001:4,7.")
    return name, [int(part) for part in parts] or None


def from_study(paths: CampaignPaths, source: str, top: int) -> list[Candidate]:
    """Return the points of another study's trials.

    Args:
        paths: The runs folder.
        source: ``STUDY`` or ``STUDY:TRIAL,TRIAL``.
        top: How many of the best complete ones, where none are named.

    Raises:
        StudyError: No such study or trial.
        SpecError: The source cannot be read, or there is nothing to choose from.
    """
    name, trials = parse_source(source)
    return candidates_of(load_snapshot(paths, name), trials, top)


def from_file(paths: CampaignPaths, name: str, file: Path, renames: Sequence[str], top: int | None) -> list[Candidate]:
    """Return the points of a file.

    Args:
        paths: The runs folder.
        name: The study they are for.
        file: Any that `vbot_campaign.spec.point_file` reads.
        renames: ``OLD=NEW``.
        top: How many of those with the highest scores; None for all.

    Raises:
        StudyError: No such study.
        SpecError: The file cannot be read, a rename is wrong or renames nothing, or scores are missing.
    """
    environment = load_snapshot(paths, name).spec.environment
    known = read_renames(renames, environment)
    points = read_points(file, environment, known)
    found = {key for point in points for key in point.values}
    if unused := [f"{old}={new}" for old, new in known.items() if new not in found]:
        raise SpecError(f"--map {unused[0]}: no point in {file} has a value of that name.")
    return points if top is None else _best(points, top, file)


def from_library(name: str, entry: RewardFile) -> Candidate:
    """Return the weights of an entry of the reward library as a point."""
    values = {f"reward.{term}": weight for terms in entry.reward.values() for term, weight in terms.items()}
    return Candidate(f"library {name}", values, entry.record.score if entry.record else None)


def enqueue_points(paths: CampaignPaths, name: str, candidates: Sequence[Candidate], *, clip: bool) -> Enqueued:
    """Put points into a study's queue; a supervisor that is at work makes trials of them next.

    What does not fit, and what the study has already, is left out.

    Args:
        paths: The runs folder.
        name: The study.
        candidates: The points.
        clip: Move values into their range instead of leaving the point out.

    Raises:
        StudyNotFoundError: No such study.
        FolderBusyError: Another process puts points into the queue just now.
        StorageError: The database cannot be written.
    """
    snapshot = load_snapshot(paths, name)  # names the studies that there are, where this one is not
    storage = open_storage(paths)
    try:
        with (
            storage_errors(storage.url),
            fs.hold_lock(paths.study(name).queue_lock, what=f"the queue of study {name}"),
        ):
            study = CampaignStudy.open(storage, name)
            known = [(f"trial {trial.number}", trial.parameters) for trial in snapshot.trials]
            known += [(f"the queued {entry.trial.origin}", entry.trial.parameters) for entry in study.queue]
            points = fit_all(study.spec, candidates, known, clip=clip)
            study.enqueue([QueuedTrial(dict(p.parameters), p.origin) for p in points if not p.refused])
            return Enqueued(tuple(points), len(study.queue), snapshot)
    finally:
        storage.close()


def _best(points: Sequence[Candidate], top: int, file: Path) -> list[Candidate]:
    if any(point.score is None for point in points):
        raise SpecError(f"--top {top}: not every point in {file} has a score; leave --top out to take all.")
    return sorted(points, key=lambda point: -(point.score or 0.0))[:top]
