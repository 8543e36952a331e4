"""Reads what the worker of a trial writes, and passes it on to the study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vbot_campaign import fs
from vbot_campaign.events import Result
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.training import TrainingSpec
from vbot_campaign.study.objective import GridReporter, Report
from vbot_campaign.study.snapshot import AttemptView
from vbot_campaign.study.study import CampaignStudy
from vbot_campaign.supervisor.alerts import LEVELS, Alert
from vbot_campaign.supervisor.training_alerts import Progress, TrainingRules


@dataclass
class News:
    """What one look brought."""

    reports: list[Report] = field(default_factory=list)
    """Scores that are new to Optuna, in order."""
    alerts: list[Alert] = field(default_factory=list)
    """What the worker told, and what its curve tells. Whoever reads a file again from its beginning gets them again."""
    changed: bool = False


class TrialMonitor:
    """Follows one trial over all its attempts.

    It may start anywhere in a trial's life: reading all lines from the beginning rebuilds its state, and what Optuna
    and the ledger know already is not written again. Lines that an earlier attempt wrote beyond the point where the
    current one began are stale, be they left over or late, and are passed over.
    """

    def __init__(self, study: CampaignStudy, trial: int, folder: TrialPaths, training: TrainingSpec) -> None:
        self.env_steps = 0
        self.folder = folder
        self.signs = 0
        """Lines of the current attempt that show it at work."""
        self.memory_mb: float | None = None
        """Most memory that the current attempt has told of."""
        self._attempt: AttemptView | None = None
        self._study = study
        self._trial = trial
        self._reporter = GridReporter(training)
        self._steps_per_iteration = training.steps_per_iteration
        self._metrics = fs.Tail(folder.metrics)
        self._checkpoints = fs.Tail(folder.checkpoint_log)
        self._speed: float | None = None
        self._begun = training.continuation.env_steps if training.continuation is not None else 0
        self._rules = TrainingRules(training, trial, study.spec.alerts)

    @property
    def new_env_steps(self) -> int:
        """Trained here: without what a continued training had been trained before."""
        return max(0, self.env_steps - self._begun)

    def follow(self, attempt: AttemptView) -> None:
        """Say which attempt is at work, or was the last."""
        self._attempt, self.signs, self.memory_mb = attempt, 0, None

    def poll(self) -> News:
        """Read what is new and store it, with env steps and memory on the attempt that is followed."""
        news = News()
        for line in self._metrics.read():
            if not self._is_stale(line):
                self._take(line, news)
        reports, news.reports = news.reports, []
        for report in reports:
            if self._study.report(self._trial, report.env_step, report.score):
                news.reports.append(report)
        checkpoints = self._checkpoints.read()
        for line in checkpoints:
            if not self._is_stale(line):
                self._record_checkpoint(line)
        if news.changed:
            self._write(reports)
        news.changed = news.changed or bool(checkpoints)
        return news

    def result(self, token: str) -> Result | None:
        """Return what the attempt with this token wrote at its end, or None."""
        try:
            result = Result.read(self.folder.result)
        except (ValueError, KeyError, TypeError):
            return None  # not written by a worker that keeps to the protocol: as if it had died
        return result if result is not None and result.token == token else None

    def _is_stale(self, line: Mapping[str, Any]) -> bool:
        current = self._attempt
        if current is None or int(line.get("attempt", current.number)) >= current.number:
            return False
        return int(line.get("env_steps", 0)) > current.first_env_step

    def _is_current(self, line: Mapping[str, Any]) -> bool:
        return self._attempt is not None and line.get("attempt", self._attempt.number) == self._attempt.number

    def _take(self, line: Mapping[str, Any], news: News) -> None:
        self.signs += line.get("kind") in ("progress", "evaluation") and self._is_current(line)
        if line.get("kind") == "alert":
            self._take_alert(line, news)
        if line.get("kind") != "progress" or "iteration" not in line or "env_steps" not in line:
            return
        news.changed = True
        news.reports += self._reporter.feed(line)
        news.alerts += self._rules.feed(_progress(line))
        self.env_steps = int(line["env_steps"])
        if self._is_current(line):
            self._correct_beginning()
        self._speed = (line.get("timing") or {}).get("env_steps_per_s")
        memory = line.get("memory") or {}
        used = memory.get("device_mb") or memory.get("rss_mb")
        if used is not None and self._is_current(line):
            self.memory_mb = max(self.memory_mb or 0.0, float(used))

    def _correct_beginning(self) -> None:
        # A worker that finds the newest checkpoint torn goes back to the one before.
        attempt = self._attempt
        if attempt is not None and self.env_steps <= attempt.first_env_step:
            first = max(0, self.env_steps - self._steps_per_iteration)
            self._attempt = replace(attempt, first_env_step=first)
            self._study.ledger.update_attempt(self._trial, attempt.number, first_env_step=first)

    def _take_alert(self, line: Mapping[str, Any], news: News) -> None:
        level, cause = str(line.get("level")), str(line.get("cause") or "worker")
        message, told_at = str(line.get("message") or cause), str(line.get("time") or "")
        known = level if level in LEVELS else "warning"
        news.alerts.append(Alert(known, cause, message, trial=self._trial, told_at=told_at, once=True))
        news.changed = True

    def _write(self, reports: list[Report]) -> None:
        values: dict[str, Any] = {"env_steps": self.env_steps, "env_steps_per_s": self._speed}
        if reports:
            values["parts"] = reports[-1].parts
        self._study.ledger.update_trial(self._trial, **values)
        if self._attempt is not None:
            self._study.ledger.update_attempt(
                self._trial, self._attempt.number, last_env_step=self.env_steps, memory_peak_mb=self.memory_mb
            )

    def _record_checkpoint(self, line: Mapping[str, Any]) -> None:
        file = self.folder.checkpoints / str(line["file"])
        path = file.relative_to(self.folder.root.parent.parent).as_posix()
        self._study.ledger.record_checkpoint(self._trial, path, line)


def _progress(line: Mapping[str, Any]) -> Progress:
    reward = line.get("reward_mean")
    return Progress(
        int(line["env_steps"]),
        EpisodeTotals.from_dict(line.get("episodes") or {}),
        float(reward) if isinstance(reward, int | float) else None,
    )
