"""Which checkpoints of ended trials go when a study's disk budget is used up, and their removal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vbot_campaign import fs
from vbot_campaign.errors import FolderBusyError
from vbot_campaign.events import utc_now
from vbot_campaign.paths import StudyPaths, TrialPaths
from vbot_campaign.study.artifacts import remove_artifact
from vbot_campaign.study.snapshot import CheckpointView, StudySnapshot, TrialState, TrialView
from vbot_campaign.study.study import CampaignStudy

GB = 1_000_000_000


@dataclass(frozen=True)
class Removal:
    """One file that goes."""

    trial: TrialView
    checkpoint: CheckpointView

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.checkpoint.bytes


def size_of(snapshot: StudySnapshot) -> int:
    """Return the bytes of all checkpoints of a study."""
    return sum(checkpoint.bytes for trial in snapshot.trials for checkpoint in trial.checkpoints)


def choose(
    snapshot: StudySnapshot, milestones: frozenset[str], *, budget_bytes: float, keep_last: int | None = None
) -> list[Removal]:
    """Choose what goes, in this order, until the study is within its budget.

    Points to continue from go first, then the policies behind the best one, then the best policies of trials that did
    not complete, and those of complete trials last; within each, the lowest score first, then the oldest. An unfinished
    trial keeps everything, and so do milestones and the study's best policy.

    Args:
        snapshot: The study.
        milestones: Paths of the points that stay for good.
        budget_bytes: What the study's checkpoints may take.
        keep_last: Points to continue from that an ended trial keeps, whatever the budget; None for all.
    """
    best = _best(snapshot)
    free = [
        Removal(trial, checkpoint)
        for trial in snapshot.trials
        if trial.state.is_finished
        for checkpoint in trial.checkpoints
        if checkpoint.path not in milestones and checkpoint != best
    ]
    chosen = [] if keep_last is None else _beyond(free, keep_last)
    left = size_of(snapshot) - sum(removal.bytes for removal in chosen)
    for removal in sorted(free, key=_order):
        if left <= budget_bytes:
            break
        if removal not in chosen:
            chosen.append(removal)
            left -= removal.bytes
    return chosen


def _best(snapshot: StudySnapshot) -> CheckpointView | None:
    # What the registry names: the best trial's best policy, or its latest checkpoint where none was chosen.
    if snapshot.best is None:
        return None
    policies = [checkpoint for checkpoint in snapshot.best.checkpoints if checkpoint.kind == "best"]
    return max(policies or snapshot.best.checkpoints, key=lambda c: c.env_steps, default=None)


def _beyond(free: Sequence[Removal], keep_last: int) -> list[Removal]:
    points = [removal for removal in free if removal.checkpoint.kind == "resume"]
    chosen = []
    for number in dict.fromkeys(removal.trial.number for removal in points):
        own = sorted((r for r in points if r.trial.number == number), key=lambda r: r.checkpoint.env_steps)
        chosen += own[: max(0, len(own) - keep_last)]
    return chosen


def _order(removal: Removal) -> tuple[int, float, str]:
    trial, kind = removal.trial, removal.checkpoint.kind
    rank = {"resume": 0, "top": 1}.get(kind, 3 if trial.state is TrialState.COMPLETE else 2)
    score = float("-inf") if trial.score is None else trial.score
    return rank, score, removal.checkpoint.created.isoformat()


def milestones_of(study: StudyPaths, trials: Iterable[TrialView]) -> frozenset[str]:
    """Return the paths of the checkpoints that the workers marked to stay for good."""
    found = set()
    for trial in trials:
        if trial.folder is not None:
            folder = TrialPaths(study.root / trial.folder)
            lines = fs.read_lines(folder.checkpoint_log)
            found |= {_relative(study, folder, str(line["file"])) for line in lines if line.get("milestone")}
    return frozenset(found)


def _relative(study: StudyPaths, folder: TrialPaths, file: str) -> str:
    return (folder.checkpoints / file).relative_to(study.root).as_posix()


def enforce_disk_budget(study: CampaignStudy, paths: StudyPaths) -> list[Removal]:
    """Remove what `choose` says while a study's checkpoints take more than ``checkpoints.disk_budget_gb``.

    For the process that owns the study.

    Args:
        study: The study.
        paths: Its folder.

    Returns:
        What was removed.
    """
    snapshot = study.snapshot()
    if study.storage.is_server:  # each machine keeps its own disk
        here = (trial for trial in snapshot.trials if trial.folder and (paths.root / trial.folder).is_dir())
        snapshot = replace(snapshot, trials=tuple(here))
    budget = snapshot.spec.checkpoints.disk_budget_gb * GB
    if size_of(snapshot) <= budget:
        return []
    chosen = choose(snapshot, milestones_of(paths, snapshot.trials), budget_bytes=budget)
    return remove(study, paths, chosen)


def remove(study: CampaignStudy, paths: StudyPaths, chosen: Iterable[Removal]) -> list[Removal]:
    """Remove files and say so in the trial's ``checkpoints.jsonl`` and in the database.

    A trial whose folder someone works in is left alone.

    Args:
        study: The study; the caller owns it.
        paths: Its folder.
        chosen: What to remove.

    Returns:
        What was removed.
    """
    removed = []
    for removal in chosen:
        folder = TrialPaths(paths.root / str(removal.trial.folder))
        try:
            if folder.checkpoints.is_dir():  # else someone was quicker
                with fs.hold_lock(folder.lock, what=f"trial folder {folder.root}"):
                    _remove_file(folder, removal.checkpoint)
                    _remove_from_store(study, paths, removal)
        except FolderBusyError:
            continue
        # Last: what a crash leaves undone is chosen again, because the database still has it.
        path = removal.checkpoint.path
        study.ledger.record_checkpoint(removal.trial.number, path, {"deleted": True})
        study.forget(removal.trial.number)
        removed.append(removal)
    return removed


def _remove_from_store(study: CampaignStudy, paths: StudyPaths, removal: Removal) -> None:
    # The store of the dashboard has a link to it: without this the disk would get nothing back.
    file = removal.checkpoint.path.rpartition("/")[2]
    remove_artifact(paths.campaign, study.spec.study, removal.trial.number, file)


def _remove_file(folder: TrialPaths, checkpoint: CheckpointView) -> None:
    path = folder.checkpoints / checkpoint.path.rpartition("/")[2]
    line = {
        "file": path.name,
        "env_steps": checkpoint.env_steps,
        "sha256": checkpoint.sha256,
        "kind": checkpoint.kind,
        "deleted": True,
        "why": "disk budget",
        "time": utc_now(),
    }
    fs.append_line(folder.checkpoint_log, line, sync=True)
    path.unlink(missing_ok=True)
