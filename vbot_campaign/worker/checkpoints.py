"""The checkpoints of one trial folder: written, verified, chosen, thinned out."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from typing import Any

from vbot_campaign import fs
from vbot_campaign.errors import CheckpointCorruptError, CheckpointError, CheckpointNotFoundError
from vbot_campaign.events import utc_now
from vbot_campaign.paths import TrialPaths
from vbot_campaign.rl import checkpoint
from vbot_campaign.spec.training import CheckpointSettings
from vbot_campaign.worker.fence import Fence

_log = logging.getLogger(__name__)

Line = dict[str, Any]
"""A line of ``checkpoints.jsonl``, see `vbot_campaign.events`."""

_OWN_FILE = re.compile(r"(agent|best)_\d+\.pt")


class CheckpointFolder:
    """Checkpoints of a trial. A file counts only once its line is in ``checkpoints.jsonl``.

    Every write asks the fence first and raises `FencedError` where a later attempt owns the folder.

    Args:
        paths: The trial's folder.
        attempt: Number written into each line.
        settings: What is kept.
        fence: See `Fence`.
    """

    def __init__(self, paths: TrialPaths, *, attempt: int, settings: CheckpointSettings, fence: Fence) -> None:
        self._paths = paths
        self._attempt = attempt
        self._settings = settings
        self._fence = fence
        self.problems: list[str] = []
        """What was found wrong with files, in sentences; whoever tells a person empties it."""
        fence.check()
        paths.checkpoints.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()

    # --- points to continue from --------------------------------------------------------------------------------

    @property
    def last_file(self) -> str | None:
        """Name of the newest resume point, or None."""
        points = self._lines("resume")
        return str(points[-1]["file"]) if points else None

    def save_resume_point(
        self, learner_state: dict[str, Any], extra: dict[str, Any], score: float | None, *, milestone: bool = False
    ) -> str:
        """Write ``agent_<env_steps>.pt`` and drop the resume points that are too many.

        Args:
            learner_state: `Learner.state_dict`.
            extra: Plain values to store with it.
            score: Of the training episodes at present.
            milestone: Keep it for good.

        Returns:
            The file's name.
        """
        path = self._paths.checkpoint(_env_steps(learner_state))
        kept = {"milestone": True} if milestone else {}
        self._save(path.name, learner_state, {**extra, "kind": "resume"}, kind="resume", score=score, **kept)
        passing = [line for line in self._lines("resume") if not line.get("milestone")]
        for line in passing[: -self._settings.keep_last]:
            self._delete(line, "retention")
        return path.name

    def load_latest(self) -> dict[str, Any] | None:
        """Return the newest resume point that passes verification, or None.

        One that is missing, torn, altered or incomplete goes to ``quarantine/`` and the one before it is tried.

        Raises:
            CheckpointError: It is of a newer version of this program.
        """
        points = self._lines("resume")
        for line in reversed(points):
            try:
                return self._load(line)
            except (CheckpointCorruptError, CheckpointNotFoundError) as error:
                self._quarantine(line, error)
        if points:
            self._note_problem("none of the trial's checkpoints can be used: the trial starts over")
        return None

    def _load(self, line: Line) -> dict[str, Any]:
        path = self._paths.checkpoints / line["file"]
        state = checkpoint.load(path, line["sha256"])
        missing = checkpoint.missing_parts(state)
        if missing:
            raise CheckpointCorruptError(
                f"checkpoint {path} lacks {', '.join(missing)}; training cannot continue there"
            )
        return state

    # --- best policies ------------------------------------------------------------------------------------------

    def offer_best(
        self, learner_state: dict[str, Any], extra: dict[str, Any], score: float, parts: dict[str, float]
    ) -> None:
        """Keep the policy if it is among the best: as ``best_agent.pt``, or as one of the next as ``best_<n>.pt``.

        Args:
            learner_state: `Learner.state_dict`.
            extra: Plain values to store with it.
            score: What it is worth.
            parts: The score's parts.
        """
        best, others = self._best(), self._lines("top")
        if self._settings.keep_best == 0:
            return
        if best is None or score > float(best["score"]):
            self.save_best(learner_state, extra, score, parts)
        elif len(others) + 1 < self._settings.keep_best or any(score > float(line["score"]) for line in others):
            name = _top_file(_env_steps(learner_state))
            self._save(name, learner_state, {**extra, "kind": "policy"}, kind="top", score=score, parts=parts)
            self._thin_out_best()

    def save_best(
        self, learner_state: dict[str, Any], extra: dict[str, Any], score: float, parts: dict[str, float]
    ) -> None:
        """Write ``best_agent.pt``: the policy alone. The one before stays as one of the next, if that many are kept."""
        best = self._best()
        if best is not None and self._settings.keep_best > 1 and int(best["env_steps"]) != _env_steps(learner_state):
            self._copy_best(best)
        name = self._paths.best_checkpoint.name
        self._save(name, learner_state, {**extra, "kind": "policy"}, kind="best", score=score, parts=parts)
        self._thin_out_best()

    def note_best_score(self, score: float, parts: dict[str, float]) -> None:
        """Write a new line for the present ``best_agent.pt`` with a better founded score."""
        best = self._best()
        if best is not None:
            self._append({**best, "score": score, "parts": parts})

    def best_env_steps(self) -> int | None:
        """Return the env step of ``best_agent.pt``, or None when there is none."""
        best = self._best()
        return int(best["env_steps"]) if best else None

    def verify_best(self) -> None:
        """Put ``best_agent.pt`` into quarantine if it is not what was written, or no policy can be read from it."""
        best = self._best()
        if best is None:
            return
        try:
            checkpoint.load(self._paths.best_checkpoint, best["sha256"])
            checkpoint.load_policy(self._paths.best_checkpoint)
        except CheckpointError as error:
            self._quarantine(best, error)

    def forget_after(self, env_steps: int) -> None:
        """Drop best policies of a future that will be trained again, so that it can be recorded anew."""
        for line in (*self._lines("best"), *self._lines("top")):
            if int(line["env_steps"]) > env_steps or self._is_unlisted_best(line, env_steps):
                self._delete(line, "retention")

    def _is_unlisted_best(self, line: Line, env_steps: int) -> bool:
        # A worker that was killed between file and line leaves a best policy of that future under the line of the
        # one before. Nothing is wrong with it, and it will be made again.
        path = self._paths.checkpoints / line["file"]
        if not path.is_file() or fs.sha256(path) == line["sha256"]:
            return False
        try:
            return (checkpoint.load_policy(path).env_steps or 0) > env_steps
        except CheckpointError:
            return False

    def _best(self) -> Line | None:
        lines = self._lines("best")
        return lines[-1] if lines else None

    def _copy_best(self, best: Line) -> None:
        path = self._paths.checkpoints / _top_file(int(best["env_steps"]))
        self._fence.check()
        with fs.replacing(path) as file:
            file.write(self._paths.best_checkpoint.read_bytes())
        self._append({**best, "file": path.name, "kind": "top"})

    def _thin_out_best(self) -> None:
        others = sorted(self._lines("top"), key=lambda line: (float(line["score"]), int(line["env_steps"])))
        for line in others[: max(0, len(others) + 1 - max(1, self._settings.keep_best))]:
            self._delete(line, "retention")

    # --- lines and files ----------------------------------------------------------------------------------------

    def _lines(self, kind: str) -> list[Line]:
        """Return the newest line of each file of a kind that was not deleted, by env step."""
        newest = _newest(fs.read_lines(self._paths.checkpoint_log)).values()
        there = [line for line in newest if line["kind"] == kind and not line.get("deleted")]
        return sorted(there, key=lambda line: int(line["env_steps"]))

    def _save(self, file: str, learner_state: dict[str, Any], extra: dict[str, Any], **more: Any) -> None:
        self._fence.check()
        record = checkpoint.save(self._paths.checkpoints / file, learner_state, extra)
        counters = learner_state["vbot_campaign"]["counters"]
        where = {"file": file, "env_steps": counters["env_steps"], "iteration": counters["iteration"]}
        self._append({**where, "sha256": record.sha256, "bytes": record.bytes, "parts": None, **more})

    def _append(self, line: Mapping[str, Any]) -> None:
        self._fence.check()
        stamped = {**line, "time": utc_now(), "attempt": self._attempt}
        fs.append_line(self._paths.checkpoint_log, stamped, sync=True)

    def _delete(self, line: Line, why: str) -> None:
        # The line first: a crash between the two leaves a file that nobody counts on, never a line without its file.
        self._append_deleted(line, why)
        (self._paths.checkpoints / line["file"]).unlink(missing_ok=True)

    def _quarantine(self, line: Line, error: CheckpointError) -> None:
        self._note_problem(str(error))
        path = self._paths.checkpoints / line["file"]
        self._append_deleted(line, "quarantine")
        if path.exists():
            self._paths.quarantine.mkdir(exist_ok=True)
            os.replace(path, self._paths.quarantine / path.name)

    def _note_problem(self, text: str) -> None:
        _log.warning("%s", text)
        self.problems.append(text)

    def _append_deleted(self, line: Line, why: str) -> None:
        kept = {name: line[name] for name in ("file", "env_steps", "iteration", "sha256", "kind")}
        self._append({**kept, "deleted": True, "why": why})

    def _remove_leftovers(self) -> None:
        # Of an attempt that was killed while it wrote a file, or between a file and its line.
        fs.remove_parts(self._paths.checkpoints)
        lines = _newest(fs.read_lines(self._paths.checkpoint_log))
        for path in self._paths.checkpoints.glob("*.pt"):
            if _OWN_FILE.fullmatch(path.name) and lines.get(path.name, {"deleted": True}).get("deleted"):
                path.unlink(missing_ok=True)


def _env_steps(learner_state: dict[str, Any]) -> int:
    return int(learner_state["vbot_campaign"]["counters"]["env_steps"])


def _top_file(env_steps: int) -> str:
    return f"best_{env_steps}.pt"


def _newest(lines: list[Line]) -> dict[str, Line]:
    return {line["file"]: line for line in lines}
