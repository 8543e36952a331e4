"""What a study found, in a sentence, and how far that can be trusted."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vbot_campaign.exporters import rows
from vbot_campaign.exporters.report.data import ReportData, position_in_range
from vbot_campaign.spec.study import Integer, LogUniform, Uniform
from vbot_campaign.study.snapshot import TrialState, TrialView
from vbot_campaign.watch import units
from vbot_campaign.watch.outcome_table import wilson
from vbot_campaign.watch.summary import parts_text

FEW_TRIALS = 10
"""Complete trials below which a ranking is rough."""
NEAR_EDGE = 0.03
"""Share of a range (of its logarithm) that counts as its edge."""
MOST_PAUSED = 5
"""Trials that wait at a rung and are told of one by one."""
MANY_FAILURES = 0.1
NO_SUCCESS = 0.05
"""Upper end of the interval of a success rate that counts as none."""
TRANSFER = 0.1
"""Success that may be lost in the other engine."""


class Level(StrEnum):
    """What a finding means for the result."""

    GOOD = "good"
    CARE = "care"
    BAD = "bad"
    NOTE = "note"


_ORDER = (Level.BAD, Level.CARE, Level.GOOD, Level.NOTE)
"""What speaks against the result comes first."""


@dataclass(frozen=True)
class Finding:
    """One reason to trust the result, or not to."""

    level: Level
    text: str


@dataclass(frozen=True)
class Verdict:
    """The answer of a study."""

    headline: str
    achieved: str
    trust: str
    """One line over the findings."""
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst level of the findings."""
        levels = {finding.level for finding in self.findings}
        return next((level for level in (Level.BAD, Level.CARE) if level in levels), Level.GOOD)


def judge(data: ReportData) -> Verdict:
    """Return what a study found and how far it can be trusted."""
    best = data.ranked[0] if data.ranked else None
    if best is None:
        text = "No trial has a score yet." if data.snapshot.trials else "No trial has begun yet."
        return Verdict(text, "", "There is nothing to judge.", tuple(_study_findings(data)))
    kind = "Trial" if best.state is TrialState.COMPLETE else "No trial is complete; pruned trial"
    found = [*_study_findings(data), *_ranking_findings(data, best), *_policy_findings(data, best)]
    findings = tuple(sorted(found, key=lambda finding: _ORDER.index(finding.level)))
    careful = sum(finding.level in (Level.CARE, Level.BAD) for finding in findings)
    return Verdict(
        headline=f"{kind} {best.number} is the best of {len(data.snapshot.trials)}: score {units.score(best.score)}",
        achieved=_achieved(best),
        trust=_trust(careful),
        findings=findings,
    )


def _trust(careful: int) -> str:
    if careful == 0:
        return "Nothing speaks against this result."
    return "One point asks for care." if careful == 1 else f"{careful} points ask for care."


def _achieved(best: TrialView) -> str:
    parts = parts_text(best.parts) if best.parts else ""
    if not best.evaluation:
        return f"{parts} (training episodes before its last report)" if parts else ""
    return f"{parts}; {int(best.evaluation['finished'])} evaluation episodes"


# --- the study --------------------------------------------------------------------------------------------------------


def _study_findings(data: ReportData) -> Iterator[Finding]:
    snapshot, complete = data.snapshot, data.count(TrialState.COMPLETE)
    if snapshot.state != "finished":
        reason = f" ({snapshot.reason})" if snapshot.reason else ""
        yield Finding(Level.CARE, f"The study is {snapshot.state}{reason}, not finished: what is below can change.")
    level = Level.GOOD if complete >= FEW_TRIALS else Level.CARE
    rough = "" if level is Level.GOOD else "; ranking and importances are rough"
    pruned = data.count(TrialState.PRUNED)
    yield Finding(level, f"{_count(complete, 'trial')} complete, {pruned} pruned{rough}.")
    if paused := [trial for trial in snapshot.trials if trial.is_paused]:
        told = "; ".join(f"trial {trial.number} {trial.reason}" for trial in paused[:MOST_PAUSED])
        more = "; ..." if len(paused) > MOST_PAUSED else "."
        yield Finding(Level.NOTE, f"{_count(len(paused), 'paused trial')} may still go on: {told}{more}")
    yield from _failure_findings(data)
    errors = [alert for alert in snapshot.alerts if alert.level == "error"]
    if errors:
        yield Finding(Level.CARE, f"{_count(len(errors), 'alert')} of level error; the last: {errors[-1].message}")


def _failure_findings(data: ReportData) -> Iterator[Finding]:
    failed, ended = data.count(TrialState.FAILED), len(data.history)
    if failed:
        level = Level.CARE if failed > MANY_FAILURES * ended else Level.NOTE
        yield Finding(level, f"{failed} of {ended} ended trials failed; the causes are below.")
    elif ended:
        yield Finding(Level.GOOD, "No trial failed.")


