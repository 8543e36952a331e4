"""Proof that nothing is lost."""

from __future__ import annotations

import json
import signal
from typing import Annotated

import typer

from vbot_campaign.cli.app import app


@app.command()
def chaos(
    rounds: Annotated[int, typer.Option(help="Faults, one after the other.", min=1, max=100_000)] = 100,
    seed: Annotated[int, typer.Option(help="Of the faults and their instants.", min=0)] = 1,
    minutes: Annotated[float | None, typer.Option(help="Make no further fault after this time.", min=0.1)] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the studies' folder even if all is well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts; progress goes to stderr.")] = False,
) -> None:
    """Kill, freeze and starve a toy study with real workers, and prove that nothing is lost; exit code 1 if it is."""
    from rich.console import Console

    from vbot_campaign.chaos.report import render_report, report_json
    from vbot_campaign.chaos.runner import Chaos

    # Like Ctrl-C, so that no process is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report = Chaos(rounds, seed, minutes=minutes, keep=keep, say=lambda line: typer.echo(line, err=as_json)).run()
    if as_json:
        typer.echo(json.dumps(report_json(report), indent=2))
    else:
        typer.echo()
        Console().print(render_report(report), soft_wrap=True)
    raise typer.Exit(0 if report.passed else 1)
