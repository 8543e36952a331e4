"""From progress lines to reports on the canonical grid."""

from __future__ import annotations

from tests.support.builders import study_spec
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.resolve import resolve_training
from vbot_campaign.study.objective import GridReporter


def reporter(report_points=10):
    # 30000 env steps, 1000 per iteration: a point every 3 iterations with 10 points, 3 points per 2 iterations with 45
    return GridReporter(resolve_training(study_spec(report_points=report_points), {}))


def line(iteration, finished=10, success=0):
    episodes = EpisodeTotals(finished=finished, success=success).as_dict()
    return {"kind": "progress", "iteration": iteration, "env_steps": 1000 * iteration, "episodes": episodes}


def feed(grid, lines):
    return [(report.env_step, report.score) for entry in lines for report in grid.feed(entry)]


def test_a_point_has_the_score_of_the_episodes_since_the_point_before():
    lines = [line(1, 10, 1), line(2, 10, 2), line(3, 20, 9), line(4, 10, 10), line(5, 10, 0), line(6, 10, 5)]
    assert feed(reporter(), lines) == [(3000, 12 / 40), (6000, 15 / 30)]


def test_an_iteration_that_passes_several_points_reports_them_all():
    # Points at 30000 * k / 45: 666, 1333, 2000 are passed by the iterations that end at 1000 and 2000.
    assert feed(reporter(45), [line(1, 10, 5), line(2, 10, 10)]) == [(666, 0.5), (1333, 1.0), (2000, 1.0)]


def test_a_point_without_episodes_repeats_the_score_before_it():
    lines = [line(i, 0) for i in range(1, 4)]
    lines += [line(i, 10, 4) for i in range(4, 7)]
    lines += [line(i, 0) for i in range(7, 10)]
    assert feed(reporter(), lines) == [(6000, 0.4), (9000, 0.4)], "and before the first episode there is none"


def test_lines_that_are_seen_twice_count_once():
    grid = reporter()
    first = [line(i, 10, i) for i in range(1, 5)]
    again = [line(i, 10, i) for i in range(3, 7)]
    assert feed(grid, first) + feed(grid, again) == [(3000, 6 / 30), (6000, 15 / 30)]


def test_the_last_iteration_reaches_the_last_point_and_none_comes_after():
    grid = reporter()
    steps = [step for step, _ in feed(grid, [line(i, 10, 5) for i in range(1, 33)])]
    assert steps == list(range(3000, 30_001, 3000))
