"""The command line: parse, call, print. Heavy imports happen inside the commands that need them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from vbot_campaign import __version__
from vbot_campaign.errors import CampaignError, SpecError
from vbot_campaign.paths import RUNS_VARIABLE, CampaignPaths, runs_folder

app = typer.Typer(
    name="vbot-campaign",
    help="Hyperparameter studies for training the VBot quadruped: start, watch, stop, resume, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StudyName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the study.")]
StudyFile = Annotated[Path, typer.Argument(metavar="FILE", help="Study file, such as studies/quickstart.yaml.")]

_DEFAULT_ENVIRONMENT = "vbot_navigation_section001"
_verbose = False


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vbot-campaign {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    runs: Annotated[
        Path | None,
        typer.Option(help=f"Folder of all runs (default: ${RUNS_VARIABLE}, or ./runs).", show_default=False),
    ] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    global _verbose
    _verbose = verbose
    if runs is not None:
        os.environ[RUNS_VARIABLE] = str(runs)


def _paths() -> CampaignPaths:
    root = runs_folder()
    if root.exists() and not root.is_dir():
        raise SpecError(f"{root}: is a file; --runs and ${RUNS_VARIABLE} name the folder of all runs.")
    return CampaignPaths(root)


def main() -> None:
    """Run the command line; errors a person can put right are one line and exit code 2."""
    try:
        app()
    except CampaignError as error:
        _complain(error, str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is None:
            raise
        _complain(error, f"{error.filename}: {error.strerror}. Check that it is there, writable and has space left.")
        sys.exit(CampaignError.exit_code)


def _complain(error: Exception, message: str) -> None:
    if _verbose:
        raise error
    for line in message.splitlines():
        typer.echo(f"error: {line}", err=True)


@app.command()
def run(file: StudyFile) -> None:
    """Start a study, or continue it when it is there already. Ctrl-C stops it so that it can be resumed."""
    from vbot_campaign.spec.loading import load_study
    from vbot_campaign.supervisor import run_study

    spec = load_study(file)
    _supervise(spec.study, lambda **options: run_study(_paths(), spec, **options))


@app.command()
def resume(name: StudyName) -> None:
    """Continue a study by name after a stop, a crash or a power cut."""
    from vbot_campaign.supervisor import plan_resume, resume_study

    for line in plan_resume(_paths(), name).lines:
        typer.echo(line)
    _supervise(name, lambda **options: resume_study(_paths(), name, **options))


def _supervise(name: str, start: Any) -> None:
    from vbot_campaign.exporters.mirrors import MirrorExporter
    from vbot_campaign.study import load_snapshot
    from vbot_campaign.watch.progress_lines import ProgressLines
    from vbot_campaign.watch.summary import best_summary

    paths = _paths()
    with ProgressLines(paths) as lines:
        outcome = start(observers=(MirrorExporter(paths, name), lines))
    typer.echo()
    typer.echo(best_summary(paths, load_snapshot(paths, name)))
    raise typer.Exit(outcome.exit_code)


@app.command()
def stop(name: StudyName) -> None:
    """Ask the supervisor of a running study to stop: workers write a checkpoint first."""
    from vbot_campaign.supervisor import request_study_stop

    request_study_stop(_paths(), name)
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

    paths = _paths()
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

    Console().print(list_studies(_paths()))


@app.command()
def check(file: StudyFile) -> None:
    """Validate a study file and show what it would run."""
    from vbot_campaign.spec.describe import describe, render
    from vbot_campaign.spec.loading import load_study
    from vbot_campaign.supervisor.slots import discover_slots
    from vbot_campaign.watch.speed import expected_speed

    spec = load_study(file)
    slots = discover_slots(spec.workers)
    plan = describe(spec, slots=len(slots), env_steps_per_s=expected_speed(_paths(), spec, slots))
    typer.echo(render(plan))


@app.command()
def train(
    context: typer.Context,
    env: Annotated[str, typer.Option(help="Environment.")] = _DEFAULT_ENVIRONMENT,
    env_steps: Annotated[str, typer.Option(help="Budget in env steps, such as 16_000_000 or 16M.")] = "16_000_000",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="GROUP.NAME=VALUE", help="ppo.*, reward.* or env.* setting.")
    ] = None,
    num_envs: Annotated[int | None, typer.Option(help="Parallel environments.")] = None,
    seed: Annotated[int | None, typer.Option(help="Training seed.")] = None,
    physics: Annotated[str | None, typer.Option(help="Physics engine.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Start from this checkpoint's networks.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:0.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Threads (default: one per core).", min=1, max=256)] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Continue this run's folder exactly.")] = None,
) -> None:
    """Train once, without a study. Ctrl-C writes a checkpoint; --resume RUN goes on exactly there."""
    from vbot_campaign.spec.counts import parse_count
    from vbot_campaign.spec.loading import build_training
    from vbot_campaign.worker import single

    _refuse_changes_to_resumed(context)
    threads = threads or single.available_cores()
    single.prepare_threads(threads)
    if resume is not None:
        folder = single.next_attempt(resume)
    else:
        training = build_training(
            env, parse_count("--env-steps", env_steps), settings or [], num_envs=num_envs, seed=seed, physics=physics
        )
        folder = single.new_run(
            _paths(), training, device=single.choose_device(device), threads=threads, warm_start=checkpoint
        )
    raise typer.Exit(_train_with_bar(folder.root))


def _refuse_changes_to_resumed(context: typer.Context) -> None:
    sources = {option.opts[0]: context.get_parameter_source(str(option.name)) for option in context.command.params}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if "--resume" in given and len(given) > 1:
        others = ", ".join(name for name in given if name != "--resume")
        raise SpecError(
            f"{others}: --resume goes on with the settings of the run. Leave the others out, or start a new run."
        )


def _train_with_bar(folder: Path) -> int:
    from vbot_campaign.watch.training_bar import TrainingBar, training_summary
    from vbot_campaign.worker.attempt import run_attempt

    with TrainingBar(folder) as bar:
        code = run_attempt(folder, on_progress=bar.update)
    typer.echo(training_summary(folder))
    return code


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .pt file, or a run's folder.")],
    episodes: Annotated[
        int | None, typer.Option(help="Episodes (default: as in training).", min=1, max=100_000)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of spawns and targets (default: as in training).", min=0)
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Physics threads (default: one per core).", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Play a policy without noise and print how its episodes end."""
    from vbot_campaign.watch.outcome_table import evaluation_json, outcome_table
    from vbot_campaign.worker import single

    cores = single.available_cores()
    single.prepare_threads(1)
    from vbot_campaign.worker.evaluation import evaluate_checkpoint, find_checkpoint, training_of

    path = find_checkpoint(checkpoint)
    training = training_of(path)
    done = evaluate_checkpoint(path, training=training, threads=threads or cores, episodes=episodes, seed=seed)
    seed = training.evaluation.seed if seed is None else seed
    if as_json:
        typer.echo(json.dumps(evaluation_json(path, done.env_steps, done.episodes, done.score, seed), indent=2))
    else:
        typer.echo(outcome_table(path, done.env_steps, done.episodes, done.score, seed))


