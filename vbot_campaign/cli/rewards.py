"""The reward library: weights that were kept, with what they achieved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vbot_campaign.cli.app import app, campaign_paths

rewards_app = typer.Typer(help="Keep reward weights with what they achieved, and use them again.", no_args_is_help=True)
app.add_typer(rewards_app, name="rewards")

EntryName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the entry.")]
StatusOption = Annotated[str | None, typer.Option(help="untested, tested, promising, adopted or rejected.")]


@rewards_app.command("list")
def list_entries() -> None:
    """List all entries, the best score first."""
    from rich.console import Console

    from vbot_campaign.watch.reward_library import library_table

    Console().print(library_table(campaign_paths()))


@rewards_app.command()
def show(name: EntryName) -> None:
    """Show an entry: what it achieved, and its weights beside the defaults."""
    from vbot_campaign.watch.reward_library import render_entry

    typer.echo(render_entry(campaign_paths(), name))


@rewards_app.command()
def save(
    name: EntryName,
    source: Annotated[str, typer.Option("--from", metavar="STUDY:TRIAL", help="A trial with a score.")],
    status: StatusOption = None,
    notes: Annotated[str, typer.Option(help="What to remember about it.")] = "",
) -> None:
    """Keep the weights of a trial, with its score, metrics and settings."""
    from vbot_campaign.exporters.reward_library import save_entry

    file = save_entry(campaign_paths(), name, source, status=status, notes=notes)
    typer.echo(f"wrote {file.as_posix()}. Use it in a study, a training or a plan: reward: {{library: {name}}}")


@rewards_app.command()
def use(
    name: EntryName,
    target: Annotated[
        Path | None, typer.Option("--in", metavar="FILE", help="Write a reward file; one that is there stays.")
    ] = None,
) -> None:
    """Print an entry as a reward file, or write it to one that can be edited."""
    from vbot_campaign.exporters.reward_library import copy_entry, entry_text

    if target is None:
        typer.echo(entry_text(campaign_paths(), name), nl=False)
        return
    copy_entry(campaign_paths(), name, target)
    typer.echo(f"wrote {target.as_posix()}. From a file in its folder: reward: {{file: {target.name}}}")


@rewards_app.command("set")
def set_entry(
    name: EntryName,
    status: StatusOption = None,
    notes: Annotated[str | None, typer.Option(help="Notes in place of those it has.")] = None,
) -> None:
    """Change an entry's status or notes."""
    from vbot_campaign.exporters.reward_library import change_entry

    entry = change_entry(campaign_paths(), name, status=status, notes=notes)
    changed = (
        f"{entry.record.status}" + (f": {entry.record.notes}" if entry.record.notes else "") if entry.record else ""
    )
    typer.echo(f"{name} is {changed}")
