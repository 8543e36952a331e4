"""Studies begun, continued, planned and stopped by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vbot_campaign import fs
from vbot_campaign.errors import StudyError, StudyNotFoundError
from vbot_campaign.events import utc_now
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.budget import Total, changes_in_words, raised
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.spec.trainable import require
from vbot_campaign.spec.trainer import trainer_problems
from vbot_campaign.study.ledger import Ledger
from vbot_campaign.study.snapshot import WarmStartView
from vbot_campaign.study.storage import CampaignStorage, finish_making, open_storage, storage_errors
from vbot_campaign.study.study import CampaignStudy, check_buildable, is_stored, load_snapshot
from vbot_campaign.supervisor.company import check_shared
from vbot_campaign.supervisor.outcome import Outcome
from vbot_campaign.supervisor.recovery import ResumePlan, busy_error, plan_from
from vbot_campaign.supervisor.supervisor import Supervisor
from vbot_campaign.supervisor.warm_start import check_copy, copy_warm_start, find_warm_start


def run_study(paths: CampaignPaths, spec: StudySpec, *, folder: Path | None = None, **options: Any) -> Outcome:
    """Create a study, or continue it if it exists with the same definition, and run it.

    Args:
        paths: The runs folder.
        spec: The study.
        folder: Folder of the study file, which a relative ``warm_start.checkpoint`` starts from.
        **options: Of `Supervisor`.

    Raises:
        StudyError: There is nothing to start from where ``warm_start`` says, or it cannot be shared; nothing was made.
        CheckpointError: What is there cannot be started from (nothing was made), or the copy of it was altered.
        StudyChangedError: It exists and the definition differs in more than a raised budget.
        StudyBusyError: Another supervisor holds it.
        StorageError: The database cannot be used.
    """
    if options.get("shared", False):
        check_shared(spec, is_server=paths.storage is not None)
    start = _start(paths, spec, folder)
    storage = open_storage(paths)
    try:
        return _supervise(paths, _created(paths, storage, spec, start, options.get("shared", False)), options)
    finally:
        storage.close()


def create_study(paths: CampaignPaths, spec: StudySpec, *, folder: Path | None = None) -> None:
    """Store a study without running it. One that is stored already with the same definition stays as it is.

    Args:
        paths: The runs folder.
        spec: The study.
        folder: Folder of the study file, which a relative ``warm_start.checkpoint`` starts from.

    Raises:
        CampaignError: As `run_study`.
    """
    start = _start(paths, spec, folder)
    storage = open_storage(paths)
    try:
        _created(paths, storage, spec, start)
    finally:
        storage.close()


def _start(paths: CampaignPaths, spec: StudySpec, folder: Path | None) -> WarmStartView | None:
    """Return what the trials of a new study start from; nothing is made before it is found good."""
    if spec.warm_start is None:
        return None
    finish_making(paths)
    if is_stored(paths, spec.study):
        return None
    check_buildable(spec)
    return find_warm_start(paths, spec, folder or Path())


def _created(
    paths: CampaignPaths, storage: CampaignStorage, spec: StudySpec, start: WarmStartView | None, shared: bool = False
) -> CampaignStudy:
    with storage_errors(storage.url):
        _refuse_if_busy(storage, spec.study, shared)
        if start is not None:
            copy_warm_start(paths.study(spec.study), start)
        return CampaignStudy.create(storage, spec, warm_start=start)


def resume_study(paths: CampaignPaths, name: str, **options: Any) -> Outcome:
    """Continue a stored study by name; a finished one returns at once.

    Args:
        paths: The runs folder.
        name: The study.
        **options: Of `Supervisor`.

    Raises:
        StudyNotFoundError: No study of that name.
        StudyBusyError: Another supervisor holds it.
        SpecError: Its trainer is not installed any more, or has gone.
        CheckpointError: The policy that its trials start from is gone or was altered.
        StorageError: The database cannot be used.
    """
    if not paths.has_database:
        raise StudyNotFoundError(f"study '{name}': not found, there is no database {paths.database}.")
    storage = open_storage(paths)
    try:
        with storage_errors(storage.url):
            study = CampaignStudy.open(storage, name)
            _refuse_if_busy(storage, name, options.get("shared", False))
        return _supervise(paths, study, options)
    finally:
        storage.close()


def _supervise(paths: CampaignPaths, study: CampaignStudy, options: dict[str, Any]) -> Outcome:
    with storage_errors(study.storage.url):
        finished = plan_from(paths.study(study.spec.study), study.snapshot()).finished
    if not finished:
        require(trainer_problems(study.spec.trainer))
        check_copy(paths.study(study.spec.study), study.warm_start)
    return Supervisor(paths, study, **options).run()


def plan_resume(paths: CampaignPaths, name: str, *, shared: bool = False) -> ResumePlan:
    """Return what `resume_study` would find and do. Changes nothing.

    Args:
        paths: The runs folder.
        name: The study.
        shared: Others may be at work on it, if they say so too.

    Raises:
        StudyNotFoundError: No study of that name.
        StudyBusyError: A supervisor is at work on it.
        StudyError: It cannot be shared.
    """
    snapshot = load_snapshot(paths, name)
    if shared:
        check_shared(snapshot.spec, is_server=paths.storage is not None)
    if snapshot.supervisor is not None:
        storage = open_storage(paths, read_only=True)
        try:
            _refuse_if_busy(storage, name, shared)
        finally:
            storage.close()
    return plan_from(paths.study(name), snapshot)


def raise_budget(paths: CampaignPaths, name: str, changes: Mapping[Total, str]) -> list[str]:
    """Raise totals of a stored study's budget.

    Args:
        paths: The runs folder.
        name: The study.
        changes: By total: what is added (``+4``), or the new total (``16``).

    Returns:
        What was raised, in lines for a person; none where all totals are as they were.

    Raises:
        StudyNotFoundError: No study of that name.
        StudyBusyError: A supervisor is at work on it; it would not notice.
        SpecError: No such number, a lower total, or one that the study does not limit.
    """
    stored = load_snapshot(paths, name).spec.budget
    budget = raised(stored, changes)
    if budget == stored:
        return []
    storage = open_storage(paths)
    try:
        with storage_errors(storage.url):
            _refuse_if_busy(storage, name)
            CampaignStudy.open(storage, name).set_budget(budget)
    finally:
        storage.close()
    return changes_in_words(stored, budget)


def request_study_stop(paths: CampaignPaths, name: str, reason: str = "stopped on request") -> str:
    """Ask the supervisor of a study, in whatever process it runs, to stop it with checkpoints.

    Returns:
        What was asked of whom, in words.

    Raises:
        StudyNotFoundError: No study of that name.
        StudyError: No supervisor is at work on it.
    """
    snapshot = load_snapshot(paths, name)
    if snapshot.supervisor is None:
        why = f": {snapshot.reason}" if snapshot.reason else ""
        raise StudyError(f"study '{name}' is not running (it is {snapshot.state}{why}); there is nothing to stop.")
    if paths.storage is not None and not fs.is_locked(paths.study(name).supervisor_lock):
        raise StudyError(
            f"study '{name}' is run on {snapshot.supervisor['host']} from another runs folder than {paths.root}; "
            "stop it there, or name that folder with --runs."
        )
    fs.write_json(paths.study(name).stop_request, {"v": 1, "reason": reason, "time": utc_now()})
    who = f"its supervisor (pid {snapshot.supervisor['pid']} on {snapshot.supervisor['host']})"
    return f"study '{name}': asked {who} to stop; the workers write a checkpoint first."


def _refuse_if_busy(storage: CampaignStorage, name: str, shared: bool = False) -> None:
    # The lock keeps a second supervisor out of this machine, the lease one of another machine. This also looks before a
    # budget is raised under the feet of the first.
    lease = Ledger(storage, name).lease()
    if lease is not None and lease.is_held() and not (shared and lease.shared):
        raise busy_error(name, lease)