# --- the ranking ------------------------------------------------------------------------------------------------------


def _ranking_findings(data: ReportData, best: TrialView) -> Iterator[Finding]:
    yield from _spread(data)
    yield from _overlap(data)
    yield from _still_improving(data, best)
    edges = [text for name, value in best.parameters.items() if (text := _edge(data, name, value))]
    if edges:
        yield Finding(
            Level.CARE,
            f"The best values lie at the edge of their ranges, so better ones may lie beyond: {'; '.join(edges)}.",
        )


def _spread(data: ReportData) -> Iterator[Finding]:
    scores = [trial.score for trial in data.ranked if trial.score is not None]
    if len(scores) > 1:
        median = statistics.median(scores)
        yield Finding(
            Level.NOTE,
            f"Scores run from {units.score(min(scores))} to {units.score(max(scores))}, median {units.score(median)}; "
            f"the best is {scores[0] - scores[1]:.3f} ahead of trial {data.ranked[1].number}.",
        )
    seed = data.snapshot.spec.seed
    yield Finding(Level.NOTE, f"All trials train with seed {seed}: train the best again with others to see its luck.")


def _overlap(data: ReportData) -> Iterator[Finding]:
    intervals = [(trial.number, interval) for trial in data.ranked[:2] if (interval := success_interval(trial))]
    if len(intervals) == 2:
        (_, (low, _)), (second, (_, high)) = intervals
        if low <= high and high > NO_SUCCESS:
            yield Finding(
                Level.NOTE,
                f"The success of trial {second} is as good within the chance of the evaluation's episodes "
                "(95 % intervals overlap).",
            )


def _still_improving(data: ReportData, best: TrialView) -> Iterator[Finding]:
    complete = [point.trial for point in data.history if point.state is not TrialState.FAILED]
    after = len(complete) - 1 - complete.index(best.number) if best.number in complete else 0
    if len(complete) >= FEW_TRIALS and after < 0.1 * len(complete):
        yield Finding(
            Level.CARE, f"The best came late, with {_count(after, 'trial')} after it: more trials may do better."
        )
    elif len(complete) >= FEW_TRIALS:
        yield Finding(Level.GOOD, f"{_count(after, 'later trial')} did not beat it.")
    values = list(best.reports.values())
    rise = values[-1] - values[-1 - len(values) // 5] if len(values) >= FEW_TRIALS else 0.0
    if rise > 0.02:
        yield Finding(
            Level.CARE,
            f"Its score still rose by {rise:.3f} in the last fifth of its env steps: a longer training may do more.",
        )


def _edge(data: ReportData, name: str, value: Any) -> str | None:
    parameter = data.snapshot.spec.parameters.get(name)
    if parameter is None:
        return None
    share = position_in_range(parameter, value)
    if isinstance(parameter, Uniform | LogUniform | Integer) and share is not None:
        if share <= NEAR_EDGE:
            return f"{name} = {units.value(value)} (from {units.value(parameter.low)})"
        if share >= 1 - NEAR_EDGE:
            return f"{name} = {units.value(value)} (to {units.value(parameter.high)})"
    return None


def success_interval(trial: TrialView) -> tuple[float, float] | None:
    """Return Wilson's 95 % interval of the success rate in a trial's evaluation; None without one."""
    if not trial.evaluation or not trial.evaluation.get("finished"):
        return None
    return wilson(int(trial.evaluation.get("success", 0)), int(trial.evaluation["finished"]))


# --- the policy -------------------------------------------------------------------------------------------------------


def _policy_findings(data: ReportData, best: TrialView) -> Iterator[Finding]:
    if rows.best_checkpoint(best) is None:
        yield Finding(Level.BAD, "The best trial has no policy on disk.")
    interval = success_interval(best)
    if interval:
        low, high = interval
        if high < NO_SUCCESS:
            yield Finding(Level.BAD, "Its policy does not do the task: it hardly ever stops inside the goal.")
        yield Finding(
            Level.NOTE, f"Its success rate is between {low:.1%} and {high:.1%} (95 %, chance of the episodes)."
        )
    played = data.played.get(best.number, {})
    if "mujoco" in played and "motrixsim" in played:
        yield _transfer(*(played[engine]["parts"]["success_rate"] for engine in ("mujoco", "motrixsim")))
    else:
        yield Finding(
            Level.NOTE,
            f"Not played in both engines: vbot-campaign report {data.snapshot.spec.study} --evaluate does that.",
        )


def _transfer(mujoco: float, motrixsim: float) -> Finding:
    level = Level.CARE if abs(mujoco - motrixsim) > TRANSFER else Level.GOOD
    if max(mujoco, motrixsim) < NO_SUCCESS:
        level = Level.NOTE
    return Finding(level, f"Success is {mujoco:.1%} in mujoco and {motrixsim:.1%} in motrixsim.")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
