"""Keeps the password of a database out of the process list, and out of the environment of what this process starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from vbot_campaign.spec.settings import STORAGE_VARIABLE
from vbot_campaign.storage_url import has_password

_OPTION = "--storage"
_WITH_VALUE = ("--runs", _OPTION)


def leave_process_list() -> None:
    """Begin again without the option where it has a password: everybody on the machine can read a command line.

    The address goes on in the environment, which only its owner can read. Windows shows command lines to their owner
    alone and cannot replace a process, so nothing happens there.
    """
    arguments, address = without_storage(sys.argv[1:])
    if address is None or not has_password(address) or sys.platform == "win32":
        return
    begin = len(sys.orig_argv) - len(sys.argv) + 1
    if sys.orig_argv[begin:] != sys.argv[1:]:
        return  # called by another program, whose command line is none of ours
    interpreter = sys.orig_argv[1:begin]
    os.environ[STORAGE_VARIABLE] = address
    os.execv(sys.executable, [sys.executable, *interpreter, *arguments])  # noqa: S606


def leave_environment() -> str | None:
    """Take the address out of the environment, so that nothing inherits it, and return it."""
    return os.environ.pop(STORAGE_VARIABLE, None)


def without_storage(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Return a command line without the option for the database, and its value; only before the command it is one."""
    kept: list[str] = []
    address: str | None = None
    left = list(arguments)
    while left and left[0].startswith("-"):
        name, equals, value = left.pop(0).partition("=")
        given = [f"{name}{equals}{value}"]
        if name in _WITH_VALUE and not equals and left:
            value = left.pop(0)
            given.append(value)
        if name == _OPTION:
            address = value
        else:
            kept += given
    return [*kept, *left], address
