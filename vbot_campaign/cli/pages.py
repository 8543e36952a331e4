"""Pages in a browser: the dashboard and TensorBoard."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from vbot_campaign.cli.app import app, campaign_paths

TOKEN_VARIABLE = "VBOT_CAMPAIGN_TOKEN"  # noqa: S105 - the name of it
"""Keeps the token out of the list of processes, which every user of a machine can read."""


Host = Annotated[str, typer.Option(help="Address that the dashboard listens on.")]
Port = Annotated[int, typer.Option(help="Port; the next free one is taken if it is in use.")]
Token = Annotated[
    str | None, typer.Option(help="Secret that each request must carry.", envvar=TOKEN_VARIABLE, show_envvar=True)
]
AllowEdit = Annotated[bool, typer.Option("--allow-edit", help="Let the page change studies.")]


@app.command()
def up(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Study; all runs if left out.")] = None,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    tensorboard_port: Annotated[int, typer.Option(help="Port of TensorBoard, likewise.")] = 6006,
    token: Token = None,
    allow_edit: AllowEdit = False,
) -> None:
    """Serve the dashboard and TensorBoard together, until Ctrl-C."""
    from vbot_campaign.watch import up as both

    def ready(addresses: Any) -> None:
        typer.echo(f"Dashboard:   {addresses.dashboard.url}{_secret(token)}")
        typer.echo(f"TensorBoard: {addresses.tensorboard.url}")
        for address in (addresses.dashboard, addresses.tensorboard):
            if address.note:
                typer.echo(address.note)
        typer.echo("Ctrl-C ends both.")

    both.serve(
        campaign_paths(),
        name,
        host=host,
        port=port,
        tensorboard_port=tensorboard_port,
        token=token,
        allow_edit=allow_edit,
        ready=ready,
        say=lambda line: typer.echo(line, err=True),
    )


def _secret(token: str | None) -> str:
    return f"?token={quote(token, safe='')}" if token else ""


@app.command()
def dashboard(host: Host = "127.0.0.1", port: Port = 8080, token: Token = None, allow_edit: AllowEdit = False) -> None:
    """Serve optuna-dashboard for all studies, read-only."""
    from vbot_campaign.watch import dashboard as page

    def ready(address: Any) -> None:
        typer.echo(f"Dashboard: {address.url}{_secret(token)}  (Ctrl-C ends it)")
        if address.note:
            typer.echo(address.note)

    page.serve(campaign_paths(), host=host, port=port, token=token, allow_edit=allow_edit, ready=ready)


@app.command()
def tensorboard(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Study; all runs if left out.")] = None,
    port: Port = 6006,
) -> None:
    """Serve TensorBoard on a study's curves."""
    from vbot_campaign.watch import tensorboard as board

    def ready(address: Any) -> None:
        typer.echo(f"TensorBoard: {address.url}  (Ctrl-C ends it)")
        if address.note:
            typer.echo(address.note)

    raise typer.Exit(board.serve(campaign_paths(), name, port=port, ready=ready))
