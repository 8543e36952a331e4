"""What the best policies of all studies do, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vbot_campaign.exporters.registry_evaluation import PlayedPolicy
from vbot_campaign.watch import units
from vbot_campaign.watch.outcome_table import number
from vbot_campaign.watch.page import Block, Paragraph, Table, Title

_TITLES = ("study", "trial", "score", "engine", "success", "fell", "time", "goal s")


def registry_page(policies: Sequence[PlayedPolicy]) -> list[Block]:
    """Return a row for each policy and engine; the best success first."""
    ordered = sorted(policies, key=lambda policy: (-_success(policy), policy.study))
    rows = tuple(row for policy in ordered for row in _rows(policy))
    return [
        Title(f"Best policies of {len(policies)} stud{'y' if len(policies) == 1 else 'ies'}, played without noise"),
        Table(_TITLES, rows, left=1, wraps=0),
        Paragraph("Score is that of the trial; fell: on the way or after arriving; time: ran out of it."),
    ]


def _rows(policy: PlayedPolicy) -> Iterator[tuple[str, ...]]:
    head = (policy.study, str(policy.trial.number), units.score(policy.trial.score))
    if not policy.played:
        yield (*head, "-", "-", "-", "-", "-")
    for engine, seen in policy.played.items():
        yield (*head, engine, *_cells(seen))
        head = ("", "", "")


def _cells(seen: dict[str, Any]) -> tuple[str, ...]:
    rates = seen.get("rates") or {}
    fell = rates.get("fell_before", 0.0) + rates.get("fell_after", 0.0)
    goal = (seen.get("parts") or {}).get("time_to_goal")
    return f"{rates.get('success', 0.0):.1%}", f"{fell:.1%}", f"{rates.get('timed_out', 0.0):.1%}", number(goal, ".2f")


def _success(policy: PlayedPolicy) -> float:
    return max(((seen.get("rates") or {}).get("success", 0.0) for seen in policy.played.values()), default=-1.0)
