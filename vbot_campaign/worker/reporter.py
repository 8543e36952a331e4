"""Writes what a worker says: ``metrics.jsonl`` and TensorBoard events."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from vbot_campaign import fs
from vbot_campaign.events import EVENT_SCHEMA, utc_now
from vbot_campaign.paths import TrialPaths
from vbot_campaign.rl.learner import IterationStats
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.training import TrialSpec
from vbot_campaign.worker.scoring import PointScore

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams


class Reporter:
    """Reports one attempt.

    Args:
        paths: The trial's folder.
        spec: What is trained.
        iteration: The iteration that training continues after; lines and curves beyond it are cut off, because they
            will be written again.
        env_steps: The env step of that iteration.
    """

    def __init__(self, paths: TrialPaths, spec: TrialSpec, *, iteration: int, env_steps: int) -> None:
        self._paths = paths
        self._spec = spec
        _cut_after(paths, iteration)
        # TensorBoard drops the points at and beyond the purge step of an older event file.
        self._board = SummaryWriter(str(paths.root), purge_step=env_steps + 1 if env_steps else None)

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
        self._line("progress", line)
        self._curves(stats, timing, memory)
        return line

    def point(self, env_steps: int, score: PointScore) -> None:
        """Draw the score of a grid point."""
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
        """Write the line of a deterministic evaluation."""
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

    def hyperparameters(self, score: float) -> None:
        """Write the sampled point and its score for TensorBoard's HParams page."""
        point = {name: _plain(value) for name, value in self._spec.parameters.items()}
        for summary in hparams(point, {"Score/score (evaluation)": score}):
            self._board.file_writer.add_summary(summary)

    def flush(self) -> None:
        """Bring the curves to disk."""
        self._board.flush()

    def close(self) -> None:
        """Finish the event file."""
        self._board.close()

    def _line(self, kind: str, content: dict[str, Any]) -> None:
        head = {"v": EVENT_SCHEMA, "kind": kind, "time": utc_now()}
        ids = {"attempt": self._spec.attempt, "token": self._spec.token}
        fs.append_line(self._paths.metrics, {**head, **ids, **content})

    def _curves(self, stats: IterationStats, timing: dict[str, Any], memory: dict[str, float]) -> None:
        step = stats.env_steps
        self._draw("Outcome", stats.episodes.rates() or {}, step)
        self._draw("Reward terms", {**stats.terms, "total": stats.reward_mean}, step)
        self._draw("Loss", stats.loss, step)
        policy = {"kl": stats.kl, "learning_rate": stats.learning_rate, "std": stats.std, "grad_norm": stats.grad_norm}
        self._draw("Policy", policy, step)
        self._draw("Speed", {"env_steps_per_s": timing["env_steps_per_s"], **memory}, step)

    def _draw(self, group: str, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._board.add_scalar(f"{group}/{name}", value, step)


def _plain(value: Any) -> float | str | bool:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _cut_after(paths: TrialPaths, iteration: int) -> None:
    """Keep the lines of ``metrics.jsonl`` up to an iteration; the file is replaced, which readers notice."""
    lines = fs.read_lines(paths.metrics)
    kept = [line for line in lines if int(line.get("iteration", 0)) <= iteration]
    if len(kept) < len(lines):
        fs.write_json_lines(paths.metrics, kept)


def memory_use(device: torch.device) -> dict[str, float]:
    """Return resident memory of this process and peak memory on the device, in MB."""
    import psutil

    use = {"rss_mb": round(psutil.Process().memory_info().rss / 1e6, 1)}
    if device.type == "cuda":
        use["device_mb"] = round(torch.cuda.max_memory_reserved(device) / 1e6, 1)
    return use
