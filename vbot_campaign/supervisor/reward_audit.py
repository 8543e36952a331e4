"""The audit of a study's reward while the study starts: in a process of its own, which nobody waits for."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import IO, Self

from vbot_campaign.errors import StudyError
from vbot_campaign.events import utc_now
from vbot_campaign.spec.loading import definition
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study.snapshot import AuditView
from vbot_campaign.supervisor.decisions import Decision
from vbot_campaign.supervisor.state import Context

AUDIT_COMMAND = (sys.executable, "-m", "vbot_campaign.worker.reward_audit")


class NoAudit:
    """Leaves the audit out."""

    def start(self, spec: StudySpec) -> None:
        """Do nothing."""

    def poll(self) -> AuditView | None:
        """Return None."""
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing."""


class StartAudit(NoAudit):
    """Audits a study's reward in the background. Use as a context manager: at its end an unfinished audit is dropped.

    Args:
        advice: Added to a warning: where to read more.
    """

    def __init__(self, advice: str = "") -> None:
        self._advice = advice
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def start(self, spec: StudySpec) -> None:
        """Begin."""
        # Files instead of pipes: nobody reads along, and a full pipe would stop it.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the process
        with tempfile.TemporaryFile() as given:
            given.write(json.dumps(definition(spec)).encode())
            given.seek(0)
            # Out of reach of a Ctrl-C in the terminal, which is the supervisor's to hear.
            self._process = subprocess.Popen(
                AUDIT_COMMAND, stdin=given, stdout=self._output, stderr=self._output, start_new_session=True
            )

    def poll(self) -> AuditView | None:
        """Return what was found, once, as soon as it is known.

        Raises:
            StudyError: The audit failed, which is no reason to stop the study.
        """
        if self._process is None or self._process.poll() is None:
            return None
        text, code = self._text(), self._process.returncode
        self._process = None
        try:
            found = json.loads(text)
        except ValueError:
            last = (text.strip().splitlines() or ["nothing was printed"])[-1]
            raise StudyError(f"the audit of the reward failed (exit code {code}): {last}") from None
        warnings = tuple(f"{warning} {self._advice}".rstrip() for warning in found["warnings"])
        return AuditView(utc_now(), warnings, found["points"], found["failing"], found["seconds"])

    def _text(self) -> str:
        if self._output is None:
            return ""
        with self._output as output:
            output.seek(0)
            return output.read().decode("utf-8", "replace")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End a process that is still at work."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._text()


def take_findings(audit: NoAudit, context: Context) -> None:
    """Store what an audit found, as soon as it has come to its end.

    Args:
        audit: It was started, or not.
        context: Of the supervisor.
    """
    try:
        found = audit.poll()
    except StudyError as error:
        context.decide(Decision("audit_failed", str(error)))
        return
    if found is not None:
        context.study.set_audit(found)
        context.decide(Decision("audited", " ".join(found.warnings) or "at the priors finishing pays most"))
