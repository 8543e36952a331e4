"""A report as Markdown: the same without the charts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vbot_campaign.exporters.report import tables
from vbot_campaign.exporters.report.data import ReportData
from vbot_campaign.exporters.report.html import POLICIES_LEGEND, objective, policies_note
from vbot_campaign.exporters.report.tables import Table
from vbot_campaign.exporters.report.verdict import Level, judge

_MARKS = {Level.GOOD: "", Level.NOTE: "", Level.CARE: "**Care:** ", Level.BAD: "**Bad:** "}


def render(data: ReportData) -> str:
    """Return the whole file."""
    return "\n".join(_lines(data)).rstrip() + "\n"


def _lines(data: ReportData) -> Iterator[str]:
    verdict, snapshot = judge(data), data.snapshot
    reason = f": {escape(snapshot.reason)}" if snapshot.reason else ""
    yield f"# {escape(snapshot.spec.study)}"
    yield f"\n{escape(snapshot.spec.environment)}, {snapshot.spec.physics}; {snapshot.state}{reason}."
    yield f"\n## {escape(verdict.headline)}"
    if verdict.achieved:
        yield f"\n{escape(verdict.achieved)}."
    yield "\n" + " · ".join(f"**{value}** {what}" for value, what in tables.tiles(data))
    yield f"\n{verdict.trust}\n"
    yield from (f"* {_MARKS[finding.level]}{escape(finding.text)}" for finding in verdict.findings)
    yield f"\nThe score is {escape(objective(data))}."
    yield from _importances(data)
    if data.ranked:
        yield from _titled("Best trials", tables.top(data))
        yield from _titled("Their configurations", tables.configurations(data))
    yield from _policies(data)
    if data.failures:
        yield from _titled("Failures", tables.failures(data))
    if snapshot.alerts:
        yield from _titled("Alerts", tables.alerts(data))
    yield from _titled("Cost", tables.cost(data))
    yield "\n## Do it again\n\n```"
    yield from tables.commands(data)
    yield "```"
    if origin := tables.origin(data):
        yield f"\nTrained with {escape(origin)}."


def _importances(data: ReportData) -> Iterator[str]:
    for method, shares in data.importances.items():
        rows = tuple(tables.Row((name, f"{share:.0%}")) for name, share in shares.items())
        yield from _titled(f"What decides the score ({method})", Table(("parameter", "share"), rows))


def _policies(data: ReportData) -> Iterator[str]:
    if not data.ranked:
        return
    yield "\n## Best policies in both engines"
    if note := policies_note(data):
        yield f"\n{escape(note)}"
    if any(data.played.values()):
        yield ""
        yield from _table(tables.policies(data))
        yield f"\n{escape(POLICIES_LEGEND)}"


def _titled(title: str, table: Table) -> Iterator[str]:
    yield f"\n## {title}\n"
    yield from _table(table)


def _table(table: Table) -> Iterator[str]:
    yield _line(table.columns)
    yield "|" + "|".join(" --- " if i in (0, *table.words) else " ---: " for i in range(len(table.columns))) + "|"
    for row in table.rows:
        if row.group:
            yield _line((f"**{escape(row.cells[0])}**", *[""] * (len(table.columns) - 1)), raw=True)
        else:
            yield _line(row.cells)


def _line(cells: tuple[str, ...], *, raw: bool = False) -> str:
    return "| " + " | ".join(cell if raw else escape(cell) for cell in cells) + " |"


def escape(text: str) -> str:
    """Return a text in which nothing is markup: neither Markdown's nor HTML's."""
    # An underscore inside of a word means nothing to Markdown, and names are full of them.
    return re.sub(r"([\\`*\[\]<>|#&]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))
