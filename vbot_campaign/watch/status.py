"""The state of a study in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from rich.console import RenderableType
from rich.text import Text

from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.budget import phase_budget
from vbot_campaign.study.snapshot import AlertView, StudySnapshot
from vbot_campaign.study.usage import total_gpu_hours
from vbot_campaign.watch import units
from vbot_campaign.watch.columns import line
from vbot_campaign.watch.devices import DeviceReader
from vbot_campaign.watch.estimate import study_eta_s, trial_progress
from vbot_campaign.watch.facts import best_policy, by_state
from vbot_campaign.watch.program import program
from vbot_campaign.watch.screen import Screen, fit
from vbot_campaign.watch.slot_table import slot_lines
from vbot_campaign.watch.trial_tables import WIDE, best_first, finished_lines, unfinished_lines

_SMALL = 14
"""Lines below which a screen has room for the trials alone."""
_LEVELS = {"info": "cyan", "warning": "yellow", "error": "bold red"}


def status_table(
    paths: CampaignPaths,
    snapshot: StudySnapshot,
    *,
    now: datetime | None = None,
    height: int | None = None,
    devices: DeviceReader | None = None,
) -> RenderableType:
    """Return a study on one screen, for 80 columns or more.

    From above: the study and its budget, the last alert, the slots, the trials that run or wait, the best of those
    that ended, and what to do next.

    Args:
        paths: The runs folder; progress of running trials comes from their metrics files.
        snapshot: The study.
        now: The time against which silence is measured.
        height: Lines there are; None for as many as it takes.
        devices: Reads the slots; give the same one each time, so that it can tell their load.
    """
    now = now or datetime.now(UTC)
    study = paths.study(snapshot.spec.study)
    unfinished = [trial_progress(study, snapshot, t, now) for t in snapshot.trials if not t.state.is_finished]
    # Those without a worker come last: where there is no room for all, they can be done without.
    unfinished.sort(key=lambda row: (row.trial.state, row.trial.number))
    finished = best_first([trial for trial in snapshot.trials if trial.state.is_finished])
    slots = (devices or DeviceReader()).read(snapshot)
    eta_s = study_eta_s(snapshot, unfinished)

    def build(width: int) -> Sequence[Text]:
        head, alert = _header(snapshot, eta_s, width), _alert(snapshot)
        foot = [Text(), *footer] if (footer := _footer(paths, snapshot, width)) else []
        if height is not None and height < _SMALL:
            head, alert, foot = head[:1], alert[:1], []
        head += alert
        fixed = len(head) + len(foot)
        room = fit(height, fixed=fixed, slots=len(slots), unfinished=len(unfinished), finished=len(finished))
        shown, best = unfinished[: room.unfinished], finished[: room.finished]
        return [
            *head,
            *([Text(), *slot_lines(slots)] if room.slots else []),
            *([Text(), *unfinished_lines(snapshot, shown, width=width, details=room.details)] if shown else []),
            *_more(len(unfinished) - len(shown), "unfinished"),
            *([Text(), *finished_lines(snapshot, best, width=width)] if best else []),
            *_more(len(finished) - len(best), "finished"),
            *foot,
        ]

    return Screen(build)


def _header(snapshot: StudySnapshot, eta_s: float | None, width: int) -> list[Text]:
    budget, best = snapshot.spec.budget, snapshot.best
    reason = f": {snapshot.reason}" if snapshot.reason else ""
    title = line((snapshot.spec.study, "bold"), f" · {snapshot.state}{reason}")
    budget = phase_budget(budget, "search")
    gpu_hours = total_gpu_hours(snapshot.spec.workers, snapshot.trials, datetime.now(UTC))
    used = (
        _used(len(snapshot.trials), budget.trials, "trials", str),
        _used(snapshot.hours_used, budget.hours, "", lambda hours: units.duration(hours * 3600)),
        *([_used(round(gpu_hours, 1), budget.gpu_hours, "GPU-hours", "{:g}".format)] if gpu_hours else []),
        _used(snapshot.env_steps_used, budget.env_steps, "env steps", units.count),
    )
    outlook = f"best {units.score(best.score)} (trial {best.number})" if best else "no score yet"
    outlook += f" · about {units.duration(eta_s)} left" if eta_s is not None else ""
    noted = sum(trial.would_prune is not None for trial in snapshot.trials)
    outlook += f" · {noted} would have been pruned" if noted else ""
    if width >= WIDE:
        return [title, line(" · ".join((*used, by_state(snapshot.trials), outlook)))]
    return [title, line(" · ".join(used)), line(by_state(snapshot.trials)), line(outlook)]


def _used(used: float, total: float | None, unit: str, text: Callable[[float], str]) -> str:
    amount = f"{text(used)} of {text(total)}" if total is not None else text(used)
    return f"{amount} {unit}".rstrip()


def _alert(snapshot: StudySnapshot) -> list[Text]:
    current = [alert for alert in snapshot.alerts if not _is_over(alert, snapshot)]
    if not current:
        return []
    last = current[-1]
    about = f"trial {last.trial}: " if last.trial is not None else ""
    style = _LEVELS.get(last.level, "yellow")
    shown = [
        line((f"{last.level} ", style), (f"{last.time[11:16]}Z ", "bright_black"), (f"{about}{last.message}", style))
    ]
    if last.advice:
        shown.append(line(f"  → {last.advice}"))
    return shown


def _is_over(alert: AlertView, snapshot: StudySnapshot) -> bool:
    """Tell whether an alert was mere news of an earlier supervisor, such as that it stopped."""
    if snapshot.supervisor is None or alert.level != "info":
        return False
    began: datetime = snapshot.supervisor["started"]
    return datetime.fromisoformat(alert.time) < began


def _more(count: int, kind: str) -> Iterator[Text]:
    if count > 0:
        yield line(f"{count} more {kind} {'trial is' if count == 1 else 'trials are'} not shown", style="bright_black")


def _footer(paths: CampaignPaths, snapshot: StudySnapshot, width: int) -> list[Text]:
    name = snapshot.spec.study
    if snapshot.state == "stopped":
        return [line(f"continue with: {program()} resume {name}", style="bold")]
    if snapshot.state != "finished":
        return []
    policy = best_policy(paths, snapshot)
    if policy is None:
        return [line("no trial has a policy", style="bold")]
    # On lines of its own, so that it can be copied: a usual path has fewer than 80 letters.
    rows = [policy[i : i + width] for i in range(0, len(policy), width)]
    return [line("best policy:", style="bold"), *(line(row, style="bold") for row in rows)]
