"""What a worker says, and how others hear it.

``metrics.jsonl`` holds one JSON object per line. Every line has ``v`` (schema version), ``kind``, ``time`` (UTC, ISO),
``attempt`` and ``token``. Kinds:

``progress``    after every iteration: ``iteration``, ``env_steps``, ``episodes`` (an `EpisodeTotals` of the episodes
                finished in this iteration), ``reward_mean`` (per step), ``terms`` (mean weighted value per step of each
                reward term; they sum to ``reward_mean``), ``loss`` (policy, value, entropy), ``kl``, ``learning_rate``,
                ``std``, ``grad_norm``; and, different in every run, ``timing`` (``env_steps_per_s``, ``seconds``,
                ``shares`` of physics, policy, environment, update) and ``memory`` (``rss_mb``, ``device_mb``).
``evaluation``  after a deterministic evaluation: ``env_steps``, ``checkpoint`` (file name), ``episodes``, ``parts``,
                ``score``, ``seed``.
``alert``       something a person should know: ``level`` (info, warning, error), ``cause``, ``message``.

``checkpoints/checkpoints.jsonl`` holds one line per finished checkpoint: ``file``, ``env_steps``, ``iteration``,
``sha256``, ``bytes``, ``kind`` (``resume``; ``best``, which is ``best_agent.pt``; ``top``, another of the best),
``score``, ``parts``, ``time``, ``attempt``, and ``"milestone": true`` where the file stays for good. A checkpoint
whose line is missing does not exist. A line with ``"deleted": true`` says that the file was removed, and ``why``.

``result.json`` is the last thing a worker writes: see `Result`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from vbot_campaign import fs

EVENT_SCHEMA = 1

STOP_PRUNED = "pruned"
"""Reason in ``stop.json`` by which a worker knows that its trial ends here and will not be continued."""
STOP_PAUSED = "paused"
"""Reason in ``stop.json`` of a trial that may be continued when it is among the best of its rung."""

VOLATILE = frozenset({"time", "timing", "memory", "attempt", "token"})
"""Keys of a metrics line that differ between two runs of the same training."""


class Ended(StrEnum):
    """How an attempt ended by itself."""

    FINISHED = "finished"
    """The budget is trained and evaluated."""
    STOPPED = "stopped"
    """Stopped on request or by SIGTERM, with a checkpoint to continue from."""
    DIVERGED = "diverged"
    """Loss, weights or physics stopped being finite."""
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    """Nothing more could be written; the last checkpoint is there to continue from."""
    INVALID = "invalid"
    """The configuration cannot be trained (a `CampaignError`)."""
    FAILED = "failed"
    """Any other error: a bug."""


EXIT_CODES = {
    Ended.FINISHED: 0,
    Ended.STOPPED: 0,
    Ended.FAILED: 1,
    Ended.INVALID: 2,
    Ended.DIVERGED: 10,
    Ended.OUT_OF_MEMORY: 11,
    Ended.DISK_FULL: 12,
}

EXIT_FENCED = 4
"""A later attempt owns the folder: the worker wrote nothing more, a result neither."""


@dataclass(frozen=True)
class Result:
    """The content of ``result.json``."""

    state: Ended
    reason: str
    attempt: int
    env_steps: int
    iteration: int
    token: str = ""
    score: float | None = None
    """Score of ``best_agent.pt`` in the deterministic evaluation; only when finished."""
    parts: dict[str, float] | None = None
    episodes: dict[str, float] | None = None
    """The evaluation's `EpisodeTotals`."""
    final_score: float | None = None
    """Score of the last policy in the same evaluation."""
    best_checkpoint: str | None = None
    """File name under ``checkpoints/``."""
    last_checkpoint: str | None = None
    error: str | None = None
    """Traceback, when the attempt failed."""
    seconds: float = 0.0
    v: int = EVENT_SCHEMA
    time: str = field(default_factory=lambda: utc_now())

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        fs.write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Result | None:
        """Return the result, or None when the attempt has not ended by itself."""
        try:
            record = fs.read_json(path)
        except FileNotFoundError:
            return None
        known = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        return cls(**{**known, "state": Ended(record["state"])})


def utc_now() -> str:
    """Return the time as ``2026-01-31T23:59:59.123Z``."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def request_stop(path: Path, reason: str, token: str) -> None:
    """Ask the worker of a trial folder to stop; it checks after every iteration.

    Args:
        path: `TrialPaths.stop_request`.
        reason: ``pruned``, ``paused``, ``stop``, or a sentence; the worker repeats it in its result.
        token: Token of the attempt that is meant; other attempts ignore the request.
    """
    fs.write_json(path, {"v": EVENT_SCHEMA, "reason": reason, "token": token, "time": utc_now()})


def stop_requested(path: Path, token: str) -> str | None:
    """Return the reason of a stop request meant for this attempt, or None."""
    if not path.exists():
        return None
    record = fs.read_json(path)
    return str(record["reason"]) if record.get("token", "") == token else None


def stable(line: dict[str, Any]) -> dict[str, Any]:
    """Return a metrics line without the parts that differ between runs of the same training."""
    return {key: value for key, value in line.items() if key not in VOLATILE}
