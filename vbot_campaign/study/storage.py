"""The database: Optuna's tables and ours in one place, opened in one way.

Where it is, a file in the runs folder or a PostgreSQL server, matters only here: what differs between the two is in
`vbot_campaign.study.sqlite` and `vbot_campaign.study.postgres`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

import optuna
import sqlalchemy as sa
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy.orm import Session

from vbot_campaign.errors import StorageError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import tables
from vbot_campaign.study.patience import Patience, PatientStorage
from vbot_campaign.study.postgres import PostgresServer
from vbot_campaign.study.sqlite import BUSY_TIMEOUT_S as BUSY_TIMEOUT_S
from vbot_campaign.study.sqlite import PREFIX, SqliteFile

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
    patience: Patience = field(default_factory=Patience)
    """How long calls wait for a server that does not answer."""

    @property
    def engine(self) -> sa.Engine:
        """Connections for both halves of the database."""
        return self.rdb.engine

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Open a session on our own tables; it is committed at the end of the block, or rolled back on an error."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @property
    def is_server(self) -> bool:
        """Whether it is on a server, where other machines reach it too."""
        return self.engine.dialect.name != "sqlite"

    def close(self) -> None:
        """Close all connections."""
        self.rdb.remove_session()
        self.engine.dispose()


def open_storage(target: CampaignPaths | str, *, read_only: bool = False) -> CampaignStorage:
    """Open the database, and make its tables, and the file, where they are missing.

    Args:
        target: The runs folder, or an SQLAlchemy address.
        read_only: Make and change nothing.

    Raises:
        StudyNotFoundError: Read-only, and there is no database yet.
        StorageError: It is no database, cannot be reached, opened or written, lies on a network file system, or is of a
            newer version of this program.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = target if isinstance(target, str) else target.database_url
    backend = _backend(url)
    # Optuna reports a schema that it cannot read as a RuntimeError, and a driver that is missing as an ImportError.
    with storage_errors(url, (OSError, RuntimeError, ImportError)), backend.opening(read_only=read_only):
        # Optuna takes the address for a template.
        address = backend.url.replace("{", "{{").replace("}", "}}")
        options = {"pool_pre_ping": backend.file is None, **backend.engine_options(read_only=read_only)}
        kind = RDBStorage if backend.file is not None else PatientStorage
        rdb = kind(address, engine_kwargs=options, skip_table_creation=read_only)
        storage = CampaignStorage(without_password(url), get_storage(rdb), rdb)
        if isinstance(rdb, PatientStorage):
            rdb.patience = storage.patience
        try:
            _check_schema(storage, read_only)
        except BaseException:
            storage.close()
            raise
    return storage


def finish_making(paths: CampaignPaths) -> None:
    """Finish the making of a database that a kill cut off; nothing happens where there is none.

    Raises:
        StorageError: It cannot be used.
    """
    if paths.has_database:
        open_storage(paths).close()


def _backend(url: str) -> SqliteFile | PostgresServer:
    return SqliteFile(Path(url.removeprefix(PREFIX))) if url.startswith(PREFIX) else PostgresServer(url)


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
        backend = _backend(url)
        name = backend.name if backend.file is not None else without_password(url)
        message = f"{name}: {_without(text, _secrets(url))}. {backend.advice(text)}"
        # The driver's own error may hold the password, and a traceback would show it.
        raise StorageError(message) from (e if backend.file is not None else None)


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


def _check_schema(storage: CampaignStorage, read_only: bool) -> None:
    with storage.engine.connect() as connection:
        version = tables.stored_version(connection)
    if version is None and read_only:
        raise StorageError(f"{storage.url}: no campaign tables in this database. Is it the right runs folder?")
    if version is not None and version > tables.SCHEMA_VERSION:
        raise StorageError(
            f"{storage.url}: written by a newer vbot-campaign (tables of version {version}, this program knows "
            f"{tables.SCHEMA_VERSION}). Install the newer program."
        )
    if version != tables.SCHEMA_VERSION and not read_only:
        from vbot_campaign.study.migrations import bring_up_to_date

        bring_up_to_date(storage.engine)
