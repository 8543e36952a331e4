"""The queue in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from vbot_campaign.service.readings import QueueLine, queue_lines
from vbot_campaign.study.submissions import Submission

SHOWN_ENDED = 10
_STYLES = {"running": "green", "failed": "bold red", "cancelled": "bright_black"}


def queue_table(submissions: list[Submission], *, served: bool) -> RenderableType:
    """Return what runs, what waits in its order, and the newest of what has ended.

    Args:
        submissions: All of them.
        served: Whether a service is at work.
    """
    lines = queue_lines(submissions)
    if not lines:
        return Text("Nothing is in the queue. Put a study or a plan into it: vbot-campaign submit FILE")
    ended = [line for line in lines if line.ended is not None]
    shown = [line for line in lines if line.ended is None] + ended[:SHOWN_ENDED]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in ("#", "name", "kind", "prio", "state", "submitted", "started", "ended", "reason"):
        table.add_column(column, justify="right" if column in ("#", "prio") else "left", overflow="fold")
    for line in shown:
        table.add_row(*_cells(line), style=_STYLES.get(line.state, ""))
    notes = [] if served else ["no service is at work on this runs folder: vbot-campaign serve"]
    notes += [f"{len(ended) - SHOWN_ENDED} more have ended; all are in --json"] if len(ended) > SHOWN_ENDED else []
    if notes:
        table.caption = "\n".join(notes)
        table.caption_justify = "left"
    return table


def _cells(line: QueueLine) -> list[str]:
    times = [_short(time) for time in (line.submitted, line.started, line.ended)]
    place = str(line.position) if line.position is not None else ""
    return [place, line.name, line.kind, str(line.priority), line.state, *times, line.reason]


def _short(time: str | None) -> str:
    """Return ``11-29 06:40`` of a UTC time."""
    return f"{time[5:10]} {time[11:16]}" if time else ""
