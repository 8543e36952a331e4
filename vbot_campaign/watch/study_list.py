"""All studies of a runs folder."""

from __future__ import annotations

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from vbot_campaign.exporters import plain_yaml
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.reading import read_names, read_snapshot
from vbot_campaign.watch import units
from vbot_campaign.watch.facts import by_state
from vbot_campaign.watch.program import program


def list_studies(paths: CampaignPaths) -> RenderableType:
    """Return one line per study: state, trials, best score, hours."""
    names = read_names(paths)
    if not names:
        return Text(f"No studies in {paths.root.as_posix()}. Start one: {program()} run studies/quickstart.yaml")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in ("study", "state", "trials", "best", "hours", "created"):
        table.add_column(column, justify="right" if column in ("best", "hours") else "left")
    for name in names:
        snapshot = read_snapshot(paths, name)
        best = snapshot.best
        table.add_row(
            name,
            snapshot.state,
            by_state(snapshot.trials),
            units.score(best.score if best else None),
            f"{snapshot.hours_used:.2f}",
            plain_yaml.utc(snapshot.created)[:10],
        )
    return table
