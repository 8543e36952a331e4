"""The processes that run studies and plans: the public command line, each in a session of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from vbot_campaign import fs
from vbot_campaign.campaign.state import CampaignState
from vbot_campaign.errors import StudyError
from vbot_campaign.events import utc_now
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.service import shares
from vbot_campaign.service.decisions import Share
from vbot_campaign.service.standing import is_known, study_parts
from vbot_campaign.service.systemd import VARIABLES
from vbot_campaign.spec.settings import STORAGE_VARIABLE
from vbot_campaign.study.owner import Owner, process_started
from vbot_campaign.study.plans import load_plan_record, plan_names
from vbot_campaign.study.reading import read_snapshot
from vbot_campaign.study.submissions import Submission
from vbot_campaign.supervisor import request_study_stop

PROGRAM = (sys.executable, "-m", "vbot_campaign.cli")
TOKEN_VARIABLE = "VBOT_CAMPAIGN_TOKEN"  # noqa: S105 - the name of it
"""Opens the service's pages; a trainer may be anyone's code."""
_TAIL_BYTES = 4096


class Children:
    """The processes that this service has started, by submission. What an earlier one started is known by its owner.

    Args:
        paths: The runs folder.
    """

    def __init__(self, paths: CampaignPaths) -> None:
        self._paths = paths
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._printed_before: dict[int, int] = {}
        """Bytes of the log when the process was started."""

    def start(self, one: Submission, share: Share) -> Owner | None:
        """Start the process of a submission that was claimed.

        Returns:
            The process; None when it is gone already.

        Raises:
            OSError: It cannot be started.
        """
        files = self._paths.service
        log = files.log(one.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        arguments = self._arguments(one)
        with log.open("ab") as output, shares.affinity(share):
            output.write(f"--- {utc_now()} {' '.join(arguments)}\n".encode())
            output.flush()
            self._printed_before[one.id] = output.tell()
            process = subprocess.Popen(
                [*PROGRAM, "--runs", str(self._paths.root.absolute()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Neither a Ctrl-C nor the end of this service reaches it.
                start_new_session=True,
                env=_environment(share, os.environ, self._paths.storage),
            )
        self._processes[one.id] = process
        try:
            return Owner(Owner.here().host, process.pid, process_started(process.pid))
        except psutil.NoSuchProcess:
            return None

    def _arguments(self, one: Submission) -> list[str]:
        group = ["campaign"] if one.kind == "plan" else []
        # What was begun goes on as it is stored: its budget may have been raised by hand in between.
        if one.restarts and is_known(self._paths, one.kind, one.name):
            return [*group, "resume", one.name]
        file = self._paths.service.definition(one.name)
        fs.write_json(file, one.definition)  # JSON is YAML
        return [*group, "run", str(file)]

    def is_alive(self, one: Submission) -> bool:
        """Tell whether the process of a submission runs."""
        process = self._processes.get(one.id)
        if process is not None:
            return process.poll() is None
        return one.owner is not None and one.owner.is_alive()

    def exit_code(self, one: Submission) -> int | None:
        """Return how the process of a submission has ended; None where this service did not start it."""
        process = self._processes.get(one.id)
        return process.poll() if process is not None else None

    def last_words(self, one: Submission) -> str:
        """Return the error that the process of a submission has printed, or its last line; empty where unknown."""
        if one.id not in self._printed_before:
            return ""
        return last_words(self._paths.service.log(one.name), self._printed_before[one.id])

    def forget(self, one: Submission) -> None:
        """Forget a process that has gone."""
        self._processes.pop(one.id, None)

    def interrupt(self, one: Submission) -> None:
        """Send a SIGTERM: the first asks a supervisor to stop, one more has it kill its workers."""
        process = self._processes.get(one.id)
        if process is not None:
            process.terminate()
        elif one.owner is not None and one.owner.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.owner.pid, signal.SIGTERM)


def _environment(share: Share, inherited: Mapping[str, str], storage: str | None) -> dict[str, str]:
    ours = (*VARIABLES, TOKEN_VARIABLE)
    kept = {name: value for name, value in inherited.items() if name not in ours}
    # The address may hold a password, and everybody can read a command line.
    database = {STORAGE_VARIABLE: storage} if storage is not None else {}
    return {**shares.environment(share, kept), **database, "PYTHONUNBUFFERED": "1"}


def last_words(log: Path, start: int) -> str:
    """Return the last error that was printed from a byte of a log on, or the last line.

    Args:
        log: The file; where it is missing, nothing was said.
        start: First byte.
    """
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    return " ".join(errors) or (said[-1] if said else "")


def ask_to_stop(paths: CampaignPaths, one: Submission, reason: str) -> int:
    """Ask whoever is at work on a submission to stop with checkpoints. May be repeated; a second time says nothing new.

    A process that is only starting has no supervisor yet and takes away requests of before, so this is to be repeated
    until it has ended.

    Returns:
        How many were asked now.
    """
    asked = 0
    if one.kind == "plan" and one.name in plan_names(paths):
        file = paths.plan(one.name).stop_request
        if CampaignState.from_dict(load_plan_record(paths, one.name).state).is_running and not file.exists():
            fs.write_json(file, {"v": 1, "reason": reason, "time": utc_now()})
            asked += 1
    for name in study_parts(paths, one.kind, one.name):
        with contextlib.suppress(StudyError):  # nobody is at work on this one any more
            if not paths.study(name).stop_request.exists() and read_snapshot(paths, name).supervisor is not None:
                request_study_stop(paths, name, reason)
                asked += 1
    return asked
