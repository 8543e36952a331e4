"""What each fault does. A strike returns when the fault has passed; going on is left to the program."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from vbot_campaign.chaos.campaign import ToyCampaign
from vbot_campaign.chaos.progress import TrialProgress, whole_resume_points
from vbot_campaign.chaos.schedule import Kind, PlannedRound

FULL_DISK_BYTES = 1024
"""Files that are longer, which are all that grow, cannot be written any further."""


class MissedError(Exception):
    """What was to be hit had gone by itself a moment before."""


def strike(campaign: ToyCampaign, planned: PlannedRound) -> None:
    """Make a fault happen.

    Args:
        campaign: Where.
        planned: Which.

    Raises:
        MissedError: There was nothing to hit; wait for `can_strike` and try again.
    """
    try:
        _STRIKES[planned.kind](campaign, planned)
    except psutil.NoSuchProcess as error:
        raise MissedError from error


def can_strike(campaign: ToyCampaign, kind: Kind) -> bool:
    """Tell whether there is something for the fault to hit just now."""
    trial = campaign.progress.trial
    if campaign.supervisor is None or trial is None:
        return False
    if kind.needs_unfinished_trial and not _can_be_damaged(trial, kind):
        return False
    return not kind.needs_worker or campaign.worker is not None


def _can_be_damaged(trial: TrialProgress, kind: Kind) -> bool:
    if trial.folder.result.exists():
        return False
    # The checkpoint before the destroyed one must be good.
    return trial.lines > 0 if kind is Kind.METRICS_TORN else len(whole_resume_points(trial.folder)) >= 2


def _worker(campaign: ToyCampaign) -> psutil.Process:
    return _there(campaign.worker)


def _supervisor(campaign: ToyCampaign) -> psutil.Process:
    return _there(campaign.supervisor)


def _there(process: psutil.Process | None) -> psutil.Process:
    if process is None:
        raise MissedError
    return process


def _kill_worker(campaign: ToyCampaign, planned: PlannedRound) -> None:
    campaign.kill(_worker(campaign))


def _kill_supervisor(campaign: ToyCampaign, planned: PlannedRound) -> None:
    campaign.kill(_supervisor(campaign))


def _kill_both(campaign: ToyCampaign, planned: PlannedRound) -> None:
    victims = (_worker(campaign), _supervisor(campaign))
    campaign.kill(*(victims if planned.choice < 0.5 else reversed(victims)))


def _kill_all(campaign: ToyCampaign, planned: PlannedRound) -> None:
    campaign.kill_all()


def _freeze_worker(campaign: ToyCampaign, planned: PlannedRound) -> None:
    _worker(campaign).suspend()


def _freeze_worker_and_kill_supervisor(campaign: ToyCampaign, planned: PlannedRound) -> None:
    _worker(campaign).suspend()
    campaign.kill(_supervisor(campaign))


def _freeze_supervisor(campaign: ToyCampaign, planned: PlannedRound) -> None:
    supervisor = _supervisor(campaign)
    supervisor.suspend()
    time.sleep(planned.seconds)
    supervisor.resume()


def _freeze_and_kill_supervisor(campaign: ToyCampaign, planned: PlannedRound) -> None:
    supervisor = _supervisor(campaign)
    supervisor.suspend()
    time.sleep(planned.seconds)
    campaign.kill(supervisor)


def _fill_disk_of_worker(campaign: ToyCampaign, planned: PlannedRound) -> None:
    _limit_files(_worker(campaign), FULL_DISK_BYTES)


def _fill_disk_of_supervisor(campaign: ToyCampaign, planned: PlannedRound) -> None:
    _limit_files(_supervisor(campaign), FULL_DISK_BYTES)
    deadline = time.monotonic() + planned.seconds
    while campaign.exit_code is None and time.monotonic() < deadline:
        time.sleep(0.05)
    # A worker that it started meanwhile has inherited the limit.
    for process in campaign.processes():
        _limit_files(process, psutil.RLIM_INFINITY)


def _limit_files(process: psutil.Process, limit: int) -> None:
    """Set the size that files may grow to; what goes beyond fails as on a full disk (Linux only)."""
    try:
        _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (limit, hard))
    except psutil.NoSuchProcess:
        return


def _tear_metrics(campaign: ToyCampaign, planned: PlannedRound) -> None:
    """Cut the last line somewhere in its middle, as a power cut would."""
    metrics = _killed_trial(campaign, planned.kind).folder.metrics
    content = metrics.read_bytes()
    start = content.rfind(b"\n", 0, len(content) - 1) + 1
    os.truncate(metrics, start + 1 + int(planned.choice * (len(content) - start - 2)))


def _truncate_checkpoint(campaign: ToyCampaign, planned: PlannedRound) -> None:
    trial = _killed_trial(campaign, planned.kind)
    newest = whole_resume_points(trial.folder)[-1]
    os.truncate(newest, int(planned.choice * newest.stat().st_size))
    trial.newest_destroyed = True


def _killed_trial(campaign: ToyCampaign, kind: Kind) -> TrialProgress:
    campaign.kill_all()
    campaign.progress.poll()
    trial = campaign.progress.trial
    if trial is None or not _can_be_damaged(trial, kind):
        raise MissedError
    return trial


def _mirrors(campaign: ToyCampaign) -> list[Path]:
    paths = campaign.paths
    files = [paths.automl_state, paths.registry, paths.index]
    files += [file for folder in ("configs", "experiments") for file in (paths.root / folder).glob("*.yaml")]
    return sorted(file for file in files if file.exists())


def _remove_mirror(campaign: ToyCampaign, planned: PlannedRound) -> None:
    mirrors = _mirrors(campaign)
    if mirrors:
        mirrors[int(planned.choice * len(mirrors))].unlink()


def _remove_mirrors(campaign: ToyCampaign, planned: PlannedRound) -> None:
    for mirror in _mirrors(campaign):
        mirror.unlink(missing_ok=True)


def _lock_database(campaign: ToyCampaign, planned: PlannedRound) -> None:
    command = [
        sys.executable,
        "-m",
        "vbot_campaign.chaos.lock_holder",
        str(campaign.runs.database),
        f"{planned.seconds}",
    ]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=120)


_STRIKES: dict[Kind, Callable[[ToyCampaign, PlannedRound], None]] = {
    Kind.WORKER_KILLED: _kill_worker,
    Kind.SUPERVISOR_KILLED: _kill_supervisor,
    Kind.BOTH_KILLED: _kill_both,
    Kind.ALL_KILLED: _kill_all,
    Kind.WORKER_FROZEN: _freeze_worker,
    Kind.WORKER_FROZEN_SUPERVISOR_KILLED: _freeze_worker_and_kill_supervisor,
    Kind.SUPERVISOR_FROZEN: _freeze_supervisor,
    Kind.SUPERVISOR_FROZEN_KILLED: _freeze_and_kill_supervisor,
    Kind.WORKER_DISK_FULL: _fill_disk_of_worker,
    Kind.SUPERVISOR_DISK_FULL: _fill_disk_of_supervisor,
    Kind.METRICS_TORN: _tear_metrics,
    Kind.CHECKPOINT_TRUNCATED: _truncate_checkpoint,
    Kind.MIRROR_REMOVED: _remove_mirror,
    Kind.MIRRORS_REMOVED: _remove_mirrors,
    Kind.DATABASE_LOCKED: _lock_database,
}
