"""How a policy's episodes ended, as text and as JSON."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from vbot_campaign.spec.outcomes import EpisodeTotals

SCHEMA = 1

_ROWS = (
    ("reached", "was inside the goal"),
    ("success", "stopped inside the goal"),
    ("fell_before", "fell on the way"),
    ("fell_after", "fell after arriving"),
    ("out_of_bounds", "left the disc"),
    ("timed_out", "ran out of time"),
)


def outcome_table(path: Path, env_steps: int | None, episodes: EpisodeTotals, score: float, seed: int) -> str:
    """Return the outcome table of a deterministic evaluation, at most 80 columns wide.

    The interval is Wilson's for a proportion at 95 %.
    """
    n = int(episodes.finished)
    trained = f", trained for {env_steps:,} env steps" if env_steps is not None else ""
    lines = [f"{path}{trained}", f"{n} episodes, seed {seed}, mean action", ""]
    for name, meaning in _ROWS:
        count = int(getattr(episodes, name))
        low, high = wilson(count, n)
        lines.append(f"  {name:<14} {count:>5}  {count / n:>6.1%}  [{low:>6.1%} {high:>6.1%}]  {meaning}")
    parts = episodes.parts() or {}
    lines += [
        "",
        f"  goal progress      {parts['goal_progress']:.3f}   share of the initial distance covered",
        f"  time to goal       {parts['time_to_goal']:.2f} s  (episodes that never arrived count the full clock)",
        f"  episode length     {parts['episode_length']:.0f} control steps",
        f"  final distance     {episodes.final_distance / n:.2f} m",
        f"  episode reward     {parts['episode_reward_mean']:.1f}",
        f"  score              {score:.4f}",
    ]
    return "\n".join(lines)


def evaluation_json(
    path: Path, env_steps: int | None, episodes: EpisodeTotals, score: float, seed: int
) -> dict[str, Any]:
    """Return the same as plain values."""
    return {
        "schema_version": SCHEMA,
        "checkpoint": path.as_posix(),
        "env_steps": env_steps,
        "seed": seed,
        "deterministic": True,
        "episodes": episodes.as_dict(),
        "rates": episodes.rates(),
        "parts": episodes.parts(),
        "score": score,
    }


def wilson(count: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion (JASA 22, 1927, p. 209)."""
    share = count / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max((centre - spread) / scale, 0.0), min((centre + spread) / scale, 1.0)
