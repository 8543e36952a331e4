"""Where studies are kept: move them between files and servers."""

from __future__ import annotations

from typing import Annotated

import typer

from vbot_campaign.cli.app import app

storage_app = typer.Typer(help="Copy studies between runs folders and PostgreSQL servers.", no_args_is_help=True)
app.add_typer(storage_app, name="storage")

Place = "A runs folder, an SQLite file, or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE."


@storage_app.command("copy")
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help=Place)],
    target: Annotated[str, typer.Argument(metavar="TO", help=Place)],
    study: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this one, and no campaigns; may be repeated.")
    ] = None,
) -> None:
    """Copy studies and campaigns from one database to another and compare them; the source stays as it is."""
    from vbot_campaign.study.copying import copy_studies

    copied = copy_studies(source, target, study)
    for name, trials in copied.studies.items():
        typer.echo(f"copied study {name}: {trials} trials, compared: the same")
    for name in copied.campaigns:
        typer.echo(f"copied campaign {name}, compared: the same")
    typer.echo(f"from {copied.source} to {copied.target}; the files of the trials stay where they are")
