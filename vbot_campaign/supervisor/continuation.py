"""The checkpoint of another training that a trial goes on from, put into the trial's folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from vbot_campaign import fs
from vbot_campaign.errors import CheckpointCorruptError, CheckpointNotFoundError
from vbot_campaign.events import utc_now
from vbot_campaign.paths import TrialPaths
from vbot_campaign.study.queue import QueuedStart


def place_start(folder: TrialPaths, start: QueuedStart) -> None:
    """Copy the checkpoint a trial goes on from into its folder, where its worker finds it as if it were its own.

    Only before a worker is at it, and nothing happens where there is a point to resume from already: the copy counts
    once its line is there, as any other checkpoint, so a crash in between is made good by the next call.

    Args:
        folder: The trial's folder.
        start: The checkpoint.

    Raises:
        CheckpointNotFoundError: It is gone.
        CheckpointCorruptError: It was altered.
    """
    if _has_resume_point(folder):
        return
    source = Path(start.checkpoint)
    try:
        content = source.read_bytes()
    except OSError:
        raise CheckpointNotFoundError(f"checkpoint {source}: {_of(start)} goes on from it and it is gone.") from None
    if (found := hashlib.sha256(content).hexdigest()) != start.sha256:
        raise CheckpointCorruptError(
            f"checkpoint {source}: {_of(start)} goes on from it and it was altered: its SHA-256 is {found[:12]}…, "
            f"expected {start.sha256[:12]}…."
        )
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    target = folder.checkpoint(start.env_steps)
    with fs.replacing(target) as file:
        file.write(content)
    fs.append_line(folder.checkpoint_log, _line(source, start, target.name, len(content)), sync=True)


def _has_resume_point(folder: TrialPaths) -> bool:
    newest = {line.get("file"): line for line in fs.read_lines(folder.checkpoint_log)}
    points = (line for line in newest.values() if line.get("kind") == "resume" and not line.get("deleted"))
    return any((folder.checkpoints / str(line["file"])).exists() for line in points)


def _line(source: Path, start: QueuedStart, file: str, size: int) -> dict[str, Any]:
    # What only its own worker knew is in the log beside it.
    written = {line.get("file"): line for line in fs.read_lines(source.with_name("checkpoints.jsonl"))}
    own = written.get(source.name, {})
    return {
        "file": file,
        "env_steps": start.env_steps,
        "iteration": own.get("iteration", 0),
        "sha256": start.sha256,
        "bytes": size,
        "kind": "resume",
        "score": own.get("score"),
        "parts": own.get("parts"),
        "time": utc_now(),
        "attempt": 0,
    }


def _of(start: QueuedStart) -> str:
    return "the trial" if start.study is None else f"the continuation of trial {start.trial} of {start.study}"
