"""Alerts as text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime

from vbot_campaign.study.snapshot import AlertView, StudySnapshot


def alert_line(alert: AlertView) -> str:
    """Return an alert in one line, without its time and advice."""
    about = "" if alert.trial is None else f"trial {alert.trial}: "
    return f"{alert.level}: {alert.cause}: {about}{alert.message}"


def new_alerts(earlier: StudySnapshot | None, later: StudySnapshot) -> list[AlertView]:
    """Return the alerts that came between two snapshots.

    Args:
        earlier: The last one seen; None at the start, when those of earlier supervisors are no news.
        later: The new one.
    """
    if earlier is not None:
        known = set(earlier.alerts)
        return [alert for alert in later.alerts if alert not in known]
    if later.supervisor is None:
        return []
    return [alert for alert in later.alerts if _time(alert) >= later.supervisor["started"]]


def render_alerts(study: str, alerts: Sequence[AlertView], *, width: int = 80) -> str:
    """Return a list of alerts with what to do about each, the newest last.

    Args:
        study: Its name.
        alerts: What is listed.
        width: Columns.
    """
    if not alerts:
        return f"study {study}: no alerts."
    lines = []
    for alert in alerts:
        about = "" if alert.trial is None else f"  trial {alert.trial}"
        lines.append(f"{_time(alert):%Y-%m-%d %H:%M:%SZ}  {alert.level:<7}  {alert.cause}{about}")
        lines += _wrapped(alert.message, "  ", width)
        lines += _wrapped(alert.advice, "  → ", width) if alert.advice else []
    return "\n".join(lines)


def _wrapped(text: str, head: str, width: int) -> list[str]:
    # A path that is longer than a line stays whole, so that it can be copied.
    return textwrap.wrap(
        text, width, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _time(alert: AlertView) -> datetime:
    time = datetime.fromisoformat(alert.time)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
