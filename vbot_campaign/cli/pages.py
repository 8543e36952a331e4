"""Pages in a browser: the dashboard and TensorBoard."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from vbot_campaign.cli.app import app, campaign_paths

TOKEN_VARIABLE = "VBOT_CAMPAIGN_TOKEN"  # noqa: S105 - the name of it
"""Keeps the token out of the list of processes, which every user of a machine can read."""


@app.command()
def dashboard(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; the next free one is taken if it is in use.")] = 8080,
    token: Annotated[
        str | None,
        typer.Option(help="Secret that each request must carry.", envvar=TOKEN_VARIABLE, show_envvar=True),
    ] = None,
    allow_edit: Annotated[bool, typer.Option("--allow-edit", help="Let the page change studies.")] = False,
) -> None:
    """Serve optuna-dashboard for all studies, read-only."""
    from vbot_campaign.watch import dashboard as page

    def ready(address: Any) -> None:
        secret = f"?token={quote(token, safe='')}" if token else ""
        typer.echo(f"Dashboard: {address.url}{secret}  (Ctrl-C ends it)")
        if address.note:
            typer.echo(address.note)

    page.serve(campaign_paths(), host=host, port=port, token=token, allow_edit=allow_edit, ready=ready)


@app.command()
def tensorboard(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Study; all runs if left out.")] = None,
    port: Annotated[int, typer.Option(help="Port; the next free one is taken if it is in use.")] = 6006,
) -> None:
    """Serve TensorBoard on a study's curves."""
    from vbot_campaign.watch import tensorboard as board

    def ready(address: Any) -> None:
        typer.echo(f"TensorBoard: {address.url}  (Ctrl-C ends it)")
        if address.note:
            typer.echo(address.note)

    raise typer.Exit(board.serve(campaign_paths(), name, port=port, ready=ready))
