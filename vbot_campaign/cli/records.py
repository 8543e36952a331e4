"""Keep the record of a study whole: verify it, write its mirrors again."""

from __future__ import annotations

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
    """Write a study's mirrors again from the database."""
    from vbot_campaign.exporters.mirrors import export_all

    written = export_all(campaign_paths(), name)
    typer.echo(f"{len(written)} files written to {campaign_paths().study(name).root}")
