"""What a supervisor shows while it runs, and what it says at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vbot_campaign.study.snapshot import StudySnapshot


class Observer(Protocol):
    """Something that is shown the study as it changes: an exporter, a screen."""

    def update(self, snapshot: StudySnapshot) -> None:
        """Take a new picture of the study."""


@dataclass(frozen=True)
class Outcome:
    """How a supervisor ended."""

    state: str
    """``finished`` or ``stopped``."""
    reason: str
    failed: bool
    """Whether it stopped because trials kept failing, or none could be drawn."""
    snapshot: StudySnapshot

    @property
    def exit_code(self) -> int:
        """Return 0 for a study that is finished or was stopped on request, else 1."""
        return 1 if self.failed else 0
