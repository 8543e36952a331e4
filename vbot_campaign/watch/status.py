"""The state of studies in the terminal and as JSON."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vbot_campaign.exporters import plain_yaml, rows
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import load_snapshot, study_names
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView
from vbot_campaign.watch import units
from vbot_campaign.watch.estimate import TrialProgress, study_eta_s, trial_progress
from vbot_campaign.watch.program import program

STATUS_SCHEMA = 1

_COLOURS = {
    TrialState.WAITING: "yellow",
    TrialState.RUNNING: "cyan",
    TrialState.COMPLETE: "green",
    TrialState.PRUNED: "bright_black",
    TrialState.FAILED: "red",
}
_SILENT_S = 60.0
"""After so many seconds without a line a worker is shown in yellow, after five times as many in red."""


class Bar:
    """A bar and a percentage that read the same with and without colours."""

    def __init__(self, share: float, width: int = 10) -> None:
        self._share = share
        self._width = width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw with a heavy line, or in ASCII where the terminal knows nothing else."""
        full, empty = ("=", ".") if options.ascii_only else ("━", "·")
        filled = int(self._share * self._width)
        bar = Text(full * filled, style="green") + Text(empty * (self._width - filled), style="bright_black")
        yield bar + Text(f" {self._share:4.0%}")


def status_table(
    paths: CampaignPaths, snapshot: StudySnapshot, *, now: datetime | None = None, max_rows: int | None = None
) -> RenderableType:
    """Return a study's header, its table of trials and what to do next; 80 columns are enough.

    Args:
        paths: The runs folder; progress of running trials comes from their metrics files.
        snapshot: The study.
        now: The time against which silence is measured.
        max_rows: Trials to show. Where there are more, unfinished and then the best ones are chosen.
    """
    now = now or datetime.now(UTC)
    progress = [trial_progress(paths.study(snapshot.spec.study), snapshot, trial, now) for trial in snapshot.trials]
    shown = _choose(progress, max_rows)
    table = _empty_table()
    for row in shown:
        _add_row(table, row, is_best=snapshot.best is not None and row.trial.number == snapshot.best.number)
    parts: list[RenderableType] = [*_header(snapshot, progress), table]
    if len(shown) < len(progress):
        parts.append(Text(f"{len(progress) - len(shown)} more finished trials are not shown", style="bright_black"))
    return Group(*parts, *_footer(paths, snapshot))


def _choose(progress: Sequence[TrialProgress], max_rows: int | None) -> list[TrialProgress]:
    if max_rows is None or len(progress) <= max_rows:
        return list(progress)

    def importance(row: TrialProgress) -> tuple[bool, float]:
        return row.trial.state.is_finished, -(row.score if row.score is not None else -1.0)

    return sorted(sorted(progress, key=importance)[: max(max_rows, 1)], key=lambda row: row.trial.number)


def _empty_table() -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("#", "state", "score", "succ", "surv", "prog", "env steps", "ETA", "slot", "try", "seen"):
        left = name in ("state", "env steps", "slot")
        widest = {"state": 8, "slot": 8, "env steps": 15}.get(name)
        table.add_column(name, justify="left" if left else "right", no_wrap=True, max_width=widest)
    return table


def _add_row(table: Table, row: TrialProgress, *, is_best: bool) -> None:
    trial = row.trial
    parts = {} if trial.state is TrialState.FAILED else trial.parts or {}
    attempt = trial.attempts[-1] if trial.attempts else None
    running = trial.state is TrialState.RUNNING
    table.add_row(
        str(trial.number),
        Text(trial.state.value, style=_COLOURS[trial.state]),
        Text(units.score(row.score), style="bold green" if is_best else ""),
        *(units.percent(parts.get(name)) for name in ("success_rate", "survival_rate", "goal_progress")),
        Bar(row.share),
        units.duration(row.eta_s) if running else "",
        attempt.slot if attempt and running else "",
        str(len(trial.attempts)),
        _seen(row.silent_s),
    )


def _seen(silent_s: float | None) -> Text:
    if silent_s is None:
        return Text("")
    style = "green" if silent_s < _SILENT_S else "yellow" if silent_s < 5 * _SILENT_S else "red"
    return Text(units.duration(silent_s), style=style)


def by_state(trials: Iterable[TrialView]) -> str:
    """Return ``3 complete, 1 pruned, 2 running``."""
    counts = Counter(trial.state for trial in trials)
    order = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.RUNNING, TrialState.WAITING)
    return ", ".join(f"{counts[state]} {state.value}" for state in order if counts[state]) or "none yet"


def _header(snapshot: StudySnapshot, progress: Sequence[TrialProgress]) -> list[Text]:
    budget, name = snapshot.spec.budget, snapshot.spec.study
    reason = f": {snapshot.reason}" if snapshot.reason else ""
    title = Text.assemble((name, "bold"), f" · {snapshot.state}{reason}", overflow="ellipsis", no_wrap=True)
    used = (
        _used(len(snapshot.trials), budget.trials, "trials", str),
        _used(snapshot.hours_used, budget.hours, "", lambda hours: units.duration(hours * 3600)),
        _used(snapshot.env_steps_used, budget.env_steps, "env steps", units.count),
    )
    best, eta = snapshot.best, study_eta_s(snapshot, progress)
    outlook = f"best {units.score(best.score)} (trial {best.number})" if best else "no score yet"
    outlook += f" · about {units.duration(eta)} left" if eta is not None else ""
    return [title, Text(" · ".join(used)), Text(by_state(snapshot.trials)), Text(outlook)]


