"""Keeps an attempt that was given up from writing into a folder that a later attempt owns."""

from __future__ import annotations

import json
from pathlib import Path

from vbot_campaign.errors import FencedError


class Fence:
    """Asks before a write whether ``trial.json`` still names this attempt.

    The supervisor replaces the file before it starts another attempt. Its bytes are compared each time, which takes
    some ten microseconds: a time stamp may be the same after a replacement, and so may the number of an inode.

    Args:
        trial_json: `TrialPaths.spec`.
        token: Of this attempt; empty in a training without a study, which has no later owner.
    """

    def __init__(self, trial_json: Path, token: str) -> None:
        self._path = trial_json
        self._token = token
        self._seen: bytes | None = None

    def check(self) -> None:
        """Return if the folder is still this attempt's.

        Raises:
            FencedError: It is another one's, or is gone.
        """
        content = _read(self._path)
        if content == self._seen:
            return
        owner = _token_of(content)
        if owner != self._token:
            raise FencedError(
                f"{self._path} names another attempt (token '{owner}', this one has '{self._token}'); "
                "nothing more is written."
            )
        self._seen = content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _token_of(content: bytes) -> str:
    try:
        return str(json.loads(content)["token"])
    except (ValueError, KeyError, TypeError):
        return ""
