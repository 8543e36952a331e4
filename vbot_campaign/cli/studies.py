"""Start, continue, stop and watch studies."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vbot_campaign.cli.app import (
    AddressOption,
    LauncherOption,
    NoAuditFlag,
    StudyName,
    app,
    campaign_paths,
    choose_launcher,
    launcher_options,
)
from vbot_campaign.errors import SpecError

if TYPE_CHECKING:
    from vbot_campaign.spec.budget import Total
    from vbot_campaign.supervisor import Observer, Outcome

SharedFlag = Annotated[
    bool, typer.Option("--shared", help="Let supervisors of other runs folders and machines join; PostgreSQL only.")
]
HoursOption = Annotated[
    str | None, typer.Option("--budget-hours", metavar="HOURS", help="Wall time while a supervisor runs.")
]
TrialsOption = Annotated[str | None, typer.Option("--trials", "--hp-trials", metavar="COUNT", help="Trials.")]
GpuHoursOption = Annotated[str | None, typer.Option(metavar="HOURS", help="Time of attempts on GPUs, added up.")]
EnvStepsOption = Annotated[str | None, typer.Option(metavar="COUNT", help="Env steps of all trials, such as 600M.")]


@app.command()
def run(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Study file; a plan for --mode full.")] = None,
    mode: Annotated[
        str | None, typer.Option(metavar="MODE", help="hp-search, reward-search, stage, full or eval.")
    ] = None,
    hours: HoursOption = None,
    trials: TrialsOption = None,
    gpu_hours: GpuHoursOption = None,
    env_steps: EnvStepsOption = None,
    full_env_steps: Annotated[
        str | None, typer.Option(metavar="COUNT", help="With --mode stage: length of the last training, such as 50M.")
    ] = None,
    warm_start: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Start every trial there, whatever the file says.")
    ] = None,
    no_audit: NoAuditFlag = False,
    shared: SharedFlag = False,
    launcher: LauncherOption = None,
    address: AddressOption = None,
) -> None:
    """Start a study, or continue it when it is there already. Ctrl-C stops it so that it can be resumed.

    --mode hp-search and reward-search search that group only; stage searches all, then trains the best trial on.

    --mode full runs a plan; eval plays the best policies of all studies. A mode's study has its own name: NAME.MODE.
    """
    from vbot_campaign.cli import modes

    choose_launcher(launcher, address)
    totals = _totals(hours, trials, gpu_hours, env_steps)
    chosen = modes.Chosen(file, mode, totals, full_env_steps, warm_start, audit=not no_audit)
    raise typer.Exit(modes.run(campaign_paths(), chosen, functools.partial(watched, shared=shared), shared=shared))


@app.command()
def resume(
    name: StudyName,
    hours: HoursOption = None,
    trials: TrialsOption = None,
    gpu_hours: GpuHoursOption = None,
    env_steps: EnvStepsOption = None,
    shared: SharedFlag = False,
    launcher: LauncherOption = None,
    address: AddressOption = None,
) -> None:
    """Continue a study by name after a stop, a crash or a power cut; with a budget: raise it first (+4, or 16).

    Where its search is over, an unfinished confirmation or extension of it goes on.
    """
    from vbot_campaign.cli import phases
    from vbot_campaign.supervisor import plan_resume, raise_budget, resume_study

    choose_launcher(launcher, address)
    totals, confirmed = _totals(hours, trials, gpu_hours, env_steps), phases.confirmed_study(name)
    if confirmed is not None and "trials" in totals:
        raise SpecError(
            f"--trials {trials}: follow from the seeds; give more: vbot-campaign confirm {confirmed} --seeds"
        )
    for line in raise_budget(campaign_paths(), name, totals):
        typer.echo(line)
    if confirmed is not None:
        raise typer.Exit(phases.resume_confirmation(confirmed))
    for line in plan_resume(campaign_paths(), name, shared=shared).lines:
        typer.echo(line)
    outcome = watched(name, lambda **options: resume_study(campaign_paths(), name, **options), shared=shared)
    raise typer.Exit(phases.go_on_after(name, outcome, shared=shared))


def _totals(hours: str | None, trials: str | None, gpu_hours: str | None, env_steps: str | None) -> dict[Total, str]:
    given: dict[Total, str | None] = {
        "hours": hours,
        "trials": trials,
        "gpu_hours": gpu_hours,
        "env_steps": env_steps,
    }
    return {total: text for total, text in given.items() if text is not None}


def watched(name: str, start: Callable[..., Outcome], warnings: Sequence[str] = (), *, shared: bool = False) -> Outcome:
    """Run a supervisor that is watched, and say at its end what came of the study."""
    from vbot_campaign.study import load_snapshot
    from vbot_campaign.watch.summary import best_summary

    paths = campaign_paths()
    with observers_of(name, warnings) as observers:
        outcome = start(observers=observers, **launcher_options(), **({"shared": True} if shared else {}))
    typer.echo()
    typer.echo(best_summary(paths, load_snapshot(paths, name)))
    return outcome


@contextlib.contextmanager
def observers_of(name: str, warnings: Sequence[str] = ()) -> Iterator[Sequence[Observer]]:
    """Yield what watches a study that runs: mirrors, back-ups, the dashboard's notes, the screen, the report."""
    from vbot_campaign.exporters.dashboard import DashboardExporter
    from vbot_campaign.exporters.mirrors import MirrorExporter
    from vbot_campaign.exporters.report.at_end import ReportAtEnd
    from vbot_campaign.study.backup import AutoBackup
    from vbot_campaign.watch.progress_lines import ProgressLines

    paths = campaign_paths()
    lines = ProgressLines(paths, warnings=warnings)
    report = ReportAtEnd(paths, name, say=typer.echo)
    with report, AutoBackup(paths) as backups, DashboardExporter(paths, name) as dashboard, lines:
        yield (MirrorExporter(paths, name), backups, dashboard, lines, report)


@app.command()
def stop(name: StudyName) -> None:
    """Ask the supervisor of a running study to stop: workers write a checkpoint first."""
    from vbot_campaign.cli import phases
    from vbot_campaign.supervisor import request_study_stop

    name = phases.running_part(name)
    request_study_stop(campaign_paths(), name)
    typer.echo(f"Asked the supervisor of {name} to stop. Its workers write a checkpoint first; see: status {name}")


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Study; the only one if left out.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep the screen up to date until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Show a study: budget, slots, running trials, best trials, alerts, what to do next."""
    from rich.console import Console

    from vbot_campaign.study.reading import read_names, read_snapshot

    paths = campaign_paths()
    if name is None:
        names = read_names(paths)
        name = names[0] if len(names) == 1 else None
    if name is None:
        from vbot_campaign.watch.study_list import list_studies

        Console().print(list_studies(paths))
    elif as_json:
        from vbot_campaign.watch.status_json import status_json

        typer.echo(json.dumps(status_json(paths, read_snapshot(paths, name)), indent=2))
    elif watch:
        from vbot_campaign.watch.live import watch_status

        watch_status(paths, name)
    else:
        from vbot_campaign.watch.status import status_table

        Console().print(status_table(paths, read_snapshot(paths, name)))


@app.command("list")
def list_command() -> None:
    """List all studies."""
    from rich.console import Console

    from vbot_campaign.watch.study_list import list_studies

    Console().print(list_studies(campaign_paths()))
