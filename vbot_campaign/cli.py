"""The command line: parse, call, print. Heavy imports happen inside the commands that need them."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
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

if TYPE_CHECKING:
    from vbot_campaign.spec.describe import StudyPlan
    from vbot_campaign.spec.study import StudySpec

StudyName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the study.")]
StudyFile = Annotated[Path, typer.Argument(metavar="FILE", help="Study file, such as studies/quickstart.yaml.")]

NoAuditFlag = Annotated[bool, typer.Option("--no-audit", help="Do not ask whether something else would pay better.")]

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
    start = partial(run_study, _paths(), spec, folder=file.parent, audit=audit)
    _supervise(spec.study, start, warnings)


@app.command()
def resume(name: StudyName) -> None:
    """Continue a study by name after a stop, a crash or a power cut."""
    from vbot_campaign.supervisor import plan_resume, resume_study

    for line in plan_resume(_paths(), name).lines:
        typer.echo(line)
    _supervise(name, lambda **options: resume_study(_paths(), name, **options))


def _supervise(name: str, start: Any, warnings: Sequence[str] = ()) -> None:
    from vbot_campaign.exporters.mirrors import MirrorExporter
    from vbot_campaign.study import load_snapshot
    from vbot_campaign.watch.progress_lines import ProgressLines
    from vbot_campaign.watch.summary import best_summary

    paths = _paths()
    with ProgressLines(paths, warnings=warnings) as lines:
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
    from vbot_campaign.spec.describe import render, render_warning
    from vbot_campaign.spec.loading import load_study
    from vbot_campaign.supervisor.warm_start import warm_start_problem

    spec = load_study(file)
    typer.echo(render(_plan(spec)))
    if (problem := warm_start_problem(_paths(), spec, file.parent)) is not None:
        typer.echo(f"\n{render_warning(problem)}")


def _plan(spec: StudySpec) -> StudyPlan:
    from vbot_campaign.spec.describe import describe
    from vbot_campaign.supervisor.slots import discover_slots
    from vbot_campaign.watch.speed import expected_speed

    slots = discover_slots(spec.workers)
    return describe(spec, slots=len(slots), env_steps_per_s=expected_speed(_paths(), spec, slots))


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
    physics: Annotated[str | None, typer.Option(help="mujoco, motrixsim, or mujoco+motrixsim.")] = None,
    trainer: Annotated[str | None, typer.Option(help="builtin, skrl, or one of an installed package.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Start from this checkpoint's networks.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:0.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Threads (default: one per core).", min=1, max=256)] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Continue this run's folder exactly.")] = None,
    no_audit: NoAuditFlag = False,
    render: Annotated[bool, typer.Option("--render", help="Show the first robots in MuJoCo's window.")] = False,
) -> None:
    """Train once, without a study. Ctrl-C writes a checkpoint; --resume RUN goes on exactly there."""
    from vbot_campaign.playback.screen import require_screen
    from vbot_campaign.spec.counts import parse_count
    from vbot_campaign.spec.loading import build_training
    from vbot_campaign.spec.physics import require_engine
    from vbot_campaign.worker import single

    _refuse_changes_to_resumed(context)
    if render:
        require_screen()
    threads = threads or single.available_cores()
    single.prepare_threads(threads)
    if resume is not None:
        folder = single.next_attempt(resume)
    else:
        options = {"num_envs": num_envs, "seed": seed, "physics": physics, "trainer": trainer}
        training = build_training(env, parse_count("--env-steps", env_steps), settings or [], **options)
        require_engine(training.physics)
        folder = single.new_run(
            _paths(), training, device=single.choose_device(device), threads=threads, warm_start=checkpoint
        )
        if not no_audit:
            _warn_of_reward(folder.root)
    raise typer.Exit(_train_with_bar(folder.root, render=render))


def _warn_of_reward(folder: Path) -> None:
    from vbot_campaign.envs.vbot.audit import start_warnings
    from vbot_campaign.spec.describe import render_warning
    from vbot_campaign.watch.program import program
    from vbot_campaign.worker.reward_audit import audit_file

    for warning in start_warnings(audit_file(folder)):
        typer.echo(render_warning(f"{warning} Whole report: {program()} audit {folder}"), err=True)


def _refuse_changes_to_resumed(context: typer.Context) -> None:
    sources = {option.opts[0]: context.get_parameter_source(str(option.name)) for option in context.command.params}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    others = ", ".join(name for name in given if name not in ("--resume", "--render", "--no-audit"))
    if "--resume" in given and others:
        raise SpecError(
            f"{others}: --resume goes on with the settings of the run. Leave the others out, or start a new run."
        )


def _train_with_bar(folder: Path, *, render: bool) -> int:
    from vbot_campaign.playback.screen import open_window
    from vbot_campaign.watch.training_bar import TrainingBar, training_summary
    from vbot_campaign.worker.attempt import run_attempt

    with open_window(wanted=render) as watch, TrainingBar(folder) as bar:
        code = run_attempt(folder, on_progress=bar.update, on_env=watch, log_level=logging.WARNING)
    typer.echo(training_summary(folder))
    return code


@app.command()
def evaluate(
    checkpoints: Annotated[list[Path], typer.Argument(metavar="CHECKPOINT...", help="A .pt file, or a run's folder.")],
    episodes: Annotated[
        int | None, typer.Option(help="Episodes of each seed (default: as in training).", min=1, max=100_000)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="First seed of spawns and targets (default: as in training).", min=0)
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds, counted up from the first.", min=1, max=1000)] = 1,
    physics: Annotated[
        str | None, typer.Option(metavar="ENGINE[,ENGINE]", help="Physics engines (default: as in training).")
    ] = None,
    spawn: Annotated[
        str | None, typer.Option(metavar="INNER,OUTER", help="Spawn radii in metres, such as 8,11.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="GROUP.NAME=VALUE", help="env.* or reward.* setting.")
    ] = None,
    sampled: Annotated[bool, typer.Option("--sampled", help="Play sampled actions too, next to the mean.")] = False,
    threads: Annotated[int | None, typer.Option(help="Physics threads (default: one per core).", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """Play policies without exploring and print how their episodes end, side by side."""
    from vbot_campaign.watch import comparison_table as table
    from vbot_campaign.watch.outcome_table import case_json, outcome_table
    from vbot_campaign.worker import single

    cores = single.available_cores()
    single.prepare_threads(1)
    from vbot_campaign.worker.evaluation import evaluate_cases, find_checkpoint, training_for

    engines = dict.fromkeys(name.strip() for name in physics.split(",")) if physics else [None]
    cases = [
        (path, training_for(path, physics=engine, spawn=spawn, settings=settings or []))
        for path in dict.fromkeys(map(find_checkpoint, checkpoints))
        for engine in engines
    ]
    done = list(
        evaluate_cases(cases, threads=threads or cores, episodes=episodes, seed=seed, seeds=seeds, sampled=sampled)
    )
    one = done[0]
    if as_json:
        values = case_json(one) if len(done) == 1 else table.comparison_json(done)
        typer.echo(json.dumps(values, indent=2))
    elif markdown:
        typer.echo(table.comparison_markdown(done))
    elif len(done) == 1 and seeds == 1:
        path = Path(one.checkpoint)
        typer.echo(outcome_table(path, one.env_steps, one.episodes, one.score, one.seeds[0], one.movement))
    else:
        typer.echo(table.comparison_table(done))


@app.command()
def play(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .pt file, or a run's folder.")],
    video: Annotated[Path | None, typer.Option(help="Film to write, .gif or .mp4.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Arrays of every step to write, .npz.")] = None,
    path_plot: Annotated[Path | None, typer.Option("--path", help="Paths from above to write, .png.")] = None,
    episodes: Annotated[int, typer.Option(help="Episodes.", min=1, max=1000)] = 3,
    seed: Annotated[int, typer.Option(help="Seed of spawns and targets.", min=0)] = 0,
    physics: Annotated[str | None, typer.Option(help="Physics engine (default: as in training).")] = None,
    spawn: Annotated[
        str | None, typer.Option(metavar="INNER,OUTER", help="Spawn radii in metres, such as 8,11.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="GROUP.NAME=VALUE", help="env.* or reward.* setting.")
    ] = None,
) -> None:
    """Play a policy and show what it does: outcomes, film, arrays, paths."""
    from vbot_campaign.playback.opengl import prepare_rendering
    from vbot_campaign.worker import single

    single.prepare_threads(1)
    if video is not None:
        prepare_rendering()
    from vbot_campaign.playback.play import play as play_policy
    from vbot_campaign.worker.evaluation import find_checkpoint, training_for

    path = find_checkpoint(checkpoint)
    training = training_for(path, physics=physics, spawn=spawn, settings=settings or [])
    play_policy(
        path, training, episodes=episodes, seed=seed, video=video, trace=trace, path_plot=path_plot, say=typer.echo
    )


@app.command()
def audit(file: Annotated[Path, typer.Argument(metavar="FILE", help="Study file, or a run's folder.")]) -> None:
    """Ask whether something else than finishing the task would pay better; exit code 1 when it would."""
    from vbot_campaign.worker import single

    single.prepare_threads(1)
    from vbot_campaign.envs.vbot.audit import render
    from vbot_campaign.worker.reward_audit import audit_file

    report = audit_file(file)
    typer.echo(render(report))
    raise typer.Exit(0 if report.ok else 1)


checkpoints_app = typer.Typer(help="Bring policies in from other programs, and take them out.", no_args_is_help=True)
app.add_typer(checkpoints_app, name="checkpoints")

Source = Annotated[Path, typer.Argument(metavar="FILE", help="A .pt file of skrl, rsl_rl or this program.")]


@checkpoints_app.command("import")
def import_command(
    file: Source,
    out: Annotated[Path | None, typer.Option(help="File to write.")] = None,
    study: Annotated[str | None, typer.Option(metavar="NAME", help="Put it among this study's files.")] = None,
    env: Annotated[str, typer.Option(help="Environment that the policy must fit.")] = _DEFAULT_ENVIRONMENT,
) -> None:
    """Convert a policy that skrl or rsl_rl trained; nothing in the file is executed."""
    from vbot_campaign.rl import importers

    if (out is None) == (study is None):
        raise SpecError("checkpoints import: give either --out FILE.pt or --study NAME.")
    if out is not None:
        imported = importers.import_checkpoint(file, out, env)
    else:
        imported = importers.import_into_study(file, _paths().study(str(study)), env)
    typer.echo(importers.describe(imported))


@checkpoints_app.command("export")
def export_command(
    file: Source,
    form: Annotated[str, typer.Option("--format", help="skrl, torchscript or onnx.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write the policy and its manifest to.")],
    env: Annotated[str, typer.Option(help="Environment that the policy must fit.")] = _DEFAULT_ENVIRONMENT,
) -> None:
    """Write a policy for other programs, with a manifest of all they must know."""
    from vbot_campaign.rl.export import export_policy

    for path in export_policy(file, form, out, env):
        typer.echo(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


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
