"""Train, evaluate and show single policies."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vbot_campaign.cli.app import DEFAULT_ENVIRONMENT, NoAuditFlag, app, campaign_paths
from vbot_campaign.errors import SpecError

if TYPE_CHECKING:
    from vbot_campaign.spec.training import TrainingSpec
    from vbot_campaign.spec.training_file import TrainingFile

DEFAULT_ENV_STEPS = "16_000_000"

SpawnOption = Annotated[str | None, typer.Option(metavar="INNER,OUTER", help="Spawn radii in metres, such as 8,11.")]
EnvSettings = Annotated[
    list[str] | None, typer.Option("--set", metavar="GROUP.NAME=VALUE", help="env.* or reward.* setting.")
]


@app.command()
def train(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Training file; the other options go before what it says.")
    ] = None,
    env: Annotated[str | None, typer.Option(help="Environment.", show_default=DEFAULT_ENVIRONMENT)] = None,
    env_steps: Annotated[
        str | None, typer.Option(help="Budget in env steps, such as 16_000_000 or 16M.", show_default=DEFAULT_ENV_STEPS)
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="GROUP.NAME=VALUE", help="ppo.*, reward.* or env.* setting.")
    ] = None,
    num_envs: Annotated[int | None, typer.Option(help="Parallel environments.")] = None,
    seed: Annotated[int | None, typer.Option(help="Training seed.")] = None,
    physics: Annotated[str | None, typer.Option(help="mujoco, motrixsim, or mujoco+motrixsim.")] = None,
    trainer: Annotated[str | None, typer.Option(help="builtin, skrl, or one of an installed package.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Start from this checkpoint's networks.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda:0.", show_default="auto")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads (default: one per core).", min=1, max=256)] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Continue this run's folder exactly.")] = None,
    no_audit: NoAuditFlag = False,
    render: Annotated[bool, typer.Option("--render", help="Show the first robots in MuJoCo's window.")] = False,
) -> None:
    """Train once, without a study. Ctrl-C writes a checkpoint; --resume RUN goes on exactly there."""
    from vbot_campaign.playback.screen import require_screen
    from vbot_campaign.spec.physics import require_engine
    from vbot_campaign.worker import single

    _refuse_changes_to_resumed(context)
    if render:
        require_screen()
    file = _training_file(config)
    threads = threads or (file.threads if file else None) or single.available_cores()
    single.prepare_threads(threads)
    if resume is not None:
        folder = single.next_attempt(resume)
    else:
        options = {"num_envs": num_envs, "seed": seed, "physics": physics, "trainer": trainer}
        training = _training(file, env, env_steps, settings or [], options)
        require_engine(training.physics)
        folder = single.new_run(
            campaign_paths(),
            training,
            device=single.choose_device(device or (file.device if file else "auto")),
            threads=threads,
            warm_start=checkpoint or (file.checkpoint if file else None),
            run_tag=file.run_tag if file else "",
        )
        if not no_audit:
            _warn_of_reward(folder.root)
    raise typer.Exit(_train_with_bar(folder.root, render=render))


def _training_file(path: Path | None) -> TrainingFile | None:
    from vbot_campaign.spec.loading import load_training

    return load_training(path) if path is not None else None


def _training(
    file: TrainingFile | None, env: str | None, env_steps: str | None, settings: list[str], options: dict[str, Any]
) -> TrainingSpec:
    from vbot_campaign.spec.counts import parse_count
    from vbot_campaign.spec.loading import build_training

    if file is None:
        env, env_steps = env or DEFAULT_ENVIRONMENT, env_steps or DEFAULT_ENV_STEPS
    steps = parse_count("--env-steps", env_steps) if env_steps is not None else None
    return build_training(env, steps, settings, base=file.training if file else None, **options)


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
    spawn: SpawnOption = None,
    settings: EnvSettings = None,
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
    spawn: SpawnOption = None,
    settings: EnvSettings = None,
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
def audit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Study file, training file, or a run's folder.")],
) -> None:
    """Ask whether something else than finishing the task would pay better; exit code 1 when it would."""
    from vbot_campaign.worker import single

    single.prepare_threads(1)
    from vbot_campaign.envs.vbot.audit import render
    from vbot_campaign.worker.reward_audit import audit_file

    report = audit_file(file)
    typer.echo(render(report))
    raise typer.Exit(0 if report.ok else 1)
