"""Copies of the policies that stages hand on, each checked by its hash."""

from __future__ import annotations

import shutil
from pathlib import Path

from vbot_campaign import fs
from vbot_campaign.errors import CheckpointCorruptError, CheckpointNotFoundError


def back_up(source: Path, sha256: str, target: Path) -> None:
    """Copy a checkpoint, whole or not at all, and read the copy again; a sound copy that is there already stays.

    Its hash is written beside it, in the form that ``sha256sum -c`` takes.

    Args:
        source: The checkpoint.
        sha256: What its hash must be.
        target: The copy.

    Raises:
        CheckpointNotFoundError: The source is gone.
        CheckpointCorruptError: The source was altered, or the disk did not keep what was written.
    """
    if not (target.is_file() and fs.sha256(target) == sha256):
        if not source.is_file():
            raise CheckpointNotFoundError(
                f"{source}: is gone, with SHA-256 {sha256[:12]}…; put it back and resume the campaign."
            )
        with source.open("rb") as reader, fs.replacing(target) as writer:
            shutil.copyfileobj(reader, writer)
    found = fs.sha256(target)
    if found != sha256:
        target.unlink()
        raise CheckpointCorruptError(
            f"{source}: its SHA-256 is {found[:12]}…, the database says {sha256[:12]}…; the campaign does not go on "
            "from it. Put the right file back and resume."
        )
    fs.write_text(target.with_name(f"{target.name}.sha256"), f"{sha256}  {target.name}\n")
