"""How the best trials of a study did on fresh seeds, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vbot_campaign.campaign.confirm import Candidate, Confirmed
from vbot_campaign.watch import units
from vbot_campaign.watch.page import Block, Commands, Heading, Paragraph, Points, Table, Title
from vbot_campaign.watch.program import program

SIDE_BY_SIDE = 6
"""Candidates in one table of seeds."""


def confirm_page(found: Confirmed) -> list[Block]:
    """Return the candidates with their intervals, the scores of all seeds, and the winner."""
    count = len(found.seeds)
    blocks: list[Block] = [
        Title(f"{found.study} · confirmation {found.state}{f' ({found.reason})' if found.reason else ''}"),
        Paragraph(
            f"the best {len(found.candidates)} trials on {count} fresh seed{'s' if count > 1 else ''}, "
            f"{units.count(found.env_steps)} env steps each, evaluated with seed {found.evaluation_seed}"
        ),
        Heading("Candidates"),
        Table(("trial", "search", "seeds", "IQM", "low", "high", "standing"), _rows(found), wraps=6),
    ]
    left = tuple(f"trial {one.trial} left the race: {one.dropped}" for one in found.candidates if one.dropped)
    blocks += [Points(left)] if left else []
    return [*blocks, Heading("Seeds"), *_seeds(found), *_end(found)]


def confirmed_line(found: Confirmed) -> str:
    """Say in one line how a confirmation ended."""
    winner = next((one for one in found.candidates if one.trial == found.winner), None)
    if winner is None or winner.interval is None:
        return f"confirmation {found.state}, no winner yet"
    return (
        f"Confirmed: trial {winner.trial}, IQM {winner.interval} (95 %) over {len(found.seeds)} fresh seeds, "
        f"{units.score(winner.tuned)} in the search"
    )


def _rows(found: Confirmed) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            str(one.trial),
            units.score(one.tuned),
            str(sum(score is not None for score in one.scores)),
            *_interval(one),
            _standing(found, one),
        )
        for one in found.candidates
    )


def _interval(one: Candidate) -> tuple[str, str, str]:
    if one.interval is None:
        return (units.NOTHING,) * 3
    return units.score(one.interval.iqm), units.score(one.interval.low), units.score(one.interval.high)


def _standing(found: Confirmed, one: Candidate) -> str:
    if one.dropped:
        return "left the race"
    if found.winner is None:
        return "in the race"
    return "wins: highest low end" if one.trial == found.winner else "stayed to the end"


def _seeds(found: Confirmed) -> Iterator[Block]:
    for first in range(0, len(found.candidates), SIDE_BY_SIDE):
        yield _seed_table(found.seeds, found.candidates[first : first + SIDE_BY_SIDE])


def _seed_table(seeds: Sequence[int], candidates: Sequence[Candidate]) -> Table:
    titles = ("seed", *(f"trial {one.trial}" for one in candidates))
    rows = [(str(seed), *(units.score(one.scores[i]) for one in candidates)) for i, seed in enumerate(seeds)]
    return Table(titles, tuple(rows))


def _end(found: Confirmed) -> Iterator[Block]:
    if found.winner is None:
        yield Paragraph("Go on with:")
        yield Commands((f"{program()} confirm {found.study}",))
        return
    yield Heading("Use it")
    yield Commands(
        (
            f"{program()} show {found.study} {found.winner}",
            f"{program()} extend {found.study} --trials {found.winner} --env-steps {found.env_steps * 3}",
        )
    )
