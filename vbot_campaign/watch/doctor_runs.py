"""The folder of all runs: its file system, its disk, its database."""

from __future__ import annotations

import os
import secrets
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vbot_campaign.errors import CampaignError, StorageError, StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.backup import check_database
from vbot_campaign.study.disk import ALLOW_VARIABLE, MOUNTS, Mount, mount_of
from vbot_campaign.watch.doctor import Check, Level

FSYNCS = 20
SLOW_FSYNC_MS = 50.0
LOW_SPACE_GB = 10.0
NO_SPACE_GB = 1.0
"""Below this no attempt is started (`workers.min_free_gb`)."""


def file_system(paths: CampaignPaths, mounts: Path = MOUNTS) -> Iterator[Check]:
    """Ask on what kind of disk the runs lie, and whether they may be written."""
    folder = _existing(paths.root)
    if not os.access(folder, os.W_OK | os.X_OK):
        advice = "Make the folder writable for you, or choose another with --runs FOLDER."
        yield Check("file system", Level.FAIL, f"{folder} may not be written", advice)
        return
    mount = _mount(folder, mounts)
    found = f"{paths.root}" + (f" on {mount.kind} (mounted at {mount.point})" if mount else "")
    yield _judge(mount, found)


def _judge(mount: Mount | None, found: str) -> Check:
    if mount is not None and mount.is_network:
        allowed = os.environ.get(ALLOW_VARIABLE) == "1"
        advice = f"SQLite can be damaged there. Put the runs on a local disk: --runs FOLDER, or {ALLOW_VARIABLE}=1."
        return Check("file system", Level.WARN if allowed else Level.FAIL, f"{found}, a network file system", advice)
    if mount is not None and mount.is_shared:
        return Check("file system", Level.WARN, found, "A host's disk: never let two machines use the runs at once.")
    return Check("file system", Level.OK, found)


def _mount(folder: Path, mounts: Path) -> Mount | None:
    try:
        table = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None  # a system without that table
    return mount_of(PurePosixPath(folder.resolve()), table)


def space(paths: CampaignPaths) -> Iterator[Check]:
    """Ask how much room there is."""
    usage = shutil.disk_usage(_existing(paths.root))
    free_gb = usage.free / 1e9
    found = f"{free_gb:.1f} of {usage.total / 1e9:.1f} GB free"
    if free_gb < NO_SPACE_GB:
        yield Check("disk space", Level.FAIL, found, "Free some: no trial starts with less than 1 GB (min_free_gb).")
    elif free_gb < LOW_SPACE_GB:
        advice = "Enough to begin; checkpoints.disk_budget_gb limits what a study keeps."
        yield Check("disk space", Level.WARN, found, advice)
    else:
        yield Check("disk space", Level.OK, found)


def speed(paths: CampaignPaths) -> Iterator[Check]:
    """Write a small file and wait for the disk, some times over: what each checkpoint and each report does."""
    median_ms, slowest_ms = fsync_ms(_existing(paths.root))
    found = f"fsync takes {median_ms:.1f} ms (slowest of {FSYNCS}: {slowest_ms:.0f} ms)"
    if median_ms > SLOW_FSYNC_MS:
        advice = (
            "Slow: each checkpoint waits for it several times. Put the runs on a local SSD, or checkpoint less often."
        )
        yield Check("disk speed", Level.WARN, found, advice)
    else:
        yield Check("disk speed", Level.OK, found)


def fsync_ms(folder: Path) -> tuple[float, float]:
    """Return the median and the longest time that 4 kB need to the disk in a folder."""
    probe = folder / f".doctor.{secrets.token_hex(4)}.part"
    times = []
    try:
        with probe.open("xb") as file:
            for _ in range(FSYNCS):
                file.write(os.urandom(4096))
                file.flush()
                begun = time.perf_counter()
                os.fsync(file.fileno())
                times.append(1000 * (time.perf_counter() - begun))
    finally:
        probe.unlink(missing_ok=True)
    return statistics.median(times), max(times)


def database(paths: CampaignPaths) -> Iterator[Check]:
    """Ask whether the database can be read, is whole, and is of this version."""
    if paths.storage is not None:
        yield _studies(paths)
        return
    file = paths.database
    if not file.exists():
        yield Check("database", Level.OK, "none yet; the first study makes it")
        return
    try:
        check_database(file)
    except StorageError as error:
        advice = "Stop all studies and put back the newest automatic copy: vbot-campaign restore FILE (docs/backup.md)."
        yield Check("database", Level.FAIL, str(error), advice)
        return
    yield _studies(paths)


def _studies(paths: CampaignPaths) -> Check:
    from vbot_campaign.study import open_storage
    from vbot_campaign.study.tables import SCHEMA_VERSION

    try:
        storage = open_storage(paths, read_only=True)
        try:
            count = len(storage.optuna.get_all_studies())
        finally:
            storage.close()
    except StudyNotFoundError as error:
        return Check("database", Level.OK, str(error))
    except CampaignError as error:
        page = "backup" if paths.storage is None else "postgresql"
        return Check("database", Level.FAIL, str(error), f"See docs/{page}.md.")
    studies, version = f"{count} {'study' if count == 1 else 'studies'}", f"tables of version {SCHEMA_VERSION}"
    if paths.storage is not None:
        return Check("database", Level.OK, f"{studies} on {paths.database_name}, {version}")
    size = paths.database.stat().st_size / 1e6
    return Check("database", Level.OK, f"{studies}, {size:.1f} MB, whole, {version}")


def _existing(folder: Path) -> Path:
    """Return the folder, or what will hold it: its nearest parent that is there."""
    absolute = folder.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())
