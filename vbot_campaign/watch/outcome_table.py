"""How a policy's episodes ended, as text and as JSON."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from vbot_campaign.spec.evaluation import Evaluation
from vbot_campaign.spec.movement import MovementTotals
from vbot_campaign.spec.outcomes import EpisodeTotals

SCHEMA = 1

OUTCOMES = (
    ("reached", "was inside the goal"),
    ("success", "stopped inside the goal"),
    ("fell_before", "fell on the way"),
    ("fell_after", "fell after arriving"),
    ("out_of_bounds", "left the disc"),
    ("timed_out", "ran out of time"),
)


def outcome_table(
    path: Path,
    env_steps: int | None,
    episodes: EpisodeTotals,
    score: float,
    seed: int,
    movement: MovementTotals | None = None,
) -> str:
    """Return the outcome table of a deterministic evaluation, at most 80 columns wide.

    The interval is Wilson's for a proportion at 95 %.
    """
    n = int(episodes.finished)
    trained = f", trained for {env_steps:,} env steps" if env_steps is not None else ""
    lines = [f"{path}{trained}", f"{n} episodes, seed {seed}, mean action", ""]
    for name, meaning in OUTCOMES:
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
    return "\n".join(lines + (_movement_lines(movement) if movement else []))


def _movement_lines(movement: MovementTotals) -> list[str]:
    seen = movement.measures()
    speeds = [f"{ring}: {number(speed, '.2f')}" for ring, speed in seen["speed_by_ring_m_s"].items()]
    joints = [f"{kind} {share:.1%}" for kind, share in seen["saturation_by_joint"].items()]
    late = [f"{ring} m: {count:.0f}" for ring, count in seen["timed_out_by_ring"].items() if count]
    lines = [
        "",
        f"  path efficiency    {number(seen['path_efficiency'], '.3f')}   straight distance over path length",
        f"  arrives after      {number(seen['time_to_goal_arrived_s'], '.2f')} s  of those that arrive",
        f"  speed (m/s)        {', '.join(speeds)}  m to go",
        f"  at torque limit    {seen['saturation']:.1%} of joint-steps: {', '.join(joints)}",
    ]
    return lines + ([f"  stuck at           {', '.join(late)}"] if late else [])


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


def case_json(done: Evaluation) -> dict[str, Any]:
    """Return an evaluation as plain values: those of `evaluation_json`, and what else it saw."""
    n = int(done.episodes.finished)
    values = evaluation_json(Path(done.checkpoint), done.env_steps, done.episodes, done.score, done.seeds[0])
    counts = {name: int(getattr(done.episodes, name)) for name, _ in OUTCOMES}
    return values | {
        "deterministic": done.deterministic,
        "physics": done.physics,
        "seeds": list(done.seeds),
        "success_by_seed": list(done.success_by_seed),
        "intervals": {name: list(wilson(count, n)) for name, count in counts.items()},
        "movement": done.movement.measures() if done.movement else None,
    }


def number(value: float | None, form: str) -> str:
    """Return a number in a format, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def wilson(count: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion (JASA 22, 1927, p. 209)."""
    share = count / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max((centre - spread) / scale, 0.0), min((centre + spread) / scale, 1.0)
