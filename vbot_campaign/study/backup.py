"""Copies of the database, made while others write to it.

A copy is one file that needs no log beside it. It is checked before it takes its name, so what has the name of a
back-up is one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType

from vbot_campaign import fs
from vbot_campaign.errors import StorageError
from vbot_campaign.paths import CampaignPaths, timestamp
from vbot_campaign.study.snapshot import StudySnapshot

EVERY_S = 3600.0
KEEP = 3
BUSY_S = 30.0
_MAGIC = b"SQLite format 3\x00"

_logger = logging.getLogger(__name__)


def is_database(path: Path) -> bool:
    """Tell whether a file begins like an SQLite database."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def copy_database(source: Path, target: Path) -> None:
    """Write a checked copy of a database in one piece, as it was at one instant.

    Others may read and write meanwhile: with its write-ahead log SQLite lets them.

    Args:
        source: The database.
        target: Where to write; replaced as a whole.

    Raises:
        StorageError: The source is damaged or cannot be read, or the copy cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        # SQLite makes the file itself, so it follows the umask like every other.
        part.unlink(missing_ok=True)
        _copy(source, part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"{source}: no back-up could be made at {target}: {error}. Free some space, or look at the database with "
            "`sqlite3 FILE 'PRAGMA integrity_check'`."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    fs.sync_folder(target.parent)


def check_database(path: Path) -> None:
    """Refuse a database that is damaged.

    Raises:
        StorageError: It is no database, or SQLite finds something wrong in it.
    """
    try:
        with contextlib.closing(_open(path)) as connection:
            _check(connection)
    except sqlite3.Error as error:
        raise StorageError(f"{path}: {error}. It cannot be used.") from None


def _copy(source: Path, target: Path) -> None:
    with contextlib.closing(_open(source)) as reader, contextlib.closing(sqlite3.connect(target)) as writer:
        # All pages in one step: in several, each write of another process would make it begin again.
        reader.backup(writer, pages=-1)
        writer.execute("PRAGMA journal_mode=DELETE").fetchone()
        _check(writer)


def _open(path: Path) -> sqlite3.Connection:
    # Not read-only: after a crash it may take a recovery of the log to read at all.
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_S)


def _check(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(str(found).splitlines()[-1])


# --- automatic ones -------------------------------------------------------------------------------------------------


def automatic_backups(paths: CampaignPaths) -> list[Path]:
    """Return the automatic back-ups of a runs folder, the oldest first."""
    return sorted(paths.automatic_backups.glob("campaign_*.db"))


def make_automatic_backup(paths: CampaignPaths, now: datetime | None = None) -> Path:
    """Copy the database to ``backups/auto/`` and remove all but the newest three.

    Raises:
        StorageError: It could not be made; the older ones are all still there.
    """
    target = paths.automatic_backups / f"campaign_{timestamp(now)}.db"
    copy_database(paths.database, target)
    for old in automatic_backups(paths)[:-KEEP]:
        old.unlink(missing_ok=True)
    return target


class AutoBackup:
    """Backs up the database every hour while a supervisor runs.

    An observer of the supervisor and a context manager, whose end waits for a copy that is being written. The copy is
    made in a thread of its own, so no worker waits for it. Where it cannot be made, the next `update` says so once with
    an error, which a supervisor writes down and survives.

    Args:
        paths: The runs folder.
        every_s: Seconds between two copies. A younger one, of another supervisor too, puts the next one off.
        clock: Monotonic seconds.
    """

    def __init__(
        self, paths: CampaignPaths, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._paths = paths
        self._every_s = every_s
        self._clock = clock
        self._next = clock()
        self._thread: threading.Thread | None = None
        self._failure: StorageError | None = None

    def __enter__(self) -> AutoBackup:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for a copy that is being written; nobody asks any more, so a failure is said here."""
        self.wait()
        if self._failure is not None:
            _logger.warning("%s", self._failure)

    def update(self, snapshot: StudySnapshot) -> None:
        """Begin a copy when one is due.

        Raises:
            StorageError: The copy before could not be made.
        """
        if self._paths.storage is not None:
            return  # a server has back-ups of its own
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if self._clock() < self._next or (self._thread is not None and self._thread.is_alive()):
            return
        left = self._every_s - self._age_of_newest()
        self._next = self._clock() + (left if left > 0 else self._every_s)
        if left <= 0:
            self._thread = threading.Thread(target=self._make, name="database back-up")
            self._thread.start()

    def wait(self) -> None:
        """Wait for a copy that is being written."""
        if self._thread is not None:
            self._thread.join()

    def _age_of_newest(self) -> float:
        # A file is as old as the wall clock says, which may have been set: one from the future counts as too old.
        newest = automatic_backups(self._paths)[-1:]
        age = time.time() - newest[0].stat().st_mtime if newest else self._every_s
        return age if age >= 0 else self._every_s

    def _make(self) -> None:
        try:
            make_automatic_backup(self._paths)
        except StorageError as error:
            self._failure = error
        except OSError as error:
            self._failure = StorageError(f"{self._paths.automatic_backups}: {error.strerror}. Is the disk full?")
