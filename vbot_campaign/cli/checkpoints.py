"""Checkpoints: keep fewer of a study's, bring in those of other programs, take ours out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vbot_campaign.cli.app import DEFAULT_ENVIRONMENT, StudyName, app, campaign_paths
from vbot_campaign.errors import SpecError

checkpoints_app = typer.Typer(
    help="Thin out a study's checkpoints; bring policies in from other programs, and take them out.",
    no_args_is_help=True,
)
app.add_typer(checkpoints_app, name="checkpoints")

Source = Annotated[Path, typer.Argument(metavar="FILE", help="A .pt file of skrl, rsl_rl or this program.")]


@checkpoints_app.command("prune")
def prune_command(
    name: StudyName,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    keep_last: Annotated[
        int | None,
        typer.Option(min=0, help="Points to continue from that an ended trial keeps, whatever the disk budget."),
    ] = None,
) -> None:
    """Remove checkpoints of ended trials until the study is within its disk budget."""
    from vbot_campaign.exporters.mirrors import export_all
    from vbot_campaign.supervisor.prune import prune_checkpoints, render_pruned

    pruned = prune_checkpoints(campaign_paths(), name, keep_last=keep_last, dry_run=dry_run)
    typer.echo(render_pruned(pruned))
    if pruned.done and pruned.removals:
        export_all(campaign_paths(), name)


@checkpoints_app.command("import")
def import_command(
    file: Source,
    out: Annotated[Path | None, typer.Option(help="File to write.")] = None,
    study: Annotated[str | None, typer.Option(metavar="NAME", help="Put it among this study's files.")] = None,
    env: Annotated[str, typer.Option(help="Environment that the policy must fit.")] = DEFAULT_ENVIRONMENT,
) -> None:
    """Convert a policy that skrl or rsl_rl trained; nothing in the file is executed."""
    from vbot_campaign.rl import importers

    if (out is None) == (study is None):
        raise SpecError("checkpoints import: give either --out FILE.pt or --study NAME.")
    if out is not None:
        imported = importers.import_checkpoint(file, out, env)
    else:
        imported = importers.import_into_study(file, campaign_paths().study(str(study)), env)
    typer.echo(importers.describe(imported))


@checkpoints_app.command("export")
def export_command(
    file: Source,
    form: Annotated[str, typer.Option("--format", help="skrl, torchscript or onnx.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write the policy and its manifest to.")],
    env: Annotated[str, typer.Option(help="Environment that the policy must fit.")] = DEFAULT_ENVIRONMENT,
) -> None:
    """Write a policy for other programs, with a manifest of all they must know."""
    from vbot_campaign.rl.export import export_policy

    for path in export_policy(file, form, out, env):
        typer.echo(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
