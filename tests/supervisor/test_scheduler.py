"""The scheduler as a table: what is the case, and what to do."""

from __future__ import annotations

import pytest

from vbot_campaign.spec.study import Budget
from vbot_campaign.supervisor.budget import BudgetUse, may_ask, used_up
from vbot_campaign.supervisor.scheduler import (
    Ask,
    Finish,
    GiveUp,
    Kill,
    Running,
    Situation,
    Start,
    Stop,
    StopWorker,
    Waiting,
    plan,
)

SLOTS = ("cpu:0", "cpu:1")
TWO = (Running(0, "cpu:0"), Running(1, "cpu:1"))


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        # a free slot asks for one trial at a time, so that the sampler knows the first before it draws the second
        (Situation(SLOTS), [Ask("cpu:0")]),
        (Situation(SLOTS, running=TWO[:1]), [Ask("cpu:1")]),
        (Situation(SLOTS, running=TWO), []),
        # interrupted trials go before new ones, the lowest number first
        (Situation(SLOTS, waiting=(Waiting(5), Waiting(3))), [Start(3, "cpu:0"), Start(5, "cpu:1")]),
        (Situation(SLOTS, waiting=(Waiting(5),)), [Start(5, "cpu:0"), Ask("cpu:1")]),
        (Situation(SLOTS, running=TWO, waiting=(Waiting(2),)), []),
        # a trial that keeps dying is given up; its slot goes to the next
        (
            Situation(SLOTS[:1], waiting=(Waiting(2, 3), Waiting(4, 2))),
            [GiveUp(2, "3 attempts died"), Start(4, "cpu:0")],
        ),
        # nothing more to ask
        (Situation(SLOTS, may_ask=False), [Finish("finished", "all trials have ended")]),
        (Situation(SLOTS, running=TWO[:1], may_ask=False), []),
        (Situation(SLOTS, waiting=(Waiting(1),), may_ask=False), [Start(1, "cpu:0")]),
        # a pruned worker has its time to stop, then it is killed; its slot is taken until it is gone
        (Situation(SLOTS, running=(Running(0, "cpu:0", 5.0), TWO[1])), []),
        (Situation(SLOTS, running=(Running(0, "cpu:0", 121.0), TWO[1])), [Kill(0, "did not stop within 120 s")]),
        # a stop asks each worker once, starts nothing, and ends when the last is gone
        (
            Situation(SLOTS, running=TWO, waiting=(Waiting(2),), stop=Stop.ASK, stop_reason="SIGINT"),
            [StopWorker(0, "SIGINT"), StopWorker(1, "SIGINT")],
        ),
        (Situation(SLOTS, running=(Running(0, "cpu:0", 5.0),), stop=Stop.ASK, stop_reason="SIGINT"), []),
        (Situation(SLOTS, waiting=(Waiting(0),), stop=Stop.ASK, stop_reason="SIGINT"), [Finish("stopped", "SIGINT")]),
        (Situation(SLOTS, stop=Stop.ASK, stop_reason="SIGINT"), [Finish("stopped", "SIGINT")]),
        # the second signal kills
        (
            Situation(SLOTS, running=TWO, stop=Stop.KILL, stop_reason="SIGINT"),
            [Kill(0, "SIGINT"), Kill(1, "SIGINT")],
        ),
        # a budget that is used up stops running trials; with nothing left to resume the study is finished
        (Situation(SLOTS, running=TWO, used_up="12 h"), [StopWorker(0, "12 h"), StopWorker(1, "12 h")]),
        (Situation(SLOTS, waiting=(Waiting(0),), used_up="12 h"), [Finish("stopped", "12 h")]),
        (Situation(SLOTS, used_up="12 h"), [Finish("finished", "12 h")]),
    ],
)
def test_plan(situation, expected):
    assert plan(situation) == expected


@pytest.mark.parametrize(
    ("use", "may", "used"),
    [
        (BudgetUse(3, 0.5, 90), True, None),
        (BudgetUse(4, 0.5, 90), False, None),
        (BudgetUse(3, 1.0, 90), False, "budget of hours used (1 h)"),
        (BudgetUse(3, 0.5, 100), False, "budget of env steps used (100)"),
    ],
)
def test_budgets_are_totals_and_trials_that_were_asked_are_trained_to_their_end(use, may, used):
    budget = Budget(trials=4, hours=1.0, env_steps=100)
    assert (may_ask(budget, use), used_up(budget, use)) == (may, used)
