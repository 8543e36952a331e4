"""The checkpoints of one trial folder: written, verified, chosen, thinned out."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

from vbot_campaign import fs
from vbot_campaign.errors import CheckpointError
from vbot_campaign.events import utc_now
from vbot_campaign.paths import TrialPaths
from vbot_campaign.rl import checkpoint

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A line of ``checkpoints.jsonl``."""

    file: str
    env_steps: int
    iteration: int
    sha256: str
    kind: str


class CheckpointFolder:
    """Checkpoints of a trial. A file counts only once its line is in ``checkpoints.jsonl``.

    Args:
        paths: The trial's folder.
        attempt: Number written into each line.
        keep_last: Resume points that stay on disk.
    """

    def __init__(self, paths: TrialPaths, *, attempt: int, keep_last: int) -> None:
        self._paths = paths
        self._attempt = attempt
        self._keep_last = keep_last
        paths.checkpoints.mkdir(parents=True, exist_ok=True)
        self._remove_parts()

    @property
    def last_file(self) -> str | None:
        """Name of the newest resume point, or None."""
        points = self._resume_points()
        return points[-1].file if points else None

    def save_resume_point(self, learner_state: dict[str, Any], extra: dict[str, Any], score: float | None) -> str:
        """Write ``agent_<env_steps>.pt`` and drop the resume points that are too many; return its name."""
        env_steps = int(learner_state["vbot_campaign"]["counters"]["env_steps"])
        path = self._paths.checkpoint(env_steps)
        record = checkpoint.save(path, learner_state, {**extra, "kind": "resume"})
        self._note(path.name, learner_state, record, kind="resume", score=score)
        for entry in self._resume_points()[: -self._keep_last]:
            self._delete(entry)
        return path.name

    def save_best(
        self, learner_state: dict[str, Any], extra: dict[str, Any], score: float, parts: dict[str, float]
    ) -> None:
        """Write ``best_agent.pt``: the policy alone."""
        path = self._paths.best_checkpoint
        record = checkpoint.save(path, learner_state, {**extra, "kind": "policy"})
        self._note(path.name, learner_state, record, kind="best", score=score, parts=parts)

    def note_best_score(self, score: float, parts: dict[str, float]) -> None:
        """Write a new line for the present ``best_agent.pt`` with a better founded score."""
        best = [line for line in self._lines() if line["kind"] == "best"][-1]
        self._append({**best, "score": score, "parts": parts})

    def best_env_steps(self) -> int | None:
        """Return the env step of ``best_agent.pt``, or None when there is none."""
        best = [line for line in self._lines() if line["kind"] == "best"]
        return int(best[-1]["env_steps"]) if best else None

    def load_latest(self) -> dict[str, Any] | None:
        """Return the newest resume point that passes verification, or None.

        One that is missing, torn or altered goes to ``quarantine/`` and the one before it is tried.
        """
        for entry in reversed(self._resume_points()):
            path = self._paths.checkpoints / entry.file
            try:
                return checkpoint.load(path, entry.sha256)
            except CheckpointError as error:
                _log.warning("%s", error)
                self._quarantine(entry)
        return None

    def forget_after(self, env_steps: int) -> None:
        """Drop best policies of a future that will be trained again, so that it can be recorded anew."""
        steps = self.best_env_steps()
        if steps is not None and steps > env_steps:
            self._delete(Entry(self._paths.best_checkpoint.name, steps, 0, "", "best"))

    def _resume_points(self) -> list[Entry]:
        points = [
            Entry(line["file"], int(line["env_steps"]), int(line["iteration"]), line["sha256"], "resume")
            for line in self._lines()
            if line["kind"] == "resume"
        ]
        return sorted(points, key=lambda entry: entry.env_steps)

    def _lines(self) -> list[dict[str, Any]]:
        """Return the newest line of each file that was not deleted."""
        newest: dict[str, dict[str, Any]] = {}
        for line in fs.read_lines(self._paths.checkpoint_log):
            newest[line["file"]] = line
        return [line for line in newest.values() if not line.get("deleted")]

    def _note(
        self,
        file: str,
        learner_state: dict[str, Any],
        record: checkpoint.CheckpointRecord,
        *,
        kind: str,
        score: float | None,
        parts: dict[str, float] | None = None,
    ) -> None:
        counters = learner_state["vbot_campaign"]["counters"]
        self._append(
            {
                "file": file,
                "env_steps": counters["env_steps"],
                "iteration": counters["iteration"],
                "sha256": record.sha256,
                "bytes": record.bytes,
                "kind": kind,
                "score": score,
                "parts": parts,
            }
        )

    def _append(self, line: dict[str, Any]) -> None:
        stamped = {**line, "time": utc_now(), "attempt": self._attempt}
        fs.append_line(self._paths.checkpoint_log, stamped, sync=True)

    def _delete(self, entry: Entry) -> None:
        # The line first: a crash between the two leaves a file that nobody counts on, never a line without its file.
        self._append_deleted(entry, "retention")
        (self._paths.checkpoints / entry.file).unlink(missing_ok=True)

    def _quarantine(self, entry: Entry) -> None:
        path = self._paths.checkpoints / entry.file
        self._append_deleted(entry, "quarantine")
        if path.exists():
            self._paths.quarantine.mkdir(exist_ok=True)
            os.replace(path, self._paths.quarantine / entry.file)

    def _append_deleted(self, entry: Entry, why: str) -> None:
        counters = {"file": entry.file, "env_steps": entry.env_steps, "iteration": entry.iteration}
        self._append({**counters, "sha256": entry.sha256, "kind": entry.kind, "deleted": True, "why": why})

    def _remove_parts(self) -> None:
        # Half-written files of an attempt that was killed while writing.
        for part in self._paths.checkpoints.glob(".*.part"):
            part.unlink(missing_ok=True)
