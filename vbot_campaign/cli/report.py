"""Say what came of a study, and whether this machine can run one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vbot_campaign.cli.app import StudyName, app, campaign_paths


@app.command()
def report(
    name: StudyName,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write (default: report.html in the study's folder).")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write Markdown (report.md), without charts.")] = False,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="First play the three best policies in both engines; takes minutes.")
    ] = False,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write what came of a study to one file: verdict, curves, parameters, best policies, failures, cost."""
    from vbot_campaign.exporters import report as reports

    paths = campaign_paths()
    if evaluate:
        reports.evaluate_best(paths, name, say=typer.echo)
    file = reports.write_report(paths, name, output, as_markdown=markdown)
    typer.echo(f"wrote {file} ({file.stat().st_size / 1000:,.0f} kB)")
    if open_:
        typer.launch(file.resolve().as_uri())


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Examine this machine: packages, GPUs, engines, disk, database; exit code 1 when studies cannot run."""
    from vbot_campaign.watch import doctor as examination

    checks = []
    for check in examination.examine(campaign_paths()):
        checks.append(check)
        if not as_json:
            typer.echo(examination.render_check(check))
    typer.echo(
        json.dumps(examination.doctor_json(checks), indent=2) if as_json else f"\n{examination.render_verdict(checks)}"
    )
    raise typer.Exit(0 if examination.is_fit(checks) else 1)
