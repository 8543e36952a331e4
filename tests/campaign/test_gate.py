"""What a gate measures: every metric, and with patience the last policies of a training too."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.support.snapshots import PARTS, make_checkpoint, make_trial
from tests.support.toy_campaign import plan_spec
from vbot_campaign.campaign import gate
from vbot_campaign.campaign.state import GateResult
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.plan import LOWER_IS_BETTER, Gate, Metric, PlanSpec

COMMAND = (sys.executable, "-c", "import sys; print(open(sys.argv[-1]).read())")
"""An evaluator; here each policy's file says what it shows."""
STEPS = 20_000


def plan_of(**options: Any) -> PlanSpec:
    """Return a plan whose only stage has a gate, with a report point every 2,000 env steps."""
    return plan_spec(stages=[{"stage": "near", "train": {"env_steps": STEPS}, "gate": {"threshold": 0.5, **options}}])


def ask(root: Path, policies: dict[int, dict[str, float]], *, env_steps: int = STEPS, **options: Any) -> GateResult:
    """Ask the gate about a training.

    Args:
        root: A folder.
        policies: What the checkpoint at each env step shows, 0 for the best one.
        env_steps: What the training has come to.
        **options: Of the gate.
    """
    plan, study = plan_of(**options), CampaignPaths(root).study("toy.near.train")
    checkpoints = []
    for step, parts in policies.items():
        shown = {"parts": {**PARTS, **parts}, "score": 0.625, "episodes": {"finished": 16}}
        made = make_checkpoint(env_steps=step or 12_000, kind="resume" if step else "best", path=f"agent_{step}.pt")
        study.root.mkdir(parents=True, exist_ok=True)
        (study.root / made.path).write_text(json.dumps(shown))
        checkpoints.append(made)
    trial = make_trial(env_steps=env_steps, checkpoints=tuple(checkpoints))
    return gate.ask(plan, plan.stages[0], gate_of(**options), study, trial, command=COMMAND)


def gate_of(**options: Any) -> Gate:
    return Gate.model_validate({"threshold": 0.5, **options})


@pytest.mark.parametrize("metric", get_args(Metric))
def test_each_metric_is_measured_and_passes_at_its_threshold(tmp_path: Path, metric: Metric) -> None:
    result = ask(tmp_path, {0: {}}, metric=metric)
    wanted = 0.625 if metric == "score" else PARTS[metric]
    assert (result.value, result.score, result.episodes) == (wanted, 0.625, 16)
    worse = -0.01 if metric in LOWER_IS_BETTER else 0.01
    assert result.passes(gate_of(metric=metric, threshold=wanted))
    assert result.passes(gate_of(metric=metric, threshold=wanted - worse))
    assert not result.passes(gate_of(metric=metric, threshold=wanted + worse))


def test_with_patience_the_worst_of_the_last_policies_counts(tmp_path: Path) -> None:
    shown = {0: {"success_rate": 0.9}, 18_000: {"success_rate": 0.6}, 20_000: {"success_rate": 0.7}}
    assert ask(tmp_path, shown).value == 0.9, "without it the best one alone"
    assert ask(tmp_path, shown, patience=2).value == 0.7
    patient = ask(tmp_path, shown, patience=3)
    assert (patient.value, patient.parts["success_rate"]) == (0.6, 0.9), (
        "the parts are those of the policy that goes on"
    )
    assert not patient.passes(gate_of(threshold=0.65))
    late = {0: {"time_to_goal": 4.0}, 20_000: {"time_to_goal": 5.0}}
    assert ask(tmp_path, late, metric="time_to_goal", patience=2).value == 5.0


def test_a_training_that_did_not_come_so_far_is_not_asked(tmp_path: Path) -> None:
    whole = {0: {"success_rate": 1.0}, 18_000: {}, 20_000: {}}
    assert ask(tmp_path, whole, min_env_steps=20_000).asked
    for result in (
        ask(tmp_path, whole, env_steps=19_000, min_env_steps=20_000),
        ask(tmp_path, {0: {"success_rate": 1.0}, 18_000: {}}, env_steps=18_000, patience=2),
        ask(tmp_path, {}),
    ):
        assert not result.asked
        assert not result.passes(gate_of())
