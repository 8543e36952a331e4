"""Keeps the password of a database out of the process list, and out of the environment of what this process starts."""

from __future__ import annotations

import json
import os
import sys

from vbot_campaign.spec.settings import STORAGE_VARIABLE
from vbot_campaign.storage_url import masked

_ARGUMENTS = "VBOT_CAMPAIGN_ARGUMENTS"


def leave_process_list() -> None:
    """Begin again with ``***`` for the passwords in the command line, which everybody on the machine can read.

    The real arguments go on in the environment, which only its owner can read, and from there into `sys.argv`. Windows
    shows command lines to their owner alone and cannot replace a process, so nothing happens there.
    """
    kept = os.environ.pop(_ARGUMENTS, None)
    if kept is not None:
        sys.argv[1:] = json.loads(kept)
        return
    shown = [masked(argument) for argument in sys.argv[1:]]
    begin = len(sys.orig_argv) - len(shown)
    # Where another program has called, the command line is none of ours.
    if shown == sys.argv[1:] or sys.orig_argv[begin:] != sys.argv[1:] or sys.platform == "win32":
        return
    os.environ[_ARGUMENTS] = json.dumps(sys.argv[1:])
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:begin], *shown])  # noqa: S606


def leave_environment() -> str | None:
    """Take the address out of the environment, so that nothing inherits it, and return it."""
    return os.environ.pop(STORAGE_VARIABLE, None)
