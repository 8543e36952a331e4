"""The program's name, its general options, and what its commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

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

LauncherOption = Annotated[
    str | None,
    typer.Option("--launcher", metavar="NAME", help="Where trials run: local, or ray (default: see docs/ray.md)."),
]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", metavar="ADDRESS", help="Of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT."),
]

DEFAULT_ENVIRONMENT = "vbot_navigation_section001"

_verbose = False
_storage: str | None = None
"""What ``--storage`` says."""
_launcher: tuple[str | None, str | None] = (None, None)
"""What ``--launcher`` and ``--address`` say."""
_inherited: str | None = None
"""What the environment said of it, see `vbot_campaign.cli.secrecy`."""


def is_verbose() -> bool:
    """Tell whether tracebacks are wanted."""
    return _verbose


def campaign_paths() -> CampaignPaths:
    """Return the runs folder and the database that the options, the environment or the settings file name.

    Raises:
        SpecError: The folder is a file, or the address of the database cannot be used.
    """
    from vbot_campaign.spec.settings import storage_address

    root = runs_folder()
    if root.exists() and not root.is_dir():
        raise SpecError(f"{root}: is a file; --runs and ${RUNS_VARIABLE} name the folder of all runs.")
    return CampaignPaths(root, storage_address(_storage, _inherited))


def choose_launcher(launcher: str | None, address: str | None) -> None:
    """Say where all trials of this command run.

    Raises:
        SpecError: There is no such launcher, or the address is for another one.
    """
    from vbot_campaign.spec.settings import launcher_choice

    global _launcher
    _launcher = launcher, address
    launcher_choice(launcher, address)


def launcher_options() -> dict[str, Any]:
    """Return the options of a supervisor by which trials run where the command line or the settings file says.

    Raises:
        CampaignError: It cannot be reached; nothing was begun.
    """
    from vbot_campaign.spec.settings import launcher_choice

    chosen, address = launcher_choice(*_launcher)
    if chosen == "local":
        return {}
    from vbot_campaign.supervisor.raycluster.launcher import RayLauncher

    launcher = RayLauncher(address)
    launcher.open()
    return {"launcher": launcher}


def inherit_storage(address: str | None) -> None:
    """Say which database the environment named, where it was taken out of it."""
    global _inherited
    _inherited = address


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
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Database on a PostgreSQL server (default: a file in the folder of all runs)."
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    global _verbose, _storage
    _verbose, _storage = verbose, storage
    if runs is not None:
        os.environ[RUNS_VARIABLE] = str(runs)
