"""The report of a study: one HTML page, or Markdown, made from the database and the files of the best trials."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from vbot_campaign import fs
from vbot_campaign.exporters.report import html, markdown
from vbot_campaign.exporters.report.data import collect, ranking
from vbot_campaign.exporters.report.evaluations import EVALUATED, evaluate_missing
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import load_snapshot

__all__ = ["evaluate_best", "write_report"]


def write_report(paths: CampaignPaths, name: str, output: Path | None = None, *, as_markdown: bool = False) -> Path:
    """Write the report of a study, running or finished.

    Args:
        paths: The runs folder.
        name: The study.
        output: File to write; by default ``report.html`` or ``report.md`` in the study's folder.
        as_markdown: Write Markdown instead of HTML.

    Returns:
        The file.

    Raises:
        StudyNotFoundError: No study has that name.
        StorageError: The database cannot be read.
    """
    data = collect(paths, load_snapshot(paths, name), datetime.now(UTC))
    folder = paths.study(name)
    file = output or (folder.report_markdown if as_markdown else folder.report)
    fs.write_text(file, markdown.render(data) if as_markdown else html.render(data))
    return file


def evaluate_best(paths: CampaignPaths, name: str, say: Callable[[str], None]) -> None:
    """Play the best policies of a study in both engines, as far as that has not been done before.

    Args:
        paths: The runs folder.
        name: The study.
        say: Prints a line.

    Raises:
        StudyNotFoundError: No study has that name.
    """
    best = ranking(load_snapshot(paths, name))[:EVALUATED]
    if not best:
        say("No trial has a score yet, so there is no policy to play.")
    evaluate_missing(paths.study(name), best, say)
