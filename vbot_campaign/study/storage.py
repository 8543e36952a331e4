"""The database: Optuna's tables and ours in one file, opened in one way."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy.orm import Session

from vbot_campaign.errors import StorageError, StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import tables

BUSY_TIMEOUT_S = 30.0
_SQLITE = "sqlite:///"
_DATABASE_ERRORS = (sa.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error)


@dataclass(frozen=True)
class CampaignStorage:
    """An open database."""

    url: str
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
        StorageError: The file is no database, cannot be opened or written, or is of a newer version of this program.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = target if isinstance(target, str) else target.database_url
    file = _sqlite_file(url)
    if file is not None and read_only and not file.exists():
        raise StudyNotFoundError(f"{file}: no database there yet. Start a study with `vbot-campaign run FILE`.")
    # Optuna reports a schema that it cannot read as a RuntimeError.
    with storage_errors(url, (OSError, RuntimeError)):
        if file is not None and not read_only:
            file.parent.mkdir(parents=True, exist_ok=True)
        rdb = RDBStorage(url, engine_kwargs=_engine_options(file, read_only), skip_table_creation=read_only)
        if not read_only:
            tables.Base.metadata.create_all(rdb.engine)
        storage = CampaignStorage(url, get_storage(rdb), rdb)
        _check_schema(storage, read_only)
    return storage


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
        text = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise StorageError(f"{_sqlite_file(url) or url}: {text}. {_advice(text)}") from e


def _advice(text: str) -> str:
    if "not a database" in text or "malformed" in text:
        return "Move the file away, or put back a backup of it."
    if "no such table" in text:
        return "The file holds no studies of this program. Is it the right runs folder?"
    if "locked" in text:
        return f"Another program has held the database for {BUSY_TIMEOUT_S:g} s; close it and resume."
    return "Check that the folder exists on a local disk, is writable and has space left."


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
        elif version > tables.SCHEMA_VERSION:
            raise StorageError(
                f"{storage.url}: written by a newer vbot-campaign (tables of version {version}, this program knows "
                f"{tables.SCHEMA_VERSION}). Install the newer program."
            )


def _has_schema(storage: CampaignStorage) -> bool:
    return sa.inspect(storage.engine).has_table(tables.Schema.__tablename__)
