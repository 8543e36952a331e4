"""The address of a database on a server: which are understood, and how one is shown without its password."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from vbot_campaign.errors import SpecError

EXAMPLE = "postgresql+psycopg://USER:PASSWORD@HOST:5432/DATABASE"
_OURS = ("postgresql+psycopg", "postgresql", "postgres")
_AUTHORITY = re.compile(r"(?<=://)([^@:/?]*):.*(?=@)")
_NAMED = re.compile(r"(?<=[?&])([^=&]*pass[^=&]*)=[^&]*", re.IGNORECASE)


def checked_storage_url(url: str, origin: str) -> str:
    """Return an address in the one form that is used.

    Args:
        url: What a person wrote.
        origin: Where it stands, for messages: an option, a variable or a file.

    Raises:
        SpecError: It is no address, of another kind of database, or incomplete.
    """
    kind, colon, _ = url.strip().partition("://")
    kind = kind.lower()
    if not colon or not re.fullmatch(r"[a-z][a-z0-9+_]*", kind):
        raise SpecError(f"{origin}: is not the address of a database. Write {EXAMPLE}.")
    if kind.startswith("sqlite"):
        raise SpecError(
            f"{origin}: names an SQLite file. That is where studies lie anyway, in the runs folder: leave it out and "
            "name the folder with --runs FOLDER."
        )
    if kind.split("+")[0] not in ("postgresql", "postgres"):
        raise SpecError(f"{origin}: {kind} is not supported, only PostgreSQL is. Write {EXAMPLE}.")
    if kind not in _OURS:
        raise SpecError(f"{origin}: another driver than psycopg is not supported. Write {EXAMPLE}.")
    return _complete(with_driver(url.strip()), origin)


def with_driver(url: str) -> str:
    """Return an address of PostgreSQL with the driver that is used; any other stays as it is."""
    kind, colon, rest = url.partition("://")
    return f"postgresql+psycopg{colon}{rest}" if kind.lower() in _OURS else url


def _complete(url: str, origin: str) -> str:
    shown = masked(url)
    try:
        parts = urlsplit(url)
        named, _ = parts.path.strip("/"), parts.port
    except ValueError:
        raise SpecError(f"{origin}: {shown} is not an address; is its port a number? Write {EXAMPLE}.") from None
    if not named and "dbname=" not in parts.query:
        raise SpecError(f"{origin}: {shown} names no database; end it with /NAME. Make one with `createdb NAME`.")
    return url


def masked(url: str) -> str:
    """Return an address with ``***`` for its password, wherever that stands."""
    return _NAMED.sub(r"\1=***", _AUTHORITY.sub(r"\1:***", url))


def has_password(url: str) -> bool:
    """Tell whether an address has a password in it."""
    return masked(url) != url
