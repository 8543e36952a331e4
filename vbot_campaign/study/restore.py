"""Puts a back-up into place: a whole database, or one study with its files."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from vbot_campaign import fs
from vbot_campaign.errors import StorageError, StudyBusyError, StudyError
from vbot_campaign.paths import CampaignPaths, StudyPaths, TrialPaths, timestamp
from vbot_campaign.study import transfer
from vbot_campaign.study.archive import (
    DATABASE,
    MANIFEST,
    STUDY,
    check_archive,
    copy_out,
    open_tar,
    present_checkpoints,
)
from vbot_campaign.study.backup import check_database, copy_database, is_database, make_automatic_backup
from vbot_campaign.study.ledger import Ledger
from vbot_campaign.study.snapshot import TrialView
from vbot_campaign.study.storage import CampaignStorage, open_storage, storage_errors
from vbot_campaign.study.study import CampaignStudy, close_readers, study_names

_SIDE_FILES = ("-wal", "-shm", "")
"""What belongs to a database; the log goes first, so that it never meets another database of that name."""


@dataclass(frozen=True)
class Restored:
    """What a restore did."""

    studies: tuple[str, ...]
    """Those that can be resumed now."""
    created: str | None
    """When the back-up was made, UTC; None for a bare database."""
    replaced: Path | None
    """Where that lies which was there before."""


def restore(paths: CampaignPaths, file: Path, *, force: bool = False) -> Restored:
    """Put a back-up into a runs folder.

    A ``.tar`` brings one study with its files and leaves all other studies alone. A ``.db`` takes the place of the
    whole database. Everything is checked before anything is changed; what is replaced is kept under ``runs/backups/``.

    Args:
        paths: The runs folder; it may be empty, or missing.
        file: From `write_archive`, or an automatic back-up.
        force: Replace a study, or a sound database, that is there.

    Raises:
        StorageError: The file is damaged or no back-up, or there is a sound database already.
        StudyError: The study is there already.
        StudyBusyError: A supervisor is at work.
    """
    if not file.is_file():
        raise StorageError(f"{file}: no such file. Back-ups are made by `vbot-campaign backup NAME`.")
    if is_database(file):
        return _restore_database(paths, file, force)
    return _restore_study(paths, file, force)


# --- a whole database -----------------------------------------------------------------------------------------------


def _restore_database(paths: CampaignPaths, file: Path, force: bool) -> Restored:
    if paths.storage is not None:
        raise StorageError(
            f"{file}: is a whole database in a file, and {paths.database_name} is on a server. Copy its studies: "
            f"`vbot-campaign storage copy {file} URL`; a dump of a server's database is put back with pg_restore."
        )
    check_database(file)
    open_storage(f"sqlite:///{file.absolute().as_posix()}", read_only=True).close()
    for lock in paths.root.glob("*/.supervisor.lock"):
        _refuse_if_locked(lock, lock.parent.name)
    if fs.is_locked(paths.service.lock):
        raise StudyBusyError(f"{paths.root}: a service is at work on it; end it first (docs/service.md).")
    if paths.database.exists() and not force and _is_sound(paths.database):
        raise StorageError(
            f"{paths.database}: is there and sound; nothing was changed. --force puts {file} in its place and keeps it "
            f"under {paths.backups}."
        )
    close_readers()
    # Copied before anything is moved: a disk that is too full for it leaves all as it was.
    part = paths.database.with_name(f".{paths.database.name}.restored")
    copy_database(file, part)
    replaced = _move_away(paths)
    part.replace(paths.database)
    fs.sync_folder(paths.root)
    return Restored(tuple(study_names(paths)), None, replaced)


def _is_sound(database: Path) -> bool:
    try:
        check_database(database)
    except StorageError:
        return False
    return True


def _move_away(paths: CampaignPaths) -> Path | None:
    if not paths.database.exists():
        return None
    target = paths.backups / f"replaced_{timestamp()}_{paths.database.name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    for suffix in _SIDE_FILES:
        side = Path(f"{paths.database}{suffix}")
        if side.exists():
            side.rename(f"{target}{suffix}")
    return target


# --- one study ------------------------------------------------------------------------------------------------------


def _restore_study(paths: CampaignPaths, file: Path, force: bool) -> Restored:
    manifest = check_archive(file)
    study = paths.study(manifest.study)
    _refuse_if_locked(study.supervisor_lock, manifest.study)
    paths.root.mkdir(parents=True, exist_ok=True)
    storage = open_storage(paths)
    try:
        with storage_errors(storage.url), tempfile.TemporaryDirectory(prefix=".restore.", dir=paths.root) as folder:
            there = transfer.is_there(storage, manifest.study) or study.root.exists()
            if there and not force:
                raise StudyError(
                    f"study '{manifest.study}' is in {paths.root} already; nothing was changed. Restore it to another "
                    "--runs FOLDER, or replace it with --force."
                )
            _extract(file, Path(folder))
            source = open_storage(f"sqlite:///{(Path(folder) / DATABASE).absolute().as_posix()}", read_only=True)
            try:
                rows = CampaignStudy.open(source, manifest.study).snapshot()
                replaced = _take_away(paths, storage, study) if there else None
                (Path(folder) / STUDY).mkdir(exist_ok=True)
                (Path(folder) / STUDY).rename(study.root)
                reason = f"restored from the backup of {manifest.created}"
                when = datetime.fromisoformat(manifest.created)
                transfer.copy_study(source, storage, manifest.study, when=when, reason=reason)
            finally:
                source.close()
            _agree_on_checkpoints(study, Ledger(storage, manifest.study), rows.trials)
    finally:
        storage.close()
    return Restored((manifest.study,), manifest.created, replaced)


def _extract(file: Path, folder: Path) -> None:
    # Names and hashes were checked. Written by hand and not by `tarfile`, so that neither owner, mode, link nor device
    # of a member can mean anything.
    with open_tar(file) as tar:
        for member in tar.getmembers():
            path = folder.joinpath(*PurePosixPath(member.name).parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(tar, member, path)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = tar.extractfile(member)
    if content is not None and member.name != MANIFEST:
        with path.open("xb") as target:
            shutil.copyfileobj(content, target)


def _take_away(paths: CampaignPaths, storage: CampaignStorage, study: StudyPaths) -> Path | None:
    """Remove a study from the database, which is saved before, and move its folder to the back-ups."""
    name = study.root.name
    if transfer.is_there(storage, name):
        _save(paths, name)
        transfer.delete_study(storage, name)
    if not study.root.exists():
        return None
    target = paths.backups / f"replaced_{timestamp()}_{name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    study.root.rename(target)
    return target


def _save(paths: CampaignPaths, name: str) -> None:
    if paths.storage is None:
        make_automatic_backup(paths)
        return
    paths.backups.mkdir(parents=True, exist_ok=True)
    copy_out(paths, name, paths.backups / f"replaced_{timestamp()}_{name}.db")


def _agree_on_checkpoints(study: StudyPaths, ledger: Ledger, trials: Sequence[TrialView]) -> None:
    """Make logs and database name the checkpoints that came along, and no others."""
    for trial in trials:
        if trial.folder is not None:
            _agree_on_log(study, ledger, trial.number, TrialPaths(study.root / trial.folder))
        for checkpoint in ledger.entry(trial.number).checkpoints:
            if not (study.root / checkpoint.path).exists():
                ledger.record_checkpoint(trial.number, checkpoint.path, {"deleted": True})


def _agree_on_log(study: StudyPaths, ledger: Ledger, trial: int, folder: TrialPaths) -> None:
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    for line in present_checkpoints(fs.read_lines(folder.checkpoint_log)):
        path = folder.checkpoints / str(line["file"])
        if not path.exists():
            fs.append_line(folder.checkpoint_log, {"file": path.name, "deleted": True, "why": "not in the backup"})
        elif {"env_steps", "bytes", "time"} <= line.keys():
            ledger.record_checkpoint(trial, path.relative_to(study.root).as_posix(), line)


def _refuse_if_locked(lock: Path, name: str) -> None:
    if fs.is_locked(lock):
        raise StudyBusyError(f"study '{name}': a supervisor is at work. End it with `vbot-campaign stop {name}` first.")
