"""Writes the report of a study by itself when the study has ended."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from vbot_campaign.campaign.derived import is_over
from vbot_campaign.exporters.report import write_report
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.snapshot import StudySnapshot

MAX_TRIALS = 200
"""Trials above which nobody shall wait for a report at the end that was not asked for."""


class ReportAtEnd:
    """An observer of the supervisor that writes ``report.html`` when it is closed, if the study has ended by then.

    It is written after the supervisor has let go of the study, so that nothing waits for it. What goes wrong is said in
    one line: no study fails for the want of a page.

    Args:
        paths: The runs folder.
        name: The study.
        say: Prints a line.
    """

    def __init__(self, paths: CampaignPaths, name: str, say: Callable[[str], None]) -> None:
        self._paths = paths
        self._name = name
        self._say = say
        self._last: StudySnapshot | None = None

    def update(self, snapshot: StudySnapshot) -> None:
        """Take note of how the study stands."""
        self._last = snapshot

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._last is not None and len(self._last.trials) <= MAX_TRIALS:
            try:
                if is_over(self._paths, self._last):
                    self._say(f"report: {write_report(self._paths, self._name).as_posix()}")
            except Exception as problem:  # whatever it is, the study has ended well
                words = " ".join(str(problem).split()) or type(problem).__name__
                self._say(f"report: could not be written ({words}); try again: vbot-campaign report {self._name}")
