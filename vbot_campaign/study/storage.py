"""The database: Optuna's tables and ours in one file, opened in one way."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import optuna
import sqlalchemy as sa
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy.orm import Session

from vbot_campaign import fs
from vbot_campaign.errors import StorageError, StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import tables
from vbot_campaign.study.backup import automatic_backups, make_automatic_backup
from vbot_campaign.study.disk import check_disk

BUSY_TIMEOUT_S = 30.0
_SQLITE = "sqlite:///"
_DATABASE_ERRORS = (sa.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error)


@dataclass(frozen=True)
class CampaignStorage:
    """An open database."""

    url: str
    """Its address for messages, without passwords."""
    optuna: BaseStorage
    """Optuna's storage with its cache: finished trials are read once."""
    rdb: RDBStorage
    """The same without the cache."""

    @property
    def engine(self) -> sa.Engine:
        """Connections for both halves of the database."""
        return self.rdb.engine

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Open a session on our own tables; it is committed at the end of the block, or rolled back on an error."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.rdb.remove_session()
        self.engine.dispose()


def open_storage(target: CampaignPaths | str, *, read_only: bool = False) -> CampaignStorage:
    """Open the database, and make it and its tables where they are missing.

    Args:
        target: The runs folder, or an SQLAlchemy address.
        read_only: Make and change nothing.

    Raises:
        StudyNotFoundError: Read-only, and there is no database yet.
        StorageError: The file is no database, cannot be opened or written, lies on a network file system, or is of a
            newer version of this program.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = target if isinstance(target, str) else target.database_url
    file = _sqlite_file(url)
    if file is not None and read_only and not file.exists():
        raise StudyNotFoundError(f"{file}: no database there yet. Start a study with `vbot-campaign run FILE`.")
    # Optuna reports a schema that it cannot read as a RuntimeError, and a driver that is missing as an ImportError.
    with storage_errors(url, (OSError, RuntimeError, ImportError)):
        if file is not None and not read_only:
            check_disk(file.parent)
            file.parent.mkdir(parents=True, exist_ok=True)
        with _alone(None if read_only else file):
            rdb = RDBStorage(url, engine_kwargs=_engine_options(file, read_only), skip_table_creation=read_only)
            if not read_only:
                tables.Base.metadata.create_all(rdb.engine)
            storage = CampaignStorage(without_password(url), get_storage(rdb), rdb)
            _check_schema(storage, read_only)
    return storage


def finish_making(paths: CampaignPaths) -> None:
    """Finish the making of a database that a kill cut off; nothing happens where there is none.

    Raises:
        StorageError: It cannot be used.
    """
    if paths.database.exists():
        open_storage(paths).close()


@contextlib.contextmanager
def storage_errors(url: str, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn the database's own exceptions, and those of the types ``also``, into a `StorageError` of one line."""
    kinds: tuple[type[Exception], ...] = (*_DATABASE_ERRORS, *also)
    try:
        yield
    except kinds as e:
        # Optuna wraps SQLAlchemy's error, and that the driver's: the innermost is the one that says something.
        cause: BaseException = e
        while cause.__cause__ is not None:
            cause = cause.__cause__
        text = (str(cause).splitlines() or [type(cause).__name__])[0].rstrip(".")
        file = _sqlite_file(url)
        message = f"{file or without_password(url)}: {_without(text, _secrets(url))}. {_advice(text, file)}"
        # The driver's own error may hold the password, and a traceback would show it.
        raise StorageError(message) from (e if file else None)


def without_password(url: str) -> str:
    """Return an SQLAlchemy address as it may be shown: with ``***`` for its password."""
    try:
        shown = sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "the database"
    return _without(shown, _secrets(url))