def _used(used: float, total: float | None, unit: str, text: Callable[[float], str]) -> str:
    amount = f"{text(used)} of {text(total)}" if total is not None else text(used)
    return f"{amount} {unit}".rstrip()


def _footer(paths: CampaignPaths, snapshot: StudySnapshot) -> list[Text]:
    name = snapshot.spec.study
    if snapshot.state == "finished":
        policy = best_policy(paths, snapshot)
        # On a line of its own, so that it can be copied: a usual path has fewer than 80 letters.
        lines = ("best policy:", policy) if policy else ("no trial has a policy",)
        return [Text(line, style="bold", overflow="fold") for line in lines]
    if snapshot.state == "stopped":
        return [Text(f"continue with: {program()} resume {name}", style="bold")]
    return []


def best_policy(paths: CampaignPaths, snapshot: StudySnapshot) -> str | None:
    """Return the path of the best trial's policy, as it can be handed to ``evaluate``."""
    checkpoint = rows.best_checkpoint(snapshot.best) if snapshot.best else None
    return (paths.study(snapshot.spec.study).root / checkpoint.path).as_posix() if checkpoint else None


def status_json(paths: CampaignPaths, snapshot: StudySnapshot, *, now: datetime | None = None) -> dict[str, Any]:
    """Return the state of a study as plain values, under a schema version."""
    now = now or datetime.now(UTC)
    progress = [trial_progress(paths.study(snapshot.spec.study), snapshot, trial, now) for trial in snapshot.trials]
    best = snapshot.best
    content = {
        "schema_version": STATUS_SCHEMA,
        "study": snapshot.spec.study,
        "state": snapshot.state,
        "reason": snapshot.reason,
        "time": now,
        "created": snapshot.created,
        "environment": snapshot.spec.environment,
        "warm_start": rows.warm_start(paths.study(snapshot.spec.study), snapshot.warm_start),
        "audit": snapshot.audit and asdict(snapshot.audit),
        "budget": snapshot.spec.budget.model_dump(mode="json"),
        "used": {
            "trials": len(snapshot.trials),
            "hours": snapshot.hours_used,
            "env_steps": snapshot.env_steps_used,
        },
        "trials_by_state": dict(sorted(Counter(trial.state.value for trial in snapshot.trials).items())),
        "skipped_combinations": snapshot.skipped,
        "eta_s": study_eta_s(snapshot, progress),
        "supervisor": snapshot.supervisor,
        "slots": snapshot.slots,
        "best": best and {"trial": best.number, "score": best.score, "policy": best_policy(paths, snapshot)},
        "trials": [_trial_json(row) for row in progress],
    }
    plain: dict[str, Any] = plain_yaml.plain(content)
    return plain


def _trial_json(row: TrialProgress) -> dict[str, Any]:
    trial = row.trial
    attempt = trial.attempts[-1] if trial.attempts else None
    return {
        "trial": trial.number,
        "state": trial.state.value,
        "reason": trial.reason,
        "score": row.score,
        "parts": {} if trial.state is TrialState.FAILED else trial.parts or {},
        "parameters": trial.parameters,
        "env_steps": row.env_steps,
        "env_steps_budget": row.budget,
        "env_steps_per_s": row.env_steps_per_s,
        "eta_s": row.eta_s,
        "silent_s": row.silent_s,
        "attempts": len(trial.attempts),
        "slot": attempt.slot if attempt and trial.state is TrialState.RUNNING else None,
        "started": trial.started,
        "ended": trial.ended,
        "run_dir": trial.folder,
    }


def watch_status(paths: CampaignPaths, name: str, *, interval_s: float = 2.0, console: Console | None = None) -> None:
    """Show a study until it is finished or Ctrl-C: in place on a terminal, elsewhere anew after each change.

    Raises:
        StudyNotFoundError: No study has that name.
    """
    console = console or Console()
    snapshot = load_snapshot(paths, name)
    if not console.is_terminal:
        _print_changes(paths, name, snapshot, interval_s, console)
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            table = status_table(paths, snapshot, max_rows=rows_that_fit(console))
            live.update(table, refresh=True)
            if snapshot.state == "finished":
                return
            time.sleep(interval_s)
            snapshot = load_snapshot(paths, name)


def _print_changes(
    paths: CampaignPaths, name: str, snapshot: StudySnapshot, interval_s: float, console: Console
) -> None:
    shown = None
    while True:
        if snapshot != shown:
            console.print(status_table(paths, snapshot), end="\n\n")
            shown = snapshot
        if snapshot.state == "finished":
            return
        time.sleep(interval_s)
        snapshot = load_snapshot(paths, name)


def rows_that_fit(console: Console) -> int:
    """Return how many trials a live table may show without running off the screen."""
    return max(console.height - 10, 3)


def list_studies(paths: CampaignPaths) -> RenderableType:
    """Return one line per study: state, trials, best score, hours."""
    names = study_names(paths)
    if not names:
        return Text(f"No studies in {paths.root.as_posix()}. Start one: {program()} run studies/quickstart.yaml")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in ("study", "state", "trials", "best", "hours", "created"):
        table.add_column(column, justify="right" if column in ("best", "hours") else "left")
    for name in names:
        snapshot = load_snapshot(paths, name)
        best = snapshot.best
        table.add_row(
            name,
            snapshot.state,
            by_state(snapshot.trials),
            units.score(best.score if best else None),
            f"{snapshot.hours_used:.2f}",
            plain_yaml.utc(snapshot.created)[:10],
        )
    return table
