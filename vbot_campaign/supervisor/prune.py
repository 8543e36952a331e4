"""What ``vbot-campaign checkpoints prune`` does: remove checkpoints of a study that nobody runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vbot_campaign import fs
from vbot_campaign.errors import FolderBusyError, StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.snapshot import StudySnapshot
from vbot_campaign.study.storage import open_storage, storage_errors
from vbot_campaign.study.study import CampaignStudy, close_readers
from vbot_campaign.supervisor.recovery import busy_error
from vbot_campaign.supervisor.retention import GB, Removal, choose, milestones_of, remove, size_of


@dataclass(frozen=True)
class Pruned:
    """What goes, or went."""

    snapshot: StudySnapshot
    """The study before."""
    removals: tuple[Removal, ...]
    done: bool
    """Whether the files are gone; else they were only looked for."""


def prune_checkpoints(
    paths: CampaignPaths, name: str, *, keep_last: int | None = None, dry_run: bool = False
) -> Pruned:
    """Remove checkpoints of ended trials, by the study's disk budget.

    Args:
        paths: The runs folder.
        name: The study.
        keep_last: Points to continue from that an ended trial keeps, whatever the budget.
        dry_run: Only say what would go.

    Raises:
        StudyNotFoundError: No study of that name.
        StudyBusyError: A supervisor is at work on it.
        StorageError: The database cannot be used.
    """
    if not paths.has_database:
        raise StudyNotFoundError(f"study '{name}': not found, there is no database {paths.database}.")
    storage = open_storage(paths, read_only=dry_run)
    try:
        with storage_errors(storage.url):
            study = CampaignStudy.open(storage, name)
            if dry_run:
                snapshot = study.snapshot()
                return Pruned(snapshot, tuple(_chosen(paths, snapshot, keep_last)), done=False)
            return _prune(paths, study, keep_last)
    finally:
        storage.close()


def _prune(paths: CampaignPaths, study: CampaignStudy, keep_last: int | None) -> Pruned:
    name = study.spec.study
    lease = study.ledger.lease()
    if lease is not None and lease.is_held():
        raise busy_error(name, lease)
    try:
        with fs.hold_lock(paths.study(name).supervisor_lock, what=f"study {name}"):
            snapshot = study.snapshot()
            removed = remove(study, paths.study(name), _chosen(paths, snapshot, keep_last))
            close_readers()  # what this process has read of ended trials is old now
            return Pruned(snapshot, tuple(removed), done=True)
    except FolderBusyError:
        raise busy_error(name, lease) from None


def _chosen(paths: CampaignPaths, snapshot: StudySnapshot, keep_last: int | None) -> list[Removal]:
    milestones = milestones_of(paths.study(snapshot.spec.study), snapshot.trials)
    budget = snapshot.spec.checkpoints.disk_budget_gb * GB
    return choose(snapshot, milestones, budget_bytes=budget, keep_last=keep_last)


def render_pruned(pruned: Pruned) -> str:
    """Return a table of what goes and a line of how much."""
    snapshot, budget = pruned.snapshot, pruned.snapshot.spec.checkpoints.disk_budget_gb
    before = size_of(snapshot)
    after = before - sum(removal.bytes for removal in pruned.removals)
    limit = f"The budget is {_size(budget * GB)} (checkpoints.disk_budget_gb)."
    if not pruned.removals:
        return f"{snapshot.spec.study}: nothing to remove; its checkpoints take {_size(before)}.\n{limit}"
    verb = "removed" if pruned.done else "would be removed"
    count = len(pruned.removals)
    files = f"{count} file{'s' if count > 1 else ''}"
    end = f"{files} {verb}: {_size(before)} become {_size(after)}."
    over = "It is still exceeded: what is left is needed." if after > budget * GB else ""
    return "\n".join([*_table(pruned.removals), "", end, f"{limit} {over}".rstrip()])


def _table(removals: Sequence[Removal]) -> list[str]:
    lines = [f"{'trial':>5}  {'state':<9} {'score':>7}  {'file':<32} {'size':>9}"]
    for removal in removals:
        trial, file = removal.trial, removal.checkpoint.path.rpartition("/")[2]
        score = "-" if trial.score is None else f"{trial.score:.4f}"
        lines.append(f"{trial.number:>5}  {trial.state.value:<9} {score:>7}  {file:<32} {_size(removal.bytes):>9}")
    return lines


def _size(count: float) -> str:
    for unit, size in (("GB", GB), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"
