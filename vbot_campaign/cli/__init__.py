"""The command line: parse, call, print. Heavy imports happen inside the commands that need them."""

from __future__ import annotations

import sys

import typer

# The order of these lines is that of the help.
from vbot_campaign.cli import studies as studies  # isort: skip
from vbot_campaign.cli import phases as phases  # isort: skip
from vbot_campaign.cli import campaigns as campaigns  # isort: skip
from vbot_campaign.cli import service as service  # isort: skip
from vbot_campaign.cli import story as story  # isort: skip
from vbot_campaign.cli import files as files  # isort: skip
from vbot_campaign.cli import alerts as alerts  # isort: skip
from vbot_campaign.cli import policies as policies  # isort: skip
from vbot_campaign.cli import checkpoints as checkpoints  # isort: skip
from vbot_campaign.cli import rewards as rewards  # isort: skip
from vbot_campaign.cli import pages as pages  # isort: skip
from vbot_campaign.cli import report as report  # isort: skip
from vbot_campaign.cli import records as records  # isort: skip
from vbot_campaign.cli import storage as storage  # isort: skip
from vbot_campaign.cli import search as search  # isort: skip
from vbot_campaign.cli import transfer as transfer  # isort: skip
from vbot_campaign.cli import chaos as chaos  # isort: skip
from vbot_campaign.cli.app import app, inherit_storage, is_verbose
from vbot_campaign.cli.secrecy import leave_environment, leave_process_list
from vbot_campaign.errors import CampaignError

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; errors a person can put right are one line and exit code 2."""
    leave_process_list()
    inherit_storage(leave_environment())
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
    if is_verbose():
        raise error
    for line in message.splitlines():
        typer.echo(f"error: {line}", err=True)
