"""The program's name, its general options, and what its commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from vbot_campaign import __version__
from vbot_campaign.errors import SpecError
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

NoAuditFlag = Annotated[bool, typer.Option("--no-audit", help="Do not ask whether something else would pay better.")]

DEFAULT_ENVIRONMENT = "vbot_navigation_section001"

_verbose = False


def is_verbose() -> bool:
    """Tell whether tracebacks are wanted."""
    return _verbose


def campaign_paths() -> CampaignPaths:
    """Return the runs folder that the options or the environment name.

    Raises:
        SpecError: It is a file.
    """
    root = runs_folder()
    if root.exists() and not root.is_dir():
        raise SpecError(f"{root}: is a file; --runs and ${RUNS_VARIABLE} name the folder of all runs.")
    return CampaignPaths(root)


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
