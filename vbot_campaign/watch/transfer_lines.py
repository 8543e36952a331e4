"""What became of points that were put into a queue: ``vbot-campaign enqueue``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vbot_campaign.campaign.transfer import Enqueued
from vbot_campaign.spec.problems import show
from vbot_campaign.study.transfer_points import Fitted
from vbot_campaign.watch.page import Block, Commands, Paragraph, Points, Title
from vbot_campaign.watch.program import program

_NAMED = 8
"""Values that are listed before the rest is only counted."""


def enqueued_page(done: Enqueued) -> list[Block]:
    """Return what was queued, with every value that was changed or left out, and what follows."""
    spec = done.snapshot.spec
    queued = [point for point in done.points if not point.refused]
    count = f"{len(queued)} of {len(done.points)} point{'s' if len(done.points) != 1 else ''}"
    blocks: list[Block] = [Title(f"{count} queued for {spec.study}")]
    for point in done.points:
        blocks += _point(point)
    return [*blocks, *_outlook(done, bool(queued))]


def _point(point: Fitted) -> list[Block]:
    if point.refused:
        return [Title(f"{point.origin}: left out"), Points(point.refused)]
    return [Title(f"{point.origin}: queued"), Points(tuple(_facts(point)))]


def _facts(point: Fitted) -> Iterator[str]:
    taken = {name: value for name, value in point.parameters.items() if name not in point.priors}
    yield from [values_line(taken)] if taken else []
    if point.clipped:
        yield f"moved into the range: {', '.join(point.clipped)}"
    if point.priors:
        yield f"at the prior: {values_line({name: point.parameters[name] for name in point.priors})}"
    if point.left_out:
        yield f"left out: {_some(point.left_out)}"
    if point.as_here:
        yield f"{point.as_here} more as the study has them"


def values_line(values: Mapping[str, Any]) -> str:
    """Return ``ppo.learning_rate 0.0003, reward.arrival_bonus 80``."""
    return ", ".join(f"{name} {f'{v:.4g}' if isinstance(v, float) else show(v)}" for name, v in values.items())


def _some(words: Sequence[str]) -> str:
    more = f", and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return ", ".join(words[:_NAMED]) + more


def _outlook(done: Enqueued, any_queued: bool) -> list[Block]:
    snapshot = done.snapshot
    name, budget = snapshot.spec.study, snapshot.spec.budget
    if not any_queued:
        return []
    left = None if budget.trials is None else budget.trials - len(snapshot.trials)
    if left is not None and left < done.waiting:
        need = done.waiting - max(left, 0)
        text = f"{done.waiting} wait in the queue, and the budget has room for {max(left, 0)} more trials. Raise it:"
        return [Paragraph(text), Commands((f"{program()} resume {name} --trials +{need}",))]
    if snapshot.supervisor is not None:
        return [Paragraph("The supervisor that is at work takes them next.")]
    return [Paragraph("They are the next trials:"), Commands((f"{program()} resume {name}",))]
