"""Keep the record of a study whole: verify it, write its mirrors again, back it up and restore it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vbot_campaign.cli.app import StudyName, app, campaign_paths


@app.command()
def verify(name: StudyName) -> None:
    """Compare database, mirrors and disk; exit code 1 when they differ."""
    from vbot_campaign.exporters.verify import render_differences
    from vbot_campaign.exporters.verify import verify as find_differences

    differences = find_differences(campaign_paths(), name)
    typer.echo(render_differences(name, differences))
    raise typer.Exit(1 if differences else 0)


@app.command()
def export(name: StudyName) -> None:
    """Write a study's or a campaign's mirrors again from the database, and what the dashboard shows of it."""
    from vbot_campaign.exporters.campaign_state import CampaignMirror
    from vbot_campaign.exporters.dashboard import export_dashboard
    from vbot_campaign.exporters.mirrors import export_all
    from vbot_campaign.study.plans import plan_names

    if name in plan_names(campaign_paths()):
        CampaignMirror(campaign_paths(), name).write()
        typer.echo(f"wrote {campaign_paths().plan(name).state}")
        return
    written = export_all(campaign_paths(), name)
    typer.echo(f"{len(written)} files written to {campaign_paths().study(name).root}")
    trials = export_dashboard(campaign_paths(), name)
    typer.echo(f"note, pictures and the files of {trials} trials written for the dashboard")


@app.command()
def backup(
    name: StudyName,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.tar", help="File to write (default: under runs/backups/).")
    ] = None,
) -> None:
    """Write a study to one file: database, mirrors, logs, best policies. A supervisor may be at work."""
    from vbot_campaign.study.archive import write_archive

    file = write_archive(campaign_paths(), name, out)
    typer.echo(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB), checked. Put it back: vbot-campaign restore {file}")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .tar of `backup`, or a .db of runs/backups/auto/.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is there; it is kept under runs/backups/.")
    ] = False,
) -> None:
    """Put a back-up into the runs folder: a study, or the whole database."""
    from vbot_campaign.exporters.dashboard import export_dashboard
    from vbot_campaign.exporters.mirrors import export_all
    from vbot_campaign.study.restore import restore as put_back

    restored = put_back(campaign_paths(), file, force=force)
    if restored.replaced is not None:
        typer.echo(f"what was there is kept as {restored.replaced}")
    for name in restored.studies:
        if restored.created is not None:
            export_all(campaign_paths(), name)
            export_dashboard(campaign_paths(), name)
        typer.echo(f"restored study {name}. Go on: vbot-campaign resume {name}")
