"""The parts of a budget, and budgets that are raised."""

from __future__ import annotations

import pytest

from tests.support.study_text import study_text
from vbot_campaign.errors import SpecError
from vbot_campaign.spec.budget import budget_words, changes_in_words, phase_budget, raised, with_totals
from vbot_campaign.spec.loading import study_from_text
from vbot_campaign.spec.study import Budget, PhaseShares

WHOLE = Budget(trials=40, hours=12.0, gpu_hours=20.0, env_steps=600_000_000)
SHARED = WHOLE.model_copy(update={"shares": PhaseShares(search=0.6, confirm=0.2, extend=0.2)})


def test_without_shares_the_search_may_use_all_and_what_follows_has_no_limit() -> None:
    assert phase_budget(WHOLE, "search") == WHOLE
    assert phase_budget(WHOLE, "confirm", {"hours": 12.0}) == Budget()


def test_a_phase_has_its_share_and_what_the_phases_before_it_left() -> None:
    search = phase_budget(SHARED, "search")
    assert search == Budget(trials=40, hours=0.6 * 12, gpu_hours=12.0, env_steps=360_000_000)
    used = {"hours": 6.2, "gpu_hours": 12.5, "env_steps": 360_000_000}
    confirm = phase_budget(SHARED, "confirm", used)  # type: ignore[arg-type]
    assert confirm.trials is None
    assert confirm.hours == pytest.approx(3.4)  # 0.8 x 12 - 6.2: an hour was left
    assert confirm.gpu_hours == pytest.approx(3.5)  # half an hour too much was used
    assert confirm.env_steps == 120_000_000
    spent = phase_budget(SHARED, "extend", {"hours": 13.0})
    assert spent.hours == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "expected", "words"),
    [
        ({"hours": "+4"}, {"hours": 16.0}, ["budget of hours: 12 -> 16"]),
        ({"hours": "16"}, {"hours": 16.0}, ["budget of hours: 12 -> 16"]),
        ({"trials": "+8"}, {"trials": 48}, ["budget of trials: 40 -> 48"]),
        ({"env_steps": "+50M"}, {"env_steps": 650_000_000}, ["budget of env steps: 600,000,000 -> 650,000,000"]),
        ({"gpu_hours": "+0.5", "trials": "40"}, {"gpu_hours": 20.5}, ["budget of GPU-hours: 20 -> 20.5"]),
    ],
)
def test_a_budget_is_raised_by_so_much_or_to_so_much(changes, expected, words) -> None:
    after = raised(WHOLE, changes)
    assert after == WHOLE.model_copy(update=expected)
    assert changes_in_words(WHOLE, after) == words


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hours": "4"}, r"--budget-hours 4: is less than the stored 12 hours; .* --budget-hours \+4"),
        ({"hours": "soon"}, "--budget-hours soon: expected a positive number of hours"),
        ({"hours": "+-4"}, "expected a positive number of hours"),
        ({"trials": "+1.5"}, r"--trials 1.5: expected a positive whole number"),
        ({"env_steps": "+0"}, "--env-steps 0: expected a positive whole number"),
    ],
)
def test_a_budget_is_not_lowered_and_not_raised_by_nonsense(changes, message) -> None:
    with pytest.raises(SpecError, match=message):
        raised(WHOLE, changes)


def test_only_a_total_that_the_study_has_can_be_raised() -> None:
    with pytest.raises(SpecError, match="no budget of GPU-hours to raise; it has 8 trials, 2 hours"):
        raised(Budget(trials=8, hours=2.0), {"gpu_hours": "+4"})


def test_totals_of_the_command_line_replace_those_of_the_file() -> None:
    budget = with_totals(WHOLE, {"hours": "2.5", "trials": "8"})
    assert budget_words(budget) == ["8 trials", "2.5 hours", "20 GPU-hours", "600,000,000 env steps"]
    with pytest.raises(
        SpecError, match=r"adds to the budget of a stored study: vbot-campaign resume NAME --trials \+8"
    ):
        with_totals(WHOLE, {"trials": "+8"})


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("{}", "sets no limit; give at least one of trials, hours, gpu_hours, env_steps"),
        ("{trials: 4, shares: {search: 0.6}}", "divide hours, gpu_hours or env_steps, but the budget has none"),
        ("{hours: 4, shares: {search: 0.6, confirm: 0.3, extend: 0.2}}", "add up to 1.1; together they are at most 1"),
        ("{hours: 4, shares: {confirm: 0.3}}", "budget.shares.search"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(budget: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        study_from_text(study_text(("budget: {trials: 10}", f"budget: {budget}")))
