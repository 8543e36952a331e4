"""The queue of studies and plans, and the service that runs them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from vbot_campaign.cli.app import app, campaign_paths
from vbot_campaign.cli.pages import TOKEN_VARIABLE

AnyStudy = Annotated[Path, typer.Argument(metavar="FILE", help="Study or plan file, such as studies/quickstart.yaml.")]
QueuedName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the study or plan.")]


@app.command()
def submit(
    file: AnyStudy,
    priority: Annotated[int, typer.Option(help="The highest goes first; among equals the oldest.")] = 0,
) -> None:
    """Put a study or a plan into the queue that `serve` works off. It is checked as if it were started now."""
    from vbot_campaign.service.lock import is_served
    from vbot_campaign.service.readings import queue_lines
    from vbot_campaign.service.submit import check_file
    from vbot_campaign.service.submit import submit as put
    from vbot_campaign.study.submissions import opened

    paths = campaign_paths()
    checked = check_file(paths, file)
    with opened(paths) as queue:
        one = put(paths, queue, checked, priority=priority)
        places = {line.name: line.position for line in queue_lines(queue.open())}
    place = places.get(one.name)
    typer.echo(f"{one.kind} {one.name}: in the queue{f', place {place}' if place is not None else ''}.")
    if not is_served(paths):
        typer.echo("No service is at work on this runs folder; start one: vbot-campaign serve")


@app.command("queue")
def queue_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Show what runs, what waits in its order, and what has ended."""
    from rich.console import Console

    from vbot_campaign.service.lock import is_served
    from vbot_campaign.service.queue_table import queue_table
    from vbot_campaign.service.readings import queue_json
    from vbot_campaign.study.submissions import read_submissions

    paths = campaign_paths()
    found = read_submissions(paths)
    if as_json:
        typer.echo(json.dumps(queue_json(found), indent=2))
    else:
        Console().print(queue_table(found, served=is_served(paths)))


@app.command()
def cancel(name: QueuedName) -> None:
    """Take a study or plan out of the queue; one that runs is stopped with checkpoints."""
    from vbot_campaign.service.lock import is_served
    from vbot_campaign.service.submit import cancel as take_out
    from vbot_campaign.study.submissions import opened

    paths = campaign_paths()
    with opened(paths) as queue:
        typer.echo(take_out(paths, queue, name, served=lambda: is_served(paths)))


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address that the service's pages listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the pages.")] = 8090,
    token: Annotated[
        str | None, typer.Option(help="Secret that each request must carry.", envvar=TOKEN_VARIABLE, show_envvar=True)
    ] = None,
    parallel: Annotated[
        int, typer.Option(help="Studies at the same time, each with its part of GPUs and cores.", min=1, max=64)
    ] = 1,
) -> None:
    """Run what is in the queue, one after the other, until SIGTERM; crashed studies are resumed.

    The first SIGTERM or Ctrl-C stops the running studies with checkpoints: the next `serve` goes on with them.
    """
    from vbot_campaign.service.web import Settings
    from vbot_campaign.service.web import serve as run_service

    def ready(address: Any) -> None:
        _say(f"pages: {address.url}healthz, metrics, api/queue, api/studies")

    run_service(campaign_paths(), Settings(host, port, token, parallel), ready=ready, say=_say)


def _say(line: str) -> None:
    typer.echo(f"{datetime.now(UTC).strftime('%Y-%m-%dT%H:%M:%SZ')} {line}")
