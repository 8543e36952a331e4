"""Writes what a worker says: ``metrics.jsonl`` and TensorBoard events."""

from __future__ import annotations

from typing import Any

import torch

from vbot_campaign import fs
from vbot_campaign.events import EVENT_SCHEMA, utc_now
from vbot_campaign.paths import TrialPaths
from vbot_campaign.rl.learner import IterationStats
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.training import TrialSpec
from vbot_campaign.worker.board import Board
from vbot_campaign.worker.fence import Fence
from vbot_campaign.worker.scoring import PointScore

FINAL_SCORE = "Score/final score"
"""Curve of one point: the score of the evaluation, or the last one of a trial that was pruned."""


class Reporter:
    """Reports one attempt, and nothing any more once a later attempt owns the folder: then a `FencedError` is raised.

    Args:
        paths: The trial's folder.
        spec: What is trained.
        iteration: The iteration that training continues after; lines and curves beyond it are cut off, because they
            will be written again.
        env_steps: The env step of that iteration.
        line: What `progress` wrote for it, as the checkpoint remembers it: written again if a crash tore it.
    """

    def __init__(
        self, paths: TrialPaths, spec: TrialSpec, *, iteration: int, env_steps: int, line: dict[str, Any] | None = None
    ) -> None:
        self._paths = paths
        self._spec = spec
        self._fence = Fence(paths.spec, spec.token)
        self._fence.check()
        self._evaluated = _cut_after(paths, iteration, line)
        self.last_progress = line
        """The line of the last iteration."""
        self._board = Board(paths.root, attempt=spec.attempt, purge_step=env_steps + 1 if env_steps else None)

    def progress(self, stats: IterationStats, *, timing: dict[str, Any], memory: dict[str, float]) -> dict[str, Any]:
        """Write the line and the curves of one iteration; return the line."""
        line = {
            "iteration": stats.iteration,
            "env_steps": stats.env_steps,
            "episodes": stats.episodes.as_dict(),
            "reward_mean": stats.reward_mean,
            "terms": stats.terms,
            "loss": stats.loss,
            "kl": stats.kl,
            "learning_rate": stats.learning_rate,
            "std": stats.std,
            "grad_norm": stats.grad_norm,
            "timing": timing,
            "memory": memory,
        }
        self.last_progress = self._line("progress", line)
        self._curves(stats, timing, memory)
        return line

    def sync(self) -> None:
        """Wait until all lines are on disk: a checkpoint must not survive a power cut that its lines do not."""
        fs.sync_file(self._paths.metrics)

    def point(self, env_steps: int, score: PointScore) -> None:
        """Draw the score of a grid point."""
        self._fence.check()
        self._draw("Score", {"score (training episodes)": score.score, **score.parts}, env_steps)

    def evaluation(
        self,
        *,
        iteration: int,
        env_steps: int,
        checkpoint: str,
        episodes: EpisodeTotals,
        score: float,
        parts: dict[str, float],
        seed: int,
    ) -> None:
        """Write the line of a deterministic evaluation, unless an attempt that was cut off here has written it."""
        if (checkpoint, env_steps) in self._evaluated:
            return
        self._line(
            "evaluation",
            {
                "iteration": iteration,
                "env_steps": env_steps,
                "checkpoint": checkpoint,
                "episodes": episodes.as_dict(),
                "parts": parts,
                "score": score,
                "seed": seed,
            },
        )
        self._draw("Score", {"score (evaluation)": score}, env_steps)

    def alert(self, level: str, cause: str, message: str, *, iteration: int) -> None:
        """Write something a person should know."""
        self._line("alert", {"iteration": iteration, "level": level, "cause": cause, "message": message})

    def final_score(self, env_steps: int, score: float) -> None:
        """Write what the trial ends with, and its sampled point, for TensorBoard's HParams page."""
        self._fence.check()
        point = {name: _plain(value) for name, value in self._spec.parameters.items()}
        self._board.hyperparameters(point, {FINAL_SCORE: score})
        self._board.scalars(env_steps, {FINAL_SCORE: score})

    def film(self, env_steps: int, gif: bytes) -> None:
        """Show a film of the policy among TensorBoard's images."""
        self._fence.check()
        self._board.film(env_steps, "Rollout", gif)

    def close(self) -> None:
        """Finish the event file."""
        self._board.close()

    def _line(self, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        head = {"v": EVENT_SCHEMA, "kind": kind, "time": utc_now()}
        ids = {"attempt": self._spec.attempt, "token": self._spec.token}
        self._fence.check()
        line = {**head, **ids, **content}
        fs.append_line(self._paths.metrics, line)
        return line

    def _curves(self, stats: IterationStats, timing: dict[str, Any], memory: dict[str, float]) -> None:
        policy = {"kl": stats.kl, "learning_rate": stats.learning_rate, "std": stats.std, "grad_norm": stats.grad_norm}
        groups = {
            "Outcome": stats.episodes.rates() or {},
            "Reward terms": {**stats.terms, "total": stats.reward_mean},
            "Loss": stats.loss,
            "Policy": policy,
            "Speed": {"env_steps_per_s": timing["env_steps_per_s"], **memory},
        }
        curves = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
        self._board.scalars(stats.env_steps, {**curves, **_under_skrl_names(stats)})

    def _draw(self, group: str, values: dict[str, float], step: int) -> None:
        self._board.scalars(step, {f"{group}/{name}": value for name, value in values.items()})


def _under_skrl_names(stats: IterationStats) -> dict[str, float]:
    """Return what skrl draws too, under the names it gives it: scripts that read its files read ours."""
    values = {
        "Reward / Instantaneous reward (mean)": stats.reward_mean,
        "Policy / Standard deviation": stats.std,
        "Learning / Learning rate": stats.learning_rate,
        **{f"Loss / {name.title()} loss": value for name, value in stats.loss.items()},
    }
    parts = stats.episodes.parts()
    if parts is not None:
        values["Reward / Total reward (mean)"] = parts["episode_reward_mean"]
        values["Episode / Total timesteps (mean)"] = parts["episode_length"]
    return values


def _plain(value: Any) -> float | str | bool:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _cut_after(paths: TrialPaths, iteration: int, last: dict[str, Any] | None) -> set[tuple[str, int]]:
    """Keep the lines of ``metrics.jsonl`` up to an iteration; the file is replaced, which readers notice.

    Args:
        paths: The trial's folder.
        iteration: The last one that is kept.
        last: Its line, for a log that ends before it.

    Returns:
        Checkpoint and env step of each evaluation that is kept.
    """
    lines = fs.read_lines(paths.metrics)
    kept = [line for line in lines if int(line.get("iteration", 0)) <= iteration]
    if last is not None and max((_iteration(line) for line in kept), default=0) < last["iteration"]:
        kept.append(last)
    if kept != lines:
        fs.write_json_lines(paths.metrics, kept)
    return {(line["checkpoint"], line["env_steps"]) for line in kept if line.get("kind") == "evaluation"}


def _iteration(line: dict[str, Any]) -> int:
    return int(line["iteration"]) if line.get("kind") == "progress" else 0


def memory_use(device: torch.device) -> dict[str, float]:
    """Return resident memory of this process and peak memory on the device, in MB."""
    import psutil

    use = {"rss_mb": round(psutil.Process().memory_info().rss / 1e6, 1)}
    if device.type == "cuda":
        use["device_mb"] = round(torch.cuda.max_memory_reserved(device) / 1e6, 1)
    return use
