"""`history` finds what was tried before, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.support.snapshots import make_failed, make_pruned, make_running, make_spec, make_trial
from tests.support.stored_study import store_study
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study import open_storage
from vbot_campaign.study.snapshot import TrialView
from vbot_campaign.study.study import close_readers
from vbot_campaign.watch.history import Past, PastTrial, all_trials_page, load_past, similar_page
from vbot_campaign.watch.page import render_text

SPACE = {
    "ppo": {"learning_rate": {"type": "loguniform", "low": 1e-5, "high": 1e-3, "prior": 1e-3}},
    "reward": {"arrival_bonus": {"type": "uniform", "low": 50.0, "high": 150.0, "prior": 100.0}},
}


def spec(name: str = "planned", **overrides: Any) -> StudySpec:
    return make_spec(**{"study": name, "search_space": SPACE, "fixed": {}, **overrides})


def past(*trials: PastTrial) -> Past:
    return Past("runs", trials, studies=len({one.spec.study for one in trials}))


def old(study: StudySpec, trial: TrialView) -> PastTrial:
    return PastTrial(study, trial)


def point(rate: float, bonus: float) -> dict[str, Any]:
    return {"ppo.learning_rate": rate, "reward.arrival_bonus": bonus}


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if re.match(r"  \w+/\d+ ", line)]


def test_all_trials_come_best_first_and_failures_last() -> None:
    one, two = spec("one"), spec("two")
    found = past(
        old(one, make_failed(0)),
        old(one, make_pruned(1)),
        old(two, make_trial(0, score=0.9)),
        old(two, make_running(1)),
        old(one, make_trial(2)),
    )
    text = render_text(all_trials_page(found, 4))
    assert text.startswith("5 trials of 2 studies in runs, best first")
    assert [row[0] for row in rows(text)] == ["two/0", "one/2", "one/1", "one/0"]
    assert rows(text)[0] == ["two/0", "complete", "0.900", "50%", "75%", "80%", "600k", "6m00s", "2026-01-31"]
    assert "1 more: --limit 5" in text


def test_the_nearest_trials_come_first_with_what_they_achieved() -> None:
    before = spec("before")
    found = past(
        old(before, make_trial(0, parameters=point(1e-5, 100.0), score=0.9)),  # the whole range of one of two: 0.707
        old(before, make_trial(1, parameters=point(1e-3, 150.0))),  # half of it: 0.354
        old(before, make_trial(2, parameters=point(1e-3, 100.0))),
    )
    text = render_text(similar_page(found, spec(), 10))
    assert [(row[0], row[-1]) for row in rows(text)] == [
        ("before/2", "0.000"),
        ("before/1", "0.354"),
        ("before/0", "0.707"),
    ]
    assert "How before/2 differs\n  in nothing" in text
    assert ["reward.arrival_bonus", "150", "100", "50%"] in [line.split() for line in text.splitlines()]
    assert text.endswith(" show before 2")


def test_what_another_study_fixes_counts_and_is_named() -> None:
    before = spec(
        "before",
        search_space={"ppo": SPACE["ppo"]},
        fixed={"reward": {"arrival_bonus": 150.0}, "env": {"spawn_outer_radius": 9.0}},
        physics="motrixsim",
    )
    text = render_text(
        similar_page(past(old(before, make_trial(0, parameters={"ppo.learning_rate": 1e-3}))), spec(), 5)
    )
    lines = [line.split() for line in text.splitlines()]
    assert rows(text)[0][-1] == "0.354"
    assert ["reward.arrival_bonus", "150", "100", "50%"] in lines
    assert ["env.spawn_outer_radius", "9", "5", "fixed"] in lines
    assert ["physics", "motrixsim", "mujoco", "fixed"] in lines


def test_a_conditional_parameter_that_is_off_on_both_sides_is_no_difference() -> None:
    space = {
        "ppo": {
            **SPACE["ppo"],
            "entropy_loss_scale": {
                "type": "uniform",
                "low": 0.0,
                "high": 1.0,
                "prior": 1.0,
                "when": "ppo.learning_rate < 1e-4",
            },
        }
    }
    one = spec(search_space=space)
    text = render_text(similar_page(past(old(one, make_trial(0, parameters={"ppo.learning_rate": 1e-3}))), one, 5))
    assert rows(text)[0][-1] == "0.000"


def test_nothing_like_it_is_said(tmp_path: Path) -> None:
    assert "Nothing like it has been tried" in render_text(similar_page(past(), spec(), 5))
    assert "Nothing has been tried yet" in render_text(all_trials_page(load_past(CampaignPaths(tmp_path)), 5))


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[CampaignPaths]:
    paths = CampaignPaths(tmp_path / "runs")
    store_study(paths)
    yield paths
    close_readers()


def test_all_studies_of_the_database_are_read_but_those_of_others(stored: CampaignPaths) -> None:
    storage = open_storage(stored)
    optuna.create_study(study_name="foreign", storage=storage.optuna)
    storage.close()
    found = load_past(stored)
    assert [one.name for one in found.trials] == ["walk/0", "walk/1", "walk/2"]
    text = render_text(all_trials_page(found, 20))
    assert [row[0] for row in rows(text)] == ["walk/0", "walk/1", "walk/2"]
    assert "study 'foreign': has no definition" in " ".join(text.split())


def test_the_longest_name_of_a_study_fits_the_screen() -> None:
    long = spec("n" * 64)
    found = past(old(long, make_trial(100)))
    for page in (all_trials_page(found, 5), similar_page(found, long, 5)):
        lines = render_text(page[1:2]).splitlines()  # the table
        assert max(map(len, lines)) <= 80
        assert "".join(line.split()[0] for line in lines[1:]) == f"{long.study}/100"
