"""Start, continue, stop and watch studies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vbot_campaign.cli.app import NoAuditFlag, StudyFile, StudyName, app, campaign_paths

if TYPE_CHECKING:
    from vbot_campaign.spec.describe import StudyPlan
    from vbot_campaign.spec.study import StudySpec


@app.command()
def run(
    file: StudyFile,
    warm_start: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Start every trial there, whatever the file says.")
    ] = None,
    no_audit: NoAuditFlag = False,
) -> None:
    """Start a study, or continue it when it is there already. Ctrl-C stops it so that it can be resumed."""
    from vbot_campaign.spec.describe import render_warning
    from vbot_campaign.spec.loading import load_study, with_warm_start
    from vbot_campaign.spec.physics import require_engine
    from vbot_campaign.supervisor import run_study
    from vbot_campaign.supervisor.reward_audit import StartAudit
    from vbot_campaign.watch.program import program

    spec = load_study(file)
    if warm_start is not None:
        spec = with_warm_start(spec, warm_start)
    require_engine(spec.physics)
    warnings = [render_warning(warning) for warning in _plan(spec).warnings]
    audit = None if no_audit else StartAudit(f"Whole report: {program()} audit {file}")
    start = partial(run_study, campaign_paths(), spec, folder=file.parent, audit=audit)
    _supervise(spec.study, start, warnings)


@app.command()
def resume(name: StudyName) -> None:
    """Continue a study by name after a stop, a crash or a power cut."""
    from vbot_campaign.supervisor import plan_resume, resume_study

    for line in plan_resume(campaign_paths(), name).lines:
        typer.echo(line)
    _supervise(name, lambda **options: resume_study(campaign_paths(), name, **options))


def _supervise(name: str, start: Any, warnings: Sequence[str] = ()) -> None:
    from vbot_campaign.exporters.mirrors import MirrorExporter
    from vbot_campaign.study import load_snapshot
    from vbot_campaign.study.backup import AutoBackup
    from vbot_campaign.watch.progress_lines import ProgressLines
    from vbot_campaign.watch.summary import best_summary

    paths = campaign_paths()
    with AutoBackup(paths) as backups, ProgressLines(paths, warnings=warnings) as lines:
        outcome = start(observers=(MirrorExporter(paths, name), backups, lines))
    typer.echo()
    typer.echo(best_summary(paths, load_snapshot(paths, name)))
    raise typer.Exit(outcome.exit_code)


@app.command()
def stop(name: StudyName) -> None:
    """Ask the supervisor of a running study to stop: workers write a checkpoint first."""
    from vbot_campaign.supervisor import request_study_stop

    request_study_stop(campaign_paths(), name)
    typer.echo(f"Asked the supervisor of {name} to stop. Its workers write a checkpoint first; see: status {name}")


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Study; the only one if left out.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep the table up to date until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Show a study: trials, scores, budget, slots, best policy."""
    from rich.console import Console

    from vbot_campaign.study import load_snapshot, study_names
    from vbot_campaign.watch.status import list_studies, status_json, status_table, watch_status

    paths = campaign_paths()
    if name is None:
        names = study_names(paths)
        name = names[0] if len(names) == 1 else None
    if name is None:
        Console().print(list_studies(paths))
    elif as_json:
        typer.echo(json.dumps(status_json(paths, load_snapshot(paths, name)), indent=2))
    elif watch:
        watch_status(paths, name)
    else:
        Console().print(status_table(paths, load_snapshot(paths, name)))


@app.command("list")
def list_command() -> None:
    """List all studies."""
    from rich.console import Console

    from vbot_campaign.watch.status import list_studies

    Console().print(list_studies(campaign_paths()))


@app.command()
def check(file: StudyFile) -> None:
    """Validate a study file and show what it would run."""
    from vbot_campaign.spec.describe import render, render_warning
    from vbot_campaign.spec.loading import load_study
    from vbot_campaign.supervisor.warm_start import warm_start_problem

    spec = load_study(file)
    typer.echo(render(_plan(spec)))
    if (problem := warm_start_problem(campaign_paths(), spec, file.parent)) is not None:
        typer.echo(f"\n{render_warning(problem)}")


def _plan(spec: StudySpec) -> StudyPlan:
    from vbot_campaign.spec.describe import describe
    from vbot_campaign.supervisor.slots import discover_slots
    from vbot_campaign.watch.speed import expected_speed

    slots = discover_slots(spec.workers)
    return describe(spec, slots=len(slots), env_steps_per_s=expected_speed(campaign_paths(), spec, slots))