@app.command()
def dashboard(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; the next free one is taken if it is in use.")] = 8080,
    token: Annotated[str | None, typer.Option(help="Secret that each request must carry.")] = None,
    allow_edit: Annotated[bool, typer.Option("--allow-edit", help="Let the page change studies.")] = False,
) -> None:
    """Serve optuna-dashboard for all studies, read-only."""
    from vbot_campaign.watch import dashboard as page

    def ready(address: Any) -> None:
        secret = f"?token={quote(token, safe='')}" if token else ""
        typer.echo(f"Dashboard: {address.url}{secret}  (Ctrl-C ends it)")
        if address.note:
            typer.echo(address.note)

    page.serve(_paths(), host=host, port=port, token=token, allow_edit=allow_edit, ready=ready)


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

    raise typer.Exit(board.serve(_paths(), name, port=port, ready=ready))


@app.command()
def verify(name: StudyName) -> None:
    """Compare database, mirrors and disk; exit code 1 when they differ."""
    from vbot_campaign.exporters.verify import render_differences
    from vbot_campaign.exporters.verify import verify as find_differences

    differences = find_differences(_paths(), name)
    typer.echo(render_differences(name, differences))
    raise typer.Exit(1 if differences else 0)


@app.command()
def export(name: StudyName) -> None:
    """Write a study's mirrors again from the database."""
    from vbot_campaign.exporters.mirrors import export_all

    written = export_all(_paths(), name)
    typer.echo(f"{len(written)} files written to {_paths().study(name).root}")


if __name__ == "__main__":
    main()
