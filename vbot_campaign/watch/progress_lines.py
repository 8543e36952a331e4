"""What a running study prints: one line per event, and on a terminal a table that stays in place below them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.budget import phase_budget
from vbot_campaign.spec.describe import render_warning
from vbot_campaign.study.snapshot import AttemptView, StudySnapshot, TrialState, TrialView
from vbot_campaign.watch import units
from vbot_campaign.watch.alert_lines import alert_line, new_alerts
from vbot_campaign.watch.console import LastingConsole
from vbot_campaign.watch.devices import DeviceReader
from vbot_campaign.watch.estimate import study_eta_s, trial_progress
from vbot_campaign.watch.facts import by_state
from vbot_campaign.watch.status import status_table
from vbot_campaign.watch.summary import SHARES, parts_text

REFRESH_HZ = 0.5
"""How often the table below the lines is drawn."""
HEARTBEAT = timedelta(seconds=60)
"""Where there is no live table, a line says this often how far the running trials are."""


@dataclass(frozen=True)
class Event:
    """One line."""

    text: str
    detail: str = ""
    """Cut off where a terminal is too narrow."""


class ProgressLines:
    """Prints what happened between one snapshot and the next.

    An observer of the supervisor and a context manager: the live table is taken down at the end of the block.

    Args:
        paths: The runs folder.
        console: Where to print.
        warnings: Said once, as soon as the study has begun.
    """

    def __init__(self, paths: CampaignPaths, console: Console | None = None, *, warnings: Sequence[str] = ()) -> None:
        self._paths = paths
        self._warnings = warnings
        self._console = console or LastingConsole()
        self._snapshot: StudySnapshot | None = None
        self._heartbeat: datetime | None = None
        self._live: Live | None = None
        self._devices = DeviceReader()

    def __enter__(self) -> ProgressLines:
        """Start the live table on a terminal."""
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=REFRESH_HZ)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last table on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, snapshot: StudySnapshot) -> None:
        """Print one line for each trial that started, went on, was pruned, completed or failed, and for each alert."""
        earlier, self._snapshot = self._snapshot, snapshot
        now = datetime.now(UTC)
        first = [Event(first_line(snapshot))] if earlier is None else []
        warnings = [*self._warnings] if earlier is None else []
        if earlier is None or earlier.audit is None:
            warnings += map(render_warning, snapshot.audit.warnings if snapshot.audit else ())
        for warning in warnings:
            # Already wrapped; a path that is longer than a line stays whole, so that it can be copied.
            self._console.print(Text(warning, style="yellow"), soft_wrap=True)
        told = [Event(alert_line(a), f" ({a.advice})" if a.advice else "") for a in new_alerts(earlier, snapshot)]
        for event in [*first, *events(earlier, snapshot), *told, *self._beat(snapshot, now)]:
            self._print(event, now)

    def _print(self, event: Event, now: datetime) -> None:
        text = Text.assemble((f"{now:%H:%M:%SZ} ", "bright_black"), event.text, (event.detail, "bright_black"))
        if self._live is None:
            self._console.print(text, soft_wrap=True)
        elif event.detail:
            self._console.print(text, no_wrap=True, overflow="ellipsis")
        else:
            self._console.print(text)

    def _beat(self, snapshot: StudySnapshot, now: datetime) -> Iterator[Event]:
        if self._live is not None or snapshot.state != "running":
            return
        if self._heartbeat is not None and now - self._heartbeat >= HEARTBEAT:
            yield Event(progress_line(self._paths, snapshot, now))
        elif self._heartbeat is not None:
            return
        self._heartbeat = now

    def _table(self) -> RenderableType:
        if self._snapshot is None:
            return Text("starting …", style="bright_black")
        height = self._console.height - 1
        return status_table(self._paths, self._snapshot, height=height, devices=self._devices)


def first_line(snapshot: StudySnapshot) -> str:
    """Return what a study starts from."""
    budget = phase_budget(snapshot.spec.budget, "search")
    limits = [f"{budget.trials} trials"] if budget.trials else []
    limits += [f"{budget.hours:g} h"] if budget.hours else []
    limits += [f"{budget.gpu_hours:g} GPU-hours"] if budget.gpu_hours else []
    limits += [f"{units.count(budget.env_steps)} env steps"] if budget.env_steps else []
    finished = [trial for trial in snapshot.trials if trial.state.is_finished]
    goes_on = f", goes on after {by_state(finished)}" if finished else ""
    slots = f" on {', '.join(snapshot.slots)}" if snapshot.slots else ""
    start = f"; every trial starts from {snapshot.warm_start}" if snapshot.warm_start else ""
    return f"study {snapshot.spec.study}: {' or '.join(limits)}{slots}{goes_on}{start}"


def events(earlier: StudySnapshot | None, later: StudySnapshot) -> Iterator[Event]:
    """Yield an event for everything that happened between two snapshots.

    Args:
        earlier: The last one seen; None at the start, when finished trials are no news.
        later: The new one.
    """
    before = {trial.number: trial for trial in earlier.trials} if earlier else {}
    for trial in later.trials:
        known = before.get(trial.number)
        if earlier is None and trial.state.is_finished:
            continue
        for attempt in trial.attempts[len(known.attempts) if known else 0 :]:
            if attempt.ended is None:
                yield _started(trial, attempt, adopted=_is_older(attempt, later))
        if known is None or known.state is not trial.state:
            yield from _changed(later, trial)


def _is_older(attempt: AttemptView, snapshot: StudySnapshot) -> bool:
    return snapshot.supervisor is not None and attempt.started < snapshot.supervisor["started"]


def _started(trial: TrialView, attempt: AttemptView, *, adopted: bool) -> Event:
    if adopted:
        where = f"at env step {units.count(trial.env_steps)} on {attempt.slot}"
        return Event(f"trial {trial.number} trains on {where}, its worker outlived the supervisor")
    if attempt.number > 1 or attempt.first_env_step > 0:
        where = f"at env step {units.count(attempt.first_env_step)} on {attempt.slot}, attempt {attempt.number}"
        return Event(f"trial {trial.number} goes on {where}")
    settings = [f"{name.partition('.')[2] or name} {units.value(value)}" for name, value in trial.parameters.items()]
    return Event(f"trial {trial.number} started on {attempt.slot}", f": {', '.join(settings)}" if settings else "")


def _changed(snapshot: StudySnapshot, trial: TrialView) -> Iterator[Event]:
    name = f"trial {trial.number}"
    share = units.percent(min(trial.env_steps / snapshot.spec.env_steps_per_trial, 1.0))
    if trial.state is TrialState.COMPLETE:
        shares = {part: value for part, value in (trial.parts or {}).items() if part in SHARES}
        best = snapshot.best is not None and snapshot.best.number == trial.number
        text = f"{name} complete: score {units.score(trial.score)}{', the best so far' if best else ''}"
        yield Event(text, f" ({parts_text(shares)})" if shares else "")
    elif trial.state is TrialState.PRUNED:
        why = f": {trial.reason}" if trial.reason else ""
        yield Event(f"{name} pruned after {share} of its env steps, score {units.score(trial.score)}", why)
    elif trial.state is TrialState.FAILED:
        yield Event(f"{name} failed after {share} of its env steps: {trial.reason or 'no reason given'}")
    elif trial.state is TrialState.WAITING and trial.attempts:
        yield Event(f"{name} waits after {share} of its env steps: {trial.reason or 'no worker'}")


def progress_line(paths: CampaignPaths, snapshot: StudySnapshot, now: datetime) -> str:
    """Return how far the running trials are and how long the study still takes, in one line."""
    study = paths.study(snapshot.spec.study)
    unfinished = [trial for trial in snapshot.trials if not trial.state.is_finished]
    progress = [trial_progress(study, snapshot, trial, now) for trial in unfinished]
    running = [
        f"trial {p.trial.number} {units.percent(p.share)}"
        + (f" ({units.score(p.score)})" if p.score is not None else "")
        for p in progress
        if p.trial.state is TrialState.RUNNING
    ]
    eta = study_eta_s(snapshot, progress)
    left = f"; about {units.duration(eta)} left" if eta is not None else ""
    done = sum(trial.state.is_finished for trial in snapshot.trials)
    return f"{done} {'trial' if done == 1 else 'trials'} done; {', '.join(running) or 'none running'}{left}"
