"""The state of a campaign in the terminal, and what a plan would cost."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from vbot_campaign.campaign.forecast import Forecast, Span
from vbot_campaign.campaign.view import CampaignView, StageView
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.plan import LOWER_IS_BETTER
from vbot_campaign.study.plans import PlanRecord
from vbot_campaign.watch import units
from vbot_campaign.watch.columns import columns, line
from vbot_campaign.watch.program import program

_STYLES = {"passed": "green", "promoted": "yellow", "halted": "red", "pending": "bright_black"}
_METRICS = {
    "success_rate": "success",
    "survival_rate": "survival",
    "goal_progress": "progress",
    "time_to_goal": "time",
    "episode_reward_mean": "reward",
    "score": "score",
}


def campaign_table(paths: CampaignPaths, view: CampaignView) -> RenderableType:
    """Return a campaign in one table, for 80 columns."""
    return Group(*_head(view), Text(), *_stages(view), *_foot(paths, view))


def _head(view: CampaignView) -> Iterator[Text]:
    reason = f": {view.reason}" if view.reason else ""
    yield line((view.plan.plan, "bold"), f" · {view.state}{reason}")
    done = sum(stage.is_over for stage in view.stages)
    budget, spent = view.plan.budget, view.spent
    hours = units.duration(spent.hours * 3600)
    hours += f" of {units.duration(budget.hours * 3600)}" if budget.hours is not None else ""
    steps = units.count(spent.env_steps)
    steps += f" of {units.count(budget.env_steps)}" if budget.env_steps is not None else ""
    gpu = f" · {spent.gpu_hours:.1f} GPU-hours" if spent.gpu_hours else ""
    yield line(f"{done} of {len(view.stages)} stages over · {hours}{gpu} · {steps} env steps")


def _stages(view: CampaignView) -> list[Text]:
    rows = [
        (
            str(stage.number),
            line(stage.name),
            line((stage.status, _STYLES.get(stage.status, "cyan"))),
            _tries(stage),
            units.score(stage.score),
            _gate(stage),
            units.count(stage.spent.env_steps),
            units.duration(stage.spent.hours * 3600),
        )
        for stage in view.stages
    ]
    titles = ("", "stage", "status", "try", "score", "gate", "env steps", "time")
    return columns(titles, rows, right=("score", "env steps", "time"))


def _tries(stage: StageView) -> str:
    most = stage.gate.tries if stage.gate is not None else 1
    return f"{max(stage.tries, 0 if stage.status == 'pending' else 1)} of {most}"


def _gate(stage: StageView) -> str:
    gate = stage.gate
    if gate is None:
        return "none"
    sign = "<=" if gate.metric in LOWER_IS_BETTER else ">="
    asked = f"{_METRICS[gate.metric]} {sign} {gate.threshold:g}"
    return asked if stage.value is None else f"{asked}: {stage.value:.4g}"


def _foot(paths: CampaignPaths, view: CampaignView) -> Iterator[Text]:
    name = view.plan.plan
    if view.state in ("created", "stopped"):
        yield Text()
        yield line(f"continue with: {program()} campaign resume {name}", style="bold")
    last = next((stage for stage in reversed(view.stages) if stage.policy is not None), None)
    if last is not None:
        yield Text()
        yield line(f"policy of stage {last.name}:", style="bold")
        # Whole however narrow the screen is, so that it can be copied.
        yield Text((paths.plan(name).root / str(last.policy)).as_posix(), style="bold", overflow="fold")


def campaign_list(paths: CampaignPaths, records: list[PlanRecord]) -> RenderableType:
    """Return one line per campaign."""
    if not records:
        return line(f"No campaigns in {paths.root.as_posix()}. Start one: {program()} campaign run PLAN.yaml")
    rows = [(one.name, str(one.state["word"]), f"{one.created:%Y-%m-%d}") for one in records]
    return Group(*columns(("campaign", "state", "created"), rows))


# --- what a plan would cost -----------------------------------------------------------------------------------------


def forecast_table(forecast: Forecast) -> RenderableType:
    """Return what a plan would cost, for 80 columns."""
    rows = [
        (
            str(number),
            stage.name,
            stage.does,
            _span(stage.env_steps, units.count),
            _span(stage.hours, lambda hours: units.duration(hours * 3600)),
            _span(stage.disk_gb, _gigabytes),
        )
        for number, stage in enumerate(forecast.stages, 1)
    ]
    rows.append(
        (
            "",
            "all",
            "",
            _span(forecast.env_steps, units.count),
            _span(forecast.hours, lambda hours: units.duration(hours * 3600)),
            _span(forecast.disk_gb, _gigabytes),
        )
    )
    titles = ("", "stage", "does", "env steps", "time", "disk")
    notes = [line(note) for note in forecast.notes]
    return Group(*columns(titles, rows, right=("env steps", "time", "disk")), Text(), *notes)


def _span(span: Span, text: object) -> str:
    low, high = text(span.low), text(span.high)  # type: ignore[operator]
    return low if low == high else f"{low} - {high}"


def _gigabytes(size: float) -> str:
    return f"{size * 1000:.0f} MB" if size < 1 else f"{size:.1f} GB"
