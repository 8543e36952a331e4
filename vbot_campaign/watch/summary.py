"""What a person wants to know when a study ends."""

from __future__ import annotations

import textwrap

from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.snapshot import StudySnapshot, TrialView
from vbot_campaign.watch import units
from vbot_campaign.watch.facts import best_policy, by_state
from vbot_campaign.watch.program import program

PART_WORDS = {
    "success_rate": "success",
    "survival_rate": "survival",
    "goal_progress": "progress",
    "time_to_goal": "time to goal",
    "episode_length": "episode length",
    "episode_reward_mean": "reward per episode",
}
SHARES = ("success_rate", "survival_rate", "goal_progress")
_UNITS = {"time_to_goal": " s", "episode_length": " steps"}


def best_summary(paths: CampaignPaths, snapshot: StudySnapshot) -> str:
    """Return the best trial with its score, parameters and policy, and the next three commands."""
    name = snapshot.spec.study
    reason = f" ({snapshot.reason})" if snapshot.reason else ""
    lines = [f"Study {name} is {snapshot.state}{reason}: {by_state(snapshot.trials)}."]
    best, policy = snapshot.best, best_policy(paths, snapshot)
    lines += _best_lines(best, policy) if best else ["No trial is complete yet, so there is no best policy."]
    commands = [] if snapshot.state == "finished" else [f"resume {name}"]
    commands += [f"evaluate {policy}"] if policy else []
    commands += ["dashboard", f"status {name}"]
    return "\n".join([*lines, "", "Next:", *(f"  {program()} {command}" for command in commands[:3])])


def _best_lines(best: TrialView, policy: str | None) -> list[str]:
    lines = ["", f"Best trial {best.number}: score {units.score(best.score)}"]
    if best.parts:
        lines += textwrap.wrap(parts_text(best.parts), 80, initial_indent="  ", subsequent_indent="  ")
    width = max((len(name) for name in best.parameters), default=0)
    lines += [f"  {name:<{width}}  {units.value(value)}" for name, value in best.parameters.items()]
    return [*lines, f"  policy: {policy}" if policy else "  its policy is not on disk"]


def parts_text(parts: dict[str, float]) -> str:
    """Return score parts in words: ``success 55%, survival 90%, time to goal 6.2 s``."""
    return ", ".join(f"{PART_WORDS.get(name, name)} {part_text(name, value)}" for name, value in parts.items())


def part_text(name: str, value: float) -> str:
    """Return a score part with its unit."""
    if name in SHARES:
        return units.percent(value)
    return f"{value:.1f}{_UNITS.get(name, '')}"
