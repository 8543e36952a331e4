"""A screen of text: which lines find room, and what a terminal without Unicode is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.segment import Segment
from rich.text import Text

FINISHED_SHOWN = 10
_FINISHED_WANTED = 3
"""Finished trials for which other things are left out first."""
_ASCII = str.maketrans("━┄─·…→▁▂▃▄▅▆▇█", "=.--~>__--==##") | {ord("°"): ""}


def bar(share: float, width: int) -> Text:
    """Return a bar and a percentage that read the same with and without colours."""
    filled = int(share * width)
    return Text.assemble(("━" * filled, "green"), ("┄" * (width - filled), "bright_black"), f" {share:4.0%}")


class Screen:
    """Lines that are made for the width they are drawn in, in ASCII where the terminal knows nothing else."""

    def __init__(self, build: Callable[[int], Sequence[Text]]) -> None:
        self._build = build

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        lines = Group(*self._build(options.max_width))
        if not options.ascii_only:
            yield lines
            return
        for segment in console.render(lines, options):
            yield Segment(as_ascii(segment.text), segment.style, segment.control)


def as_ascii(text: str) -> str:
    """Return a text in ASCII: lines, dots and curves in letters that look alike, the rest as question marks."""
    return text.translate(_ASCII).encode("ascii", "replace").decode()


@dataclass(frozen=True)
class Room:
    """What is shown."""

    slots: bool
    """The table of slots."""
    details: bool
    """A second line for each unfinished trial."""
    unfinished: int
    """Trials that run or wait."""
    finished: int


def fit(height: int | None, *, fixed: int, slots: int, unfinished: int, finished: int) -> Room:
    """Return what finds room on a screen.

    The list of finished trials shrinks first, then the second lines go, then the slots, then the finished trials, and
    at last as many unfinished ones as there is no room for.

    Args:
        height: Lines of the screen; None where it has no end.
        fixed: Lines of what is always shown.
        slots: How many there are.
        unfinished: Trials that run or wait.
        finished: Trials that have ended.
    """
    most = min(finished, FINISHED_SHOWN)
    if height is None:
        return Room(slots > 0, True, unfinished, most)
    for details, with_slots in ((True, True), (False, True), (True, False), (False, False)):
        used = fixed + _table(slots if with_slots else 0) + _table(unfinished * (2 if details else 1))
        left = height - used - 3  # an empty line, the titles, and how many are not shown
        if left >= min(_FINISHED_WANTED, most):
            return Room(with_slots and slots > 0, details, unfinished, min(most, left))
    for details in (True, False):
        if fixed + _table(unfinished * (2 if details else 1)) + 1 <= height:
            return Room(False, details, unfinished, 0)
    return Room(False, False, max(height - fixed - 4, 1), 0)


def _table(rows: int) -> int:
    """Return the lines of a table with its titles and an empty line before it; one without rows is left out."""
    return rows + 2 if rows else 0
