"""The audit: scripted behaviours priced by worked numbers, the shipped studies, the field's known mistake."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import study_spec
from vbot_campaign.cli import app
from vbot_campaign.envs.vbot.audit import (
    BEHAVIOURS,
    Behaviour,
    Return,
    audit_study,
    findings_of,
    render,
    returns_of,
    script,
    start_warnings,
)
from vbot_campaign.spec.environments import get_environment
from vbot_campaign.spec.loading import load_study
from vbot_campaign.spec.training import PpoSettings, TrainingSpec

STUDIES = Path(__file__).parents[2] / "studies"
ENVIRONMENT = "vbot_navigation_section001"
STAND, RUN, HOVER, OSCILLATE, WALK, FAST = BEHAVIOURS


def weights(**values: float) -> dict[str, float]:
    """All terms zero but the given ones."""
    return {**dict.fromkeys(get_environment(ENVIRONMENT).rewards, 0.0), **values}


def total(behaviour: Behaviour, start: float = 5.0, *, ppo: PpoSettings | None = None, **values: float) -> float:
    """Return what a behaviour earns over 10 s when only the given terms pay."""
    env = {"spawn_inner_radius": start, "spawn_outer_radius": start}
    training = TrainingSpec(env_steps=1, ppo=ppo or PpoSettings(), reward=weights(**values), env=env)
    return next(item.total for item in returns_of(training) if item.behaviour is behaviour)


# --- behaviours -------------------------------------------------------------------------------------------------------


def test_a_walk_covers_its_way_at_its_speed() -> None:
    distance = script(WALK, 5.0, 1000, 0.99).transition.goal.distance
    speed = script(WALK, 5.0, 1000, 0.99).transition.speed

    # 0.2 s to 0.6 m/s at 3 m/s², so 0.06 m, then steadily; it stops 0.25 m before the centre.
    assert distance[19] == pytest.approx(5.0 - 0.06, abs=1e-3)
    assert distance[419] == pytest.approx(5.0 - 0.06 - 4.0 * 0.6, abs=1e-3)
    assert speed[100:700].tolist() == pytest.approx([0.6] * 600, abs=1e-3)
    assert distance[-1] == pytest.approx(0.25, abs=1e-4)
    assert (speed[-100:] < 1e-4).all()


def test_behaviours_do_what_their_names_say() -> None:
    assert script(STAND, 5.0, 1000, 0.99).transition.goal.distance.tolist() == [5.0] * 1000
    hover = script(HOVER, 5.0, 1000, 0.99).transition
    assert hover.goal.distance[-1] == pytest.approx(0.52, abs=1e-4)
    assert not hover.goal.reached.any()
    assert hover.fence_entered.sum() == 1
    swing = script(OSCILLATE, 5.0, 1000, 0.99).transition
    assert 3 <= int((swing.goal.reached[1:] & ~swing.goal.reached[:-1]).sum()) <= 8
    assert swing.arrived.sum() == 1
    fall = script(RUN, 5.0, 1000, 0.99)
    assert fall.transition.terminated.nonzero().tolist() == [[199]]
    assert fall.credit[:200].tolist() == [1.0] * 200
    assert fall.credit[200:].sum() == 0


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda b: b.name)
def test_only_those_that_stop_inside_the_goal_finish(behaviour: Behaviour) -> None:
    assert script(behaviour, 4.0, 1000, 0.99).finished is behaviour.finishes


# --- what they earn ---------------------------------------------------------------------------------------------------


def test_who_never_arrives_is_credited_in_full() -> None:
    assert total(STAND, alive_bonus=1.5) == pytest.approx(1500.0)
    assert total(HOVER, alive_bonus=1.5) == pytest.approx(1500.0)
    assert total(RUN, alive_bonus=1.5, termination=-100.0) == pytest.approx(300.0 - 100.0)


def test_who_finishes_is_credited_with_the_discounted_rest_of_the_clock() -> None:
    played = script(FAST, 5.0, 1000, 0.99)
    last = int((played.credit > 0).nonzero()[-1])
    inside = int(played.transition.goal.reached[: last + 1].sum())
    left = 999 - last
    price = 1.5 * math.exp(-0.25 / 5)
    rest = sum(0.99**k for k in range(1, left + 1))

    # At the end it stands 0.25 m from the target, for a position reward of `price` in every step.
    assert left > 400
    assert float(played.credit[last]) == pytest.approx(1 + rest, rel=1e-5)
    earned = total(FAST, position_tracking=1.5)
    before = sum(1.5 * math.exp(-float(d) / 5) for d in played.transition.goal.distance[: last + 1])
    assert earned == pytest.approx(before + price * rest, rel=1e-4)
    # Without bootstrapping a cut episode is simply over.
    off = total(FAST, ppo=PpoSettings(time_limit_bootstrap=False), position_tracking=1.5)
    assert off == pytest.approx(before, rel=1e-4)
    assert inside >= 50


def test_who_dawdles_in_the_goal_is_discounted_from_the_moment_it_could_have_finished() -> None:
    played = script(OSCILLATE, 5.0, 1000, 0.99)
    arrival = int(played.transition.arrived.nonzero()[0])

    assert played.credit[: arrival + 51].tolist() == [1.0] * (arrival + 51)
    assert float(played.credit[arrival + 150]) == pytest.approx(0.99**100, rel=1e-5)
    assert script(OSCILLATE, 5.0, 1000, None).credit.tolist() == [1.0] * 1000


def test_bonuses_are_paid_once() -> None:
    for behaviour in (OSCILLATE, WALK, FAST):
        assert total(behaviour, arrival_bonus=100.0, inner_fence_bonus=40.0) == pytest.approx(140.0)
    assert total(HOVER, arrival_bonus=100.0, inner_fence_bonus=40.0) == pytest.approx(40.0)
    assert total(STAND, arrival_bonus=100.0, inner_fence_bonus=40.0) == 0.0


def test_walking_costs_what_a_gait_costs() -> None:
    # 8.12 s on the way at a squared torque of 3000 against 300 when standing.
    cost = total(STAND, torques=-1.0e-5), total(WALK, torques=-1.0e-5)

    assert cost[0] == pytest.approx(-1000 * 300e-5, rel=1e-3)
    assert cost[1] < -800 * 3000e-5 * 0.95


# --- findings ---------------------------------------------------------------------------------------------------------


def test_a_finding_names_the_term_that_pays_the_degenerate_most() -> None:
    finishing = Return(WALK, 5.0, True, {"alive_bonus": 100.0, "arrival_bonus": 50.0, "position_tracking": 300.0})
    standing = Return(STAND, 5.0, False, {"alive_bonus": 900.0, "arrival_bonus": 0.0, "position_tracking": 400.0})
    running = Return(RUN, 5.0, False, {"alive_bonus": 10.0, "arrival_bonus": 0.0, "position_tracking": 4.0})

    (finding,) = findings_of([standing, running, finishing])

    assert (finding.degenerate, finding.finishing, finding.term) == (standing, finishing, "alive_bonus")
    assert str(finding) == (
        "from 5 m, 'stand still' earns 1300, 'walk at 0.6 m/s and stop' 450; most through alive_bonus 900 against 100"
    )
    assert finding.margin == 850


def test_a_clock_that_is_too_short_for_the_way_is_found() -> None:
    study = study_spec(fixed={"env": {"spawn_inner_radius": 8.0, "spawn_outer_radius": 9.0, "episode_seconds": 5.0}})

    report = audit_study(study)

    assert not report.ok
    assert "no scripted walk finishes within the clock; raise env.episode_seconds" in render(report)
    assert "too slow" in render(report)
    assert start_warnings(report)[0].startswith("The clock is too short: from 8 m, no scripted walk finishes")


@pytest.mark.parametrize(
    "path", sorted({*STUDIES.glob("*.yaml")} - {*STUDIES.glob("curriculum_*")}), ids=lambda path: path.stem
)
def test_the_shipped_studies_pass(path: Path) -> None:
    report = audit_study(load_study(path))

    assert report.ok, render(report)
    assert report.points > 0
    assert len(report.warnings) < 0.1 * report.points
    assert start_warnings(report) == []


KNOWN_CASE: dict[str, Any] = {
    "env": {"episode_seconds": 30.0},
    "reward": {"alive_bonus": 1.5, "arrival_bonus": 50.0},
}


def test_the_known_case_of_the_field_is_flagged() -> None:
    report = audit_study(study_spec(fixed=KNOWN_CASE))

    assert not report.ok
    assert {finding.term for finding in report.findings} == {"alive_bonus"}
    assert all(finding.degenerate.behaviour is HOVER for finding in report.findings)
    alive = [item.terms["alive_bonus"] for item in report.returns if item.behaviour is STAND]
    assert alive == pytest.approx([4500.0, 4500.0])
    assert "FAILED  from 2 m, 'hover at 0.52 m' earns" in render(report)
    (warning,) = start_warnings(report)
    assert "'hover at 0.52 m'" in warning
    assert "alive_bonus" in warning


def test_ends_and_random_points_of_the_space_are_tried_and_only_warn() -> None:
    space = {"reward": {"alive_bonus": {"type": "uniform", "low": 0.05, "high": 8.0, "prior": 0.15}}}
    study = study_spec(search_space={**space, "env": {"reset_pose": {"type": "choice", "values": ["default", "zero"]}}})

    report = audit_study(study)

    assert report.ok
    assert report.points == 2 + 2 + 64
    labels = [label for label, _ in report.warnings]
    assert "reward.alive_bonus=8" in labels
    assert "reward.alive_bonus=0.05" not in labels
    assert 0.3 * 64 < sum(label.startswith("random point") for label in labels) < 64
    assert all("(reward.alive_bonus=" in label for label in labels if label.startswith("random"))
    assert "warning search space: in " in render(report)


def test_points_that_a_constraint_excludes_are_not_audited() -> None:
    study = study_spec(
        search_space={"reward": {"alive_bonus": {"type": "uniform", "low": 0.05, "high": 8.0, "prior": 0.15}}},
        constraints=[{"skip_if": "reward.alive_bonus > 0.5", "reason": "pays for living"}],
    )

    report = audit_study(study)

    assert report.warnings == []
    assert report.points < 20


def test_the_command_exits_with_one_when_the_priors_fail(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    good = (STUDIES / "quickstart.yaml").read_text()
    bad = good.replace("fixed: ", "fixed:\n  reward: {alive_bonus: 1.5}\n#").replace(
        "env: {spawn_inner_radius: 2.0,", "env: {episode_seconds: 30, spawn_inner_radius: 2.0,"
    )
    (tmp_path / "bad.yaml").write_text(bad)

    passed = CliRunner().invoke(app, ["audit", str(STUDIES / "quickstart.yaml")])
    failed = CliRunner().invoke(app, ["audit", str(tmp_path / "bad.yaml")])

    assert (passed.exit_code, failed.exit_code) == (0, 1), failed.output
    assert "finishing pays most, from every distance" in passed.output
    assert "alive_bonus" in failed.output
