"""The reward library on a screen of 80 columns."""

from __future__ import annotations

import textwrap

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from vbot_campaign.errors import SpecError
from vbot_campaign.exporters.reward_library import entry_names, read_entry
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.describe import WIDTH
from vbot_campaign.spec.describe_files import render_rewards
from vbot_campaign.spec.reward_file import RewardRecord
from vbot_campaign.watch import units
from vbot_campaign.watch.program import program

_RIGHT = ("score", "success", "env steps")


def library_table(paths: CampaignPaths) -> RenderableType:
    """Return one line per entry, the best score first."""
    names = entry_names(paths)
    if not names:
        folder = paths.reward_library.as_posix()
        return Text(f"No entries in {folder}. Keep one: {program()} rewards save NAME --from STUDY:TRIAL")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in ("name", "status", "score", "success", "env steps", "from", "saved"):
        table.add_column(column, justify="right" if column in _RIGHT else "left", overflow="fold")
    rows = [(name, _record(paths, name)) for name in names]
    for name, record in sorted(rows, key=lambda row: -_score(row[1])):
        table.add_row(name, *_cells(record))
    return table


def _record(paths: CampaignPaths, name: str) -> RewardRecord | str:
    try:
        return read_entry(paths, name).record or "has no record"
    except SpecError:  # a file that somebody broke must not hide the others
        return "not valid"


def _score(record: RewardRecord | str) -> float:
    return record.score if isinstance(record, RewardRecord) and record.score is not None else float("-inf")


def _cells(record: RewardRecord | str) -> tuple[str, ...]:
    if isinstance(record, str):
        return (record, "", "", "", "", "")
    success = record.metrics.get("success_rate")
    return (
        record.status,
        units.score(record.score),
        f"{success:.0%}" if success is not None else "-",
        f"{record.env_steps:,}",
        _source(record),
        record.saved[:10],
    )


def _source(record: RewardRecord) -> str:
    return f"{record.study}:{record.trial}" if record.study is not None else "-"


def render_entry(paths: CampaignPaths, name: str) -> str:
    """Return an entry as text: what it achieved, and its weights beside the defaults.

    Raises:
        SpecError: There is no such entry.
    """
    entry = read_entry(paths, name)
    return "\n".join([name, *(_facts(entry.record) if entry.record else []), "", render_rewards(entry)])


def _facts(record: RewardRecord) -> list[str]:
    metrics = ", ".join(f"{part} {value:.4g}" for part, value in record.metrics.items())
    facts = {
        "status": f"{record.status}, saved {record.saved[:10]}",
        "notes": record.notes,
        "from": f"{_source(record)} on {record.physics}, {record.env_steps:,} env steps",
        "score": f"{units.score(record.score)}: {metrics}" if metrics else units.score(record.score),
        "env": ", ".join(f"{setting} = {value}" for setting, value in record.env.items()),
    }
    return [
        line
        for fact, text in facts.items()
        if text
        for line in textwrap.wrap(f"  {fact:<8} {text}", WIDTH, subsequent_indent=" " * 11)
    ]
