"""List a study's alerts, and try whether messages arrive."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from vbot_campaign.cli.app import app, campaign_paths
from vbot_campaign.errors import SpecError


@app.command()
def alerts(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Study; the only one if left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    test: Annotated[
        bool, typer.Option("--test", help="Send a test message to the addresses in VBOT_CAMPAIGN_NOTIFY.")
    ] = False,
) -> None:
    """List what a study told about: hangs, collapses, full disks and GPUs, with what to do."""
    from rich.console import Console

    from vbot_campaign.study import load_snapshot
    from vbot_campaign.watch.alert_lines import render_alerts

    if test:
        from vbot_campaign.supervisor.notify import send_test

        sent = send_test()
        typer.echo(f"sent a test message to {sent} address{'es' if sent > 1 else ''}")
        return
    study = name or _only_study()
    found = load_snapshot(campaign_paths(), study).alerts
    if as_json:
        typer.echo(json.dumps([asdict(alert) for alert in found], indent=2))
    else:
        typer.echo(render_alerts(study, found, width=Console().width))


def _only_study() -> str:
    from vbot_campaign.study import study_names

    names = study_names(campaign_paths())
    if len(names) != 1:
        raise SpecError(f"alerts: name a study. There are: {', '.join(names) or 'none yet'}.")
    return names[0]
