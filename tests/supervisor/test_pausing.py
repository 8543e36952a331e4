"""Successive halving that pauses: studies of toy workers whose end is known beforehand."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from tests.support.builders import cpu_slots, study_spec
from tests.support.toy_study import actions, decisions, kill, resume, start, states, wait_until
from vbot_campaign.exporters.report.data import collect
from vbot_campaign.exporters.report.verdict import judge
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study.queue import QueuedTrial
from vbot_campaign.study.reading import read_snapshot
from vbot_campaign.study.snapshot import StudySnapshot, TrialState, TrialView
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import CampaignStudy, load_snapshot
from vbot_campaign.supervisor import create_study, plan_resume
from vbot_campaign.supervisor.prune import prune_checkpoints
from vbot_campaign.watch.progress_lines import events
from vbot_campaign.watch.status import status_table

QUALITIES = [0.5, 0.85, 0.7, 0.3, 0.9, 0.2, 0.8, 0.4, 1.0]
"""Success rate at the end of each trial's training; at the rungs they are in the same order."""

pytestmark = pytest.mark.slow

COMPLETE, PRUNED, WAITING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.WAITING
ONE_SLOT = {"slots": cpu_slots(1)}
HALVING: dict[str, Any] = {"name": "successive_halving", "pause": True, "warmup": 0.125, "reduction_factor": 3}
"""Rungs at 3,750 and 11,250 of 30,000 env steps."""


