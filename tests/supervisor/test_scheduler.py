"""The scheduler as a table: what is the case, and what to do."""

from __future__ import annotations

import pytest

from vbot_campaign.spec.study import Budget
from vbot_campaign.supervisor.budget import BudgetUse, may_ask, used_up
from vbot_campaign.supervisor.scheduler import (
    Ask,
    DumpStacks,
    EndPaused,
    Finish,
    GiveUp,
    Kill,
    Pause,
    Promote,
    Running,
    Situation,
    Start,
    Stop,
    StopWorker,
    Unpause,
    Waiting,
    plan,
)

SLOTS = ("cpu:0", "cpu:1")
TWO = (Running(0, "cpu:0"), Running(1, "cpu:1"))
PAUSED = "paused at rung 1 (score 0.3100, 4th of 9; 3 go on)"


def paused(trial, turn=None):
    return Waiting(trial, paused=PAUSED, promotable=turn)


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        # a free slot asks for one trial at a time, so that the sampler knows the first before it draws the second
        (Situation(SLOTS), [Ask("cpu:0")]),
        (Situation(SLOTS, running=TWO[:1]), [Ask("cpu:1")]),
        (Situation(SLOTS, running=TWO), []),
        # trials of other supervisors are waited for: one of those may die
        (Situation(SLOTS, may_ask=False, elsewhere=1), []),
        # interrupted trials go before new ones, the lowest number first
        (Situation(SLOTS, waiting=(Waiting(5), Waiting(3))), [Start(3, "cpu:0"), Start(5, "cpu:1")]),
        (Situation(SLOTS, waiting=(Waiting(5),)), [Start(5, "cpu:0"), Ask("cpu:1")]),
        (Situation(SLOTS, running=TWO, waiting=(Waiting(2),)), []),
        # a trial that keeps dying is given up; its slot goes to the next
        (
            Situation(SLOTS[:1], waiting=(Waiting(2, 3), Waiting(4, 2))),
            [GiveUp(2, "3 attempts died"), Start(4, "cpu:0")],
        ),
        # a trial that is paused at a rung leaves its slot to the next, until it is among the best there
        (Situation(SLOTS[:1], waiting=(paused(3),)), [Ask("cpu:0")]),
        (Situation(SLOTS[:1], waiting=(paused(3, 0),)), [Promote(3, "cpu:0")]),
        (Situation(SLOTS, waiting=(paused(3, 1), paused(7, 0), paused(5))), [Promote(7, "cpu:0"), Promote(3, "cpu:1")]),
        (Situation(SLOTS, waiting=(paused(3, 0), paused(5))), [Promote(3, "cpu:0"), Ask("cpu:1")]),
        (Situation(SLOTS[:1], waiting=(paused(3, 0), Waiting(6))), [Start(6, "cpu:0")]),
        (Situation(SLOTS, running=TWO, waiting=(paused(3, 0),)), []),
        # while one runs, it may come to the rung and let a paused one go on
        (Situation(SLOTS, running=TWO[:1], waiting=(paused(3),), may_ask=False), []),
        (Situation(SLOTS[:1], waiting=(paused(3), Waiting(6)), may_ask=False), [Start(6, "cpu:0")]),
        (Situation(SLOTS[:1], waiting=(paused(3), paused(4, 0)), may_ask=False), [Promote(4, "cpu:0")]),
        (
            Situation(SLOTS, waiting=(paused(3), paused(4)), may_ask=False),
            [EndPaused(3, f"{PAUSED}; no more trials come"), EndPaused(4, f"{PAUSED}; no more trials come")],
        ),
        # paused trials can be resumed after hours that ran out, as interrupted ones
        (Situation(SLOTS, waiting=(paused(3),), used_up="1 h", may_ask=False), [Finish("stopped", "1 h")]),
        (Situation(SLOTS, waiting=(paused(3, 0),), stop=Stop.ASK, stop_reason="SIGINT"), [Finish("stopped", "SIGINT")]),
        (Situation(SLOTS, waiting=(paused(3, 0),), free_gb=0.5, min_free_gb=1.0, paused=True), []),
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
        # a worker without a new env step: its stacks, a second later SIGTERM, and SIGKILL if that does not help
        (Situation(SLOTS, running=(Running(0, "cpu:0", silent_s=300.0), TWO[1])), []),
        (
            Situation(SLOTS, running=(Running(0, "cpu:0", silent_s=300.4), TWO[1])),
            [DumpStacks(0, "no env step for 300 s")],
        ),
        (Situation(SLOTS, running=(Running(0, "cpu:0", silent_s=301.0, hung_s=0.6), TWO[1])), []),
        (
            Situation(SLOTS, running=(Running(0, "cpu:0", silent_s=301.4, hung_s=1.0), TWO[1])),
            [StopWorker(0, "hangs")],
        ),
        (Situation(SLOTS, running=(Running(0, "cpu:0", 100.0, 401.4, hung_s=101.0), TWO[1])), []),
        (
            Situation(SLOTS, running=(Running(0, "cpu:0", 121.0, 422.4, hung_s=122.0), TWO[1])),
            [Kill(0, "did not stop within 120 s")],
        ),
        (
            Situation(SLOTS, running=(Running(0, "cpu:0", 11.0, 22.4, hung_s=12.0), TWO[1]), watchdog_s=10.0),
            [Kill(0, "did not stop within 10 s")],
        ),
        # its first iteration and the evaluation take longer
        (Situation(SLOTS, running=(Running(0, "cpu:0", silent_s=900.0, is_slow=True), TWO[1])), []),
        (
            Situation(SLOTS, running=(Running(0, "cpu:0", silent_s=901.0, is_slow=True), TWO[1])),
            [DumpStacks(0, "no env step for 901 s")],
        ),
        # one that was asked to stop anyway has its grace
        (Situation(SLOTS, running=(Running(0, "cpu:0", 5.0, 500.0), TWO[1])), []),
        (Situation(SLOTS, running=(Running(0, "cpu:0", 100.0, 9.0), TWO[1]), watchdog_s=10.0), []),
        # but not the whole of it when it is silent for longer than any worker that is well
        (
            Situation(SLOTS, running=(Running(0, "cpu:0", 11.0, 12.0), TWO[1]), watchdog_s=10.0),
            [Kill(0, "did not stop within 10 s")],
        ),
        # on a full disk nothing is started; what runs goes on, and a trial that keeps dying is given up all the same
        (
            Situation(SLOTS, running=TWO[:1], waiting=(Waiting(2), Waiting(3, 3)), free_gb=0.94, min_free_gb=1.0),
            [
                GiveUp(3, "3 attempts died"),
                Pause("0.94 GB are free in the runs folder, less than workers.min_free_gb (1): no attempt is started"),
            ],
        ),
        (Situation(SLOTS, waiting=(Waiting(2),), free_gb=0.94, min_free_gb=1.0, paused=True), []),
        (Situation(SLOTS, free_gb=0.94, min_free_gb=1.0, paused=True), []),
        # a little more than the least is needed to go on
        (Situation(SLOTS, free_gb=1.05, min_free_gb=1.0, paused=True), []),
        (Situation(SLOTS, free_gb=1.05, min_free_gb=1.0), [Ask("cpu:0")]),
        (
            Situation(SLOTS, free_gb=1.11, min_free_gb=1.0, paused=True),
            [Unpause("1.11 GB are free in the runs folder: attempts are started again"), Ask("cpu:0")],
        ),
        (Situation(SLOTS, free_gb=0.0, may_ask=False, min_free_gb=1.0), [Finish("finished", "all trials have ended")]),
        (Situation(SLOTS, free_gb=0.0), [Ask("cpu:0")]),
        # a worker that was adopted in a place that is no slot any more takes none of the others
        (Situation(SLOTS[:1], running=(Running(0, "cpu:3"),)), [Ask("cpu:0")]),
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
