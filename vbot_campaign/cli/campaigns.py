"""Campaigns of several stages: plan, run, resume, watch, stop."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vbot_campaign.cli.app import (
    AddressOption,
    LauncherOption,
    app,
    campaign_paths,
    choose_launcher,
    launcher_options,
)

if TYPE_CHECKING:
    from vbot_campaign.campaign.runner import CampaignOutcome
    from vbot_campaign.paths import CampaignPaths
    from vbot_campaign.spec.plan import PlanSpec

campaign_app = typer.Typer(help="Run a plan of several stages: search, train, gate, next stage.", no_args_is_help=True)
app.add_typer(campaign_app, name="campaign")

PlanFile = Annotated[
    Path, typer.Argument(metavar="PLAN", help="Plan file, such as studies/curriculum_section001.yaml.")
]
CampaignName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the campaign.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@campaign_app.command()
def run(file: PlanFile, launcher: LauncherOption = None, address: AddressOption = None) -> None:
    """Start a campaign, or continue it when it is there already. Ctrl-C stops it so that it can be resumed."""
    from vbot_campaign.spec.loading import load_plan

    choose_launcher(launcher, address)
    raise typer.Exit(run_plan(campaign_paths(), load_plan(file), file.parent))


@campaign_app.command()
def resume(
    name: CampaignName,
    budget_hours: Annotated[
        str | None, typer.Option(metavar="HOURS", help="New total of its hours, or what is added, such as +4.")
    ] = None,
    launcher: LauncherOption = None,
    address: AddressOption = None,
) -> None:
    """Continue a campaign by name after a stop, a crash, a power cut or the end of its budget."""
    from vbot_campaign.campaign.runner import resume_campaign

    choose_launcher(launcher, address)
    paths = campaign_paths()
    with _mirrored(paths, name) as options:
        outcome = resume_campaign(paths, name, budget_hours=budget_hours, **options)
    raise typer.Exit(_shown(paths, name, outcome))


@campaign_app.command()
def stop(name: CampaignName) -> None:
    """Ask whoever runs a campaign to stop it: workers write a checkpoint first."""
    from vbot_campaign.campaign.plans import stop_campaign

    stop_campaign(campaign_paths(), name)
    typer.echo(f"Asked campaign {name} to stop. Its workers write a checkpoint first; see: campaign status {name}")


@campaign_app.command()
def status(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Campaign; all in a list if left out and not the only one.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a campaign: its stages, their gates, what they cost and where their policies are."""
    from rich.console import Console

    from vbot_campaign.campaign.view import read_campaign
    from vbot_campaign.exporters.campaign_state import campaign_values
    from vbot_campaign.study.plans import load_plan_record, plan_names
    from vbot_campaign.watch.campaign_table import campaign_list, campaign_table

    paths = campaign_paths()
    names = plan_names(paths)
    if name is None and len(names) != 1:
        Console().print(campaign_list(paths, [load_plan_record(paths, one) for one in names]))
        return
    view = read_campaign(paths, name or names[0])
    if as_json:
        typer.echo(json.dumps(campaign_values(view), indent=2))
    else:
        Console().print(campaign_table(paths, view))


@campaign_app.command()
def plan(
    file: PlanFile,
    probe: Annotated[bool, typer.Option("--probe", help="Train for two minutes first to measure the speed.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what a plan would cost: env steps, time and disk of each stage, with an interval. Starts nothing."""
    from dataclasses import asdict

    from rich.console import Console

    from vbot_campaign.campaign.forecast import forecast
    from vbot_campaign.campaign.plans import check_plan
    from vbot_campaign.campaign.probe import probe as measure
    from vbot_campaign.spec.describe_files import render_plan
    from vbot_campaign.spec.loading import load_plan
    from vbot_campaign.supervisor.slots import discover_slots
    from vbot_campaign.watch.campaign_table import forecast_table

    spec, paths = load_plan(file), campaign_paths()
    check_plan(paths, spec, file.parent)
    slots = discover_slots(spec.workers)
    made = forecast(paths, spec, slots, probed=measure(spec, slots) if probe else ())
    if as_json:
        values = {**asdict(made), "env_steps": asdict(made.env_steps), "hours": asdict(made.hours)}
        values |= {"slot_hours": asdict(made.slot_hours), "disk_gb": asdict(made.disk_gb)}
        typer.echo(json.dumps({"schema_version": 1, "campaign": spec.plan, **values}, indent=2))
        return
    typer.echo(render_plan(spec))
    typer.echo()
    Console().print(forecast_table(made))


def run_plan(paths: CampaignPaths, plan: PlanSpec, folder: Path) -> int:
    """Run a plan, or continue it; show how its stages stand in the end and return the exit code.

    Args:
        paths: The runs folder.
        plan: The plan.
        folder: Folder of its file, which relative paths in it start from.
    """
    from vbot_campaign.campaign.runner import run_campaign

    with _mirrored(paths, plan.plan) as options:
        outcome = run_campaign(paths, plan, folder=folder, **options)
    return _shown(paths, plan.plan, outcome)


@contextlib.contextmanager
def _mirrored(paths: CampaignPaths, name: str) -> Iterator[dict[str, Any]]:
    """Yield the options by which a campaign is watched: its mirror, its steps in words, and its studies."""
    from vbot_campaign.cli.studies import observers_of
    from vbot_campaign.exporters.campaign_state import CampaignMirror
    from vbot_campaign.study.plans import plan_names

    mirror = CampaignMirror(paths, name)
    options = launcher_options()
    try:
        yield {"observers_of": observers_of, "say": typer.echo, "on_change": mirror.update, **options}
    finally:
        # Nothing was stored where the plan was refused.
        if name in plan_names(paths):
            mirror.write()


def _shown(paths: CampaignPaths, name: str, outcome: CampaignOutcome) -> int:
    from rich.console import Console

    from vbot_campaign.campaign.view import read_campaign
    from vbot_campaign.watch.campaign_table import campaign_table

    typer.echo()
    Console().print(campaign_table(paths, read_campaign(paths, name)))
    return outcome.exit_code
