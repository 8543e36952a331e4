"""The queue in the terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from vbot_campaign.service.readings import QueueLine, queue_lines
from vbot_campaign.study.submissions import Submission

SHOWN_ENDED = 10
_STYLES = {"running": "green", "failed": "bold red", "cancelled": "bright_black"}


def queue_table(submissions: list[Submission], *, served: bool, now: datetime | None = None) -> RenderableType:
    """Return what runs, what waits in its order, and the newest of what has ended.

    Args:
        submissions: All of them.
        served: Whether a service is at work.
        now: Times of the last day are shown by hour and minute, older ones by their day; all are UTC.
    """
    lines = queue_lines(submissions)
    if not lines:
        return Text("Nothing is in the queue. Put a study or a plan into it: vbot-campaign submit FILE")
    ended = [line for line in lines if line.ended is not None]
    shown = [line for line in lines if line.ended is None] + ended[:SHOWN_ENDED]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in ("#", "name", "kind", "prio", "state", "submitted", "started", "ended", "reason"):
        table.add_column(column, justify="right" if column in ("#", "prio") else "left", overflow="fold")
    now = now or datetime.now(UTC)
    for line in shown:
        table.add_row(*_cells(line, now), style=_STYLES.get(line.state, ""))
    notes = [] if served else ["no service is at work on this runs folder: vbot-campaign serve"]
    notes += [f"{len(ended) - SHOWN_ENDED} more have ended; all are in --json"] if len(ended) > SHOWN_ENDED else []
    if notes:
        table.caption = "\n".join(notes)
        table.caption_justify = "left"
    return table


def _cells(line: QueueLine, now: datetime) -> list[str]:
    times = [_short(time, now) for time in (line.submitted, line.started, line.ended)]
    place = str(line.position) if line.position is not None else ""
    return [place, line.name, line.kind, str(line.priority), line.state, *times, line.reason]


def _short(time: str | None, now: datetime) -> str:
    if time is None:
        return ""
    return time[11:16] if now - datetime.fromisoformat(time) < timedelta(days=1) else time[5:10]
