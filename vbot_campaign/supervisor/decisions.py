"""Every decision of the supervisor with its reason: ``supervisor.jsonl``, and whoever listens."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vbot_campaign import fs
from vbot_campaign.events import EVENT_SCHEMA, utc_now

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """One decision."""

    action: str
    """Of trials: ``asked``, ``started``, ``adopted``, ``reported``, ``pruning``, ``would_prune``, ``pausing``,
    ``passed``, ``promoted``, ``stopping``, ``killed``, ``completed``, ``pruned``, ``failed``, ``stopped``, ``paused``,
    ``died``, ``out_of_memory``, ``lost`` (to another supervisor). Of the study: ``database``, ``exhausted``, ``raced``,
    ``finished``, ``stopped``, ``audited``, ``audit_failed``. Of either: ``alert``, ``observer_failed``."""
    reason: str = ""
    trial: int | None = None
    attempt: int | None = None
    slot: str | None = None
    env_step: int | None = None
    score: float | None = None
    level: str = ""
    """Of an alert: ``info``, ``warning`` or ``error``."""
    cause: str = ""
    """Of an alert: a word for scripts."""
    advice: str = ""
    """Of an alert: what to do about it."""
    told_at: str = ""
    """Of an alert that a worker told: when."""

    def record(self) -> dict[str, Any]:
        """Return the line of the log; what does not apply is left out."""
        return {name: value for name, value in vars(self).items() if value not in (None, "")}


Listener = Callable[[Decision], None]


class DecisionLog:
    """Writes decisions down and passes them on."""

    def __init__(self, path: Path, listener: Listener | None = None) -> None:
        self._path = path
        self._listener = listener
        path.parent.mkdir(parents=True, exist_ok=True)

    def alerts(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of all alerts, those of earlier supervisors too."""
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8", errors="replace") as lines:
            # The log of a long study has a line for every report; only the few that matter are taken apart.
            for line in lines:
                if '"alert"' in line and line.endswith("\n"):
                    with contextlib.suppress(ValueError):
                        record = json.loads(line)
                        if record.get("action") == "alert":
                            yield record

    def add(self, decision: Decision) -> None:
        """Record a decision. An exception of the listener is logged and goes no further."""
        fs.append_line(self._path, {"v": EVENT_SCHEMA, "time": utc_now(), **decision.record()})
        if self._listener is None:
            return
        try:
            self._listener(decision)
        except Exception:
            _logger.exception("the listener failed at %s", decision)
