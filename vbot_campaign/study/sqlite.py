"""The database as a file in the runs folder."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vbot_campaign import fs
from vbot_campaign.errors import StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import tables
from vbot_campaign.study.backup import automatic_backups, make_automatic_backup
from vbot_campaign.study.disk import check_disk

BUSY_TIMEOUT_S = 30.0
PREFIX = "sqlite:///"


class SqliteFile:
    """A database file, and what is special about one.

    Args:
        file: The file; it may not be there yet.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.url = f"{PREFIX}{file.as_posix()}"
        self.name = str(file)

    @contextlib.contextmanager
    def opening(self, *, read_only: bool) -> Iterator[None]:
        """Surround the opening of the database; only one process at a time may make or change its tables.

        Raises:
            StudyNotFoundError: Read-only, and there is no database yet.
            StorageError: It lies on a network file system.
        """
        if read_only:
            if not self.file.exists():
                raise StudyNotFoundError(
                    f"{self.file}: no database there yet. Start a study with `vbot-campaign run FILE`."
                )
            yield
            return
        check_disk(self.file.parent)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        # Two studies that start at the same moment would both make the tables, and one of them would fail.
        lock = CampaignPaths(self.file.parent).database_lock
        with fs.hold_lock(lock, what=f"database {self.file}", timeout_s=BUSY_TIMEOUT_S):
            self._save_before_changes()
            yield

    def engine_options(self, *, read_only: bool) -> dict[str, Any]:
        """Return how SQLAlchemy is to connect."""

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(self.file, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
            if read_only:
                connection.execute("PRAGMA query_only=ON")
                return connection
            # WAL lets people look while the supervisor writes. With it, NORMAL can lose the last transactions in a
            # power cut but never the file's consistency (https://sqlite.org/pragma.html#pragma_synchronous); what they
            # said is read again from the trial folders at the next resume. FULL would wait for the disk at each report.
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":
                connection.close()
                raise sqlite3.OperationalError(f"SQLite cannot use its write-ahead log here (journal mode is {mode!r})")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA foreign_keys=ON")
            return connection

        return {"creator": connect}

    def advice(self, text: str) -> str:
        """Return what to do about one of the driver's errors."""
        if "not a database" in text or "malformed" in text:
            return self._way_back()
        if "no such table" in text:
            return "The file holds no studies of this program. Is it the right runs folder?"
        if "locked" in text:
            return f"Another program has held the database for {BUSY_TIMEOUT_S:g} s; close it and resume."
        if "no longer compatible with the table schema" in text:
            return "Another version of Optuna made its tables; install that one, or a newer one."
        if "readonly" in text or "Permission denied" in text or "read-only" in text.lower():
            return (
                "The file or its folder may not be written; make both writable for you, or choose another --runs "
                "FOLDER."
            )
        if "disk is full" in text or "No space left" in text:
            return "Free some space on that disk and resume; what the trials reported is read again from their folders."
        return "Check that the folder exists on a local disk, is writable and has space left."

    def _way_back(self) -> str:
        found = automatic_backups(CampaignPaths(self.file.parent))
        if not found:
            return "Move the file away, or put back a backup of it."
        return (
            f"The newest automatic backup is {found[-1]}. Put it back with `vbot-campaign restore {found[-1]}` and "
            "resume; what is newer is read again from the trial folders."
        )

    def _save_before_changes(self) -> None:
        # What is in the file may be the only copy of somebody's studies; tables are added to it or changed only after
        # it was saved.
        if not self.file.exists() or self.file.stat().st_size == 0:
            return
        with contextlib.closing(sqlite3.connect(self.file, timeout=BUSY_TIMEOUT_S)) as connection:
            there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            is_known = tables.Schema.__tablename__ in there
            row = connection.execute("SELECT version FROM campaign_schema").fetchone() if is_known else None
        is_old = row is not None and row[0] < tables.SCHEMA_VERSION
        if there and (is_old or not {table.name for table in tables.Base.metadata.sorted_tables} <= there):
            make_automatic_backup(CampaignPaths(self.file.parent))