@pytest.fixture(autouse=True, scope="module")
def patient() -> Iterator[None]:
    """No worker trains on before the supervisor has heard what it has reported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_PATIENT", "1")
        yield


def make(paths: CampaignPaths, **overrides: Any) -> None:
    """Make a study of nine trials, which are asked in the order of `QUALITIES`."""
    spec = {"budget": {"trials": 9}, "sampler": {"name": "queue"}, "pruner": HALVING, "report_points": 8}
    create_study(paths, study_spec(**{**spec, **overrides}))
    storage = open_storage(paths)
    trials = [QueuedTrial({"ppo.learning_rate": 3e-4 * quality}, "chosen") for quality in QUALITIES]
    CampaignStudy.open(storage, "toy").enqueue(trials)
    storage.close()


def story(paths: CampaignPaths) -> list[str]:
    """Return what became of trials at rungs, in order."""
    words = {"pausing": "pause", "promoted": "promote", "passed": "pass", "completed": "complete"}
    return [f"{words[d['action']]} {d['trial']}" for d in decisions(paths) if d["action"] in words]


STORY = [
    "pause 0", "pause 1", "pause 2", "promote 1", "pause 1",  # 2nd of 3 is paused, and lets the best of 3 go on
    "pause 3", "pass 4", "pause 4",  # 1st of 5, then 1st of 2 at rung 2
    "pause 5", "pause 6", "pause 7",
    "pass 8", "pass 8", "complete 8",  # 1st of 9, then 1st of 3 at rung 2
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, patient: None) -> CampaignPaths:
    paths = CampaignPaths(tmp_path_factory.mktemp("undisturbed"))
    make(paths)
    outcome = resume(paths, **ONE_SLOT)
    assert (outcome.state, outcome.reason) == ("finished", "all trials have ended")
    return paths


def outcome_of(snapshot: StudySnapshot) -> list[tuple[TrialState, str, float]]:
    """Return what a study found, without what depends on how soon a worker heard of a pause."""
    return [(t.state, t.reason, t.parameters["ppo.learning_rate"]) for t in snapshot.trials]


def assert_no_stretch_twice(trial: TrialView) -> None:
    ends = [0, *(attempt.last_env_step for attempt in trial.attempts)]
    assert [attempt.first_env_step for attempt in trial.attempts] == ends[:-1]
    assert trial.env_steps == ends[-1]


def test_who_is_paused_who_goes_on_and_who_ends(undisturbed: CampaignPaths) -> None:
    assert story(undisturbed) == STORY
    snapshot = load_snapshot(undisturbed, "toy")
    assert [trial.number for trial in snapshot.trials if trial.state is COMPLETE] == [8]
    assert all(trial.state is PRUNED for trial in snapshot.trials[:8])
    assert snapshot.trials[0].reason.startswith("paused at rung 1 (score ")
    assert snapshot.trials[0].reason.endswith(", 6th of 9; 3 go on); no more trials come")
    assert snapshot.trials[4].reason.endswith(", 2nd of 3; 1 goes on); no more trials come")


def test_a_paused_trial_keeps_its_last_score_and_a_pause_is_no_death(undisturbed: CampaignPaths) -> None:
    for trial in load_snapshot(undisturbed, "toy").trials:
        assert len(trial.attempts) == (2 if trial.number == 1 else 1)
        assert_no_stretch_twice(trial)
        if trial.state is PRUNED:
            assert trial.score == list(trial.reports.values())[-1]
            assert [attempt.reason for attempt in trial.attempts] == ["paused"] * len(trial.attempts)
            assert "died" not in actions(undisturbed, trial.number)


def test_by_default_one_trial_of_four_goes_on_at_its_only_rung(paths: CampaignPaths, toy: Any) -> None:
    make(paths, pruner={}, report_points=20)
    outcome = resume(paths, **ONE_SLOT)
    assert story(paths) == [
        "pause 0", "pause 1", "pause 2", "pause 3", "promote 1", "complete 1",  # the 1st of 4
        "pass 4", "complete 4",  # 1st of 5
        "pause 5", "pause 6", "pause 7",  # of 8 two go on, which already have
        "pass 8", "complete 8",
    ]  # fmt: skip
    assert states(outcome) == [PRUNED, COMPLETE, PRUNED, PRUNED, COMPLETE, PRUNED, PRUNED, PRUNED, COMPLETE]
    # The median of three: what it had at 10,500 of 30,000 env steps, 0.8 * 0.35.
    assert outcome.snapshot.trials[6].reason.endswith(
        "paused at rung 1 (score 0.2800, 4th of 9; 2 go on); no more trials come"
    )


def test_a_mild_first_rung_pauses_few_and_the_second_most(paths: CampaignPaths, toy: Any) -> None:
    make(paths, pruner={"rungs": [{"at": 0.15, "keep": 0.75}, {"at": 0.4, "keep": 0.25}]}, report_points=20)
    outcome = resume(paths, **ONE_SLOT)
    assert story(paths) == [
        "pause 0", "pass 1", "pause 1", "pass 2", "pause 2", "pause 3",  # at rung 1, at rung 2, 4th of 4 at rung 1
        "promote 0", "pause 0",  # 3rd of 4 goes on to rung 2
        "pass 4", "pass 4", "complete 4",  # 1st of 5, then 1st of 4 at rung 2
        "pause 5", "pass 6", "pause 6", "pass 7", "pause 7",
        "pass 8", "pass 8", "complete 8",
    ]  # fmt: skip
    assert states(outcome) == [PRUNED, PRUNED, PRUNED, PRUNED, COMPLETE, PRUNED, PRUNED, PRUNED, COMPLETE]
    # The median of three: what it had at 10,500 of 30,000 env steps, 0.8 * 0.35.
    assert outcome.snapshot.trials[6].reason.endswith(
        "paused at rung 2 (score 0.2800, 4th of 7; 1 goes on); no more trials come"
    )


def test_a_supervisor_that_is_killed_while_trials_are_paused_changes_nothing(
    undisturbed: CampaignPaths, paths: CampaignPaths, toy: Any
) -> None:
    toy({"4": {"1": "slow"}})
    make(paths)
    supervisor = start(paths, None, slots=1)
    # The fifth is under way: three wait at rung 1 and one, which was let go there, at rung 2.
    wait_until(lambda: "passed" in actions(paths, 4))
    kill(supervisor)
    waiting = [trial for trial in load_snapshot(paths, "toy").trials if trial.is_paused]
    assert [trial.number for trial in waiting] == [0, 1, 2, 3]
    assert waiting[1].reason.startswith("paused at rung 2 (score ")
    assert waiting[1].reason.endswith(", 1st of 1; none goes on yet)")
    lines = plan_resume(paths, "toy").lines
    assert f"trial 1: {waiting[1].reason}; goes on when it is among them" in lines
    outcome = resume(paths, **ONE_SLOT)
    assert outcome.state == "finished"
    assert story(paths) == STORY
    assert outcome_of(outcome.snapshot) == outcome_of(load_snapshot(undisturbed, "toy"))
    for trial in outcome.snapshot.trials:
        assert_no_stretch_twice(trial)


def test_points_of_paused_trials_stay_and_a_budget_of_env_steps_leaves_them_resumable(
    paths: CampaignPaths, toy: Any
) -> None:
    make(paths, budget={"trials": 9, "env_steps": 14_000}, checkpoints={"disk_budget_gb": 1e-9})
    outcome = resume(paths, **ONE_SLOT)
    assert outcome.state == "stopped"
    assert "budget of env steps used" in outcome.reason
    assert states(outcome)[:2] == [WAITING] * 2
    assert prune_checkpoints(paths, "toy", keep_last=0).removals == ()
    paused = [trial for trial in load_snapshot(paths, "toy").trials if trial.is_paused]
    assert paused[0].number == 0
    assert paused[1].number == 1 or "promoted" in actions(paths, 1), "the best of three is let go, if there was time"
    for trial in paused:
        points = [point for point in trial.checkpoints if point.kind == "resume"]
        assert max(point.env_steps for point in points) == trial.env_steps
        assert all((paths.study("toy").root / point.path).exists() for point in points)
    assert read_snapshot(paths, "toy") == load_snapshot(paths, "toy"), "without Optuna"


def test_paused_trials_are_seen_to_wait_and_why(undisturbed: CampaignPaths) -> None:
    snapshot = load_snapshot(undisturbed, "toy")
    why = "paused at rung 1 (score 0.0425, 6th of 9; 3 go on)"
    waits = dataclasses.replace(snapshot.trials[0], state=WAITING, reason=why, env_steps=6000, score=None, ended=None)
    shown = dataclasses.replace(snapshot, state="stopped", trials=(waits, *snapshot.trials[1:]))
    screen = Console(record=True, width=80, file=io.StringIO())
    screen.print(status_table(undisturbed, shown))
    text = screen.export_text()
    assert "1 waiting (1 of them paused)" in text
    assert f"    {why}" in text
    before = dataclasses.replace(shown, trials=(dataclasses.replace(waits, state=TrialState.RUNNING),))
    assert [event.text for event in events(before, dataclasses.replace(shown, trials=(waits,)))] == [
        f"trial 0 waits after 20% of its env steps: {why}"
    ]
    findings = [finding.text for finding in judge(collect(undisturbed, shown, shown.created)).findings]
    assert f"1 paused trial may still go on: trial 0 {why}." in findings
