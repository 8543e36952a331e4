"""How well a study searches."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from vbot_campaign.cli.app import StudyName, app, campaign_paths


@app.command("audit-pruner")
def audit_pruner(
    name: StudyName, as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False
) -> None:
    """Replay a study's curves under other pruners: env steps saved, and what would have been lost."""
    from rich.console import Console

    from vbot_campaign.study import load_snapshot
    from vbot_campaign.study.pruner_audit import audit_pruners
    from vbot_campaign.watch.pruner_table import pruner_table

    snapshot = load_snapshot(campaign_paths(), name)
    audits = audit_pruners(snapshot)
    if as_json:
        typer.echo(json.dumps([{**asdict(audit), "saved": audit.saved, "regret": audit.regret} for audit in audits]))
    else:
        Console().print(pruner_table(snapshot, audits))