def _without(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _secrets(url: str) -> list[str]:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        return [url]
    named = [value for name, value in parsed.query.items() if "password" in name.lower()]
    found = [str(parsed.password or ""), *(str(value) for value in named)]
    return [form for secret in found if secret for form in (secret, quote(secret, safe=""), quote_plus(secret))]


def _advice(text: str, file: Path | None) -> str:
    if "not a database" in text or "malformed" in text:
        return _way_back(file)
    if "no such table" in text:
        return "The file holds no studies of this program. Is it the right runs folder?"
    if "locked" in text:
        return f"Another program has held the database for {BUSY_TIMEOUT_S:g} s; close it and resume."
    if "no longer compatible with the table schema" in text:
        return "Another version of Optuna made its tables; install that one, or a newer one."
    if "readonly" in text or "Permission denied" in text or "read-only" in text.lower():
        return "The file or its folder may not be written; make both writable for you, or choose another --runs FOLDER."
    if "disk is full" in text or "No space left" in text:
        return "Free some space on that disk and resume; what the trials reported is read again from their folders."
    return "Check that the folder exists on a local disk, is writable and has space left."


def _way_back(file: Path | None) -> str:
    found = automatic_backups(CampaignPaths(file.parent)) if file is not None else []
    if not found:
        return "Move the file away, or put back a backup of it."
    return (
        f"The newest automatic backup is {found[-1]}. Put it back with `vbot-campaign restore {found[-1]}` and resume; "
        "what is newer is read again from the trial folders."
    )


@contextlib.contextmanager
def _alone(file: Path | None) -> Iterator[None]:
    # Two studies that start at the same moment would both make the tables, and one of them would fail.
    if file is None:
        yield
        return
    paths = CampaignPaths(file.parent)
    with fs.hold_lock(paths.database_lock, what=f"database {file}", timeout_s=BUSY_TIMEOUT_S):
        _save_before_changes(file)
        yield


def _save_before_changes(file: Path) -> None:
    # What is in the file may be the only copy of somebody's studies; tables are added to it or changed only after it
    # was saved.
    if not file.exists() or file.stat().st_size == 0:
        return
    with contextlib.closing(sqlite3.connect(file, timeout=BUSY_TIMEOUT_S)) as connection:
        tables_there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables_there and not {table.name for table in tables.Base.metadata.sorted_tables} <= tables_there:
        make_automatic_backup(CampaignPaths(file.parent))


def _sqlite_file(url: str) -> Path | None:
    return Path(url.removeprefix(_SQLITE)) if url.startswith(_SQLITE) else None


def _engine_options(file: Path | None, read_only: bool) -> dict[str, Any]:
    if file is None:
        return {"pool_pre_ping": True}

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        if read_only:
            connection.execute("PRAGMA query_only=ON")
            return connection
        # WAL lets people look while the supervisor writes. With it, NORMAL can lose the last transactions in a power
        # cut but never the file's consistency (https://sqlite.org/pragma.html#pragma_synchronous); what they said
        # is read again from the trial folders at the next resume. FULL would wait for the disk at each report.
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            connection.close()
            raise sqlite3.OperationalError(f"SQLite cannot use its write-ahead log here (journal mode is {mode!r})")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    return {"creator": connect}


def _check_schema(storage: CampaignStorage, read_only: bool) -> None:
    with storage.session() as session:
        version = session.scalar(sa.select(tables.Schema.version)) if _has_schema(storage) else None
        if version is None and not read_only:
            session.add(tables.Schema(version=tables.SCHEMA_VERSION))
        elif version is None:
            raise StorageError(f"{storage.url}: no campaign tables in this database. Is it the right runs folder?")
        elif version < tables.SCHEMA_VERSION and not read_only:
            # A version has added tables so far, and these are there by now.
            session.execute(sa.update(tables.Schema).values(version=tables.SCHEMA_VERSION))
        elif version > tables.SCHEMA_VERSION:
            raise StorageError(
                f"{storage.url}: written by a newer vbot-campaign (tables of version {version}, this program knows "
                f"{tables.SCHEMA_VERSION}). Install the newer program."
            )


def _has_schema(storage: CampaignStorage) -> bool:
    return sa.inspect(storage.engine).has_table(tables.Schema.__tablename__)
