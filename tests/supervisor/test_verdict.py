"""What the end of an attempt means, as a table."""

from __future__ import annotations

import pytest

from vbot_campaign.events import EXIT_FENCED, Ended, Result
from vbot_campaign.supervisor.verdict import Ending, Fate, judge

ASKED = {"asked_to_stop": True}
STUCK = {"progressed": False}
HUNG = {"hung": "no env step for 301 s"}
OOM = {"oom_killed": True}


def result(state, reason="", **more):
    return Result(state=Ended(state), reason=reason, attempt=1, env_steps=1000, iteration=7, **more)


@pytest.mark.parametrize(
    ("written", "code", "prune_reason", "end", "fate", "systematic"),
    [
        (result("finished", score=0.5), 0, None, {}, Fate.COMPLETE, False),
        (result("finished"), 0, None, {}, Fate.FAILED, True),
        (result("finished", score=float("nan")), 0, None, {}, Fate.FAILED, True),
        # it reached its end before it saw the pruner's request
        (result("finished", score=0.5), 0, "median", ASKED, Fate.COMPLETE, False),
        (result("stopped", "pruned"), 0, "median", ASKED, Fate.PRUNED, False),
        (result("stopped", "SIGTERM"), 0, None, ASKED, Fate.STOPPED, False),
        # someone else sent it a SIGTERM: no death, unless that keeps it from getting anywhere
        (result("stopped", "SIGTERM"), 0, None, {}, Fate.STOPPED, False),
        (result("stopped", "SIGTERM"), 0, None, STUCK, Fate.DIED, False),
        (result("stopped", "SIGTERM"), 0, None, {**ASKED, **STUCK}, Fate.STOPPED, False),
        (result("disk_full", "agent_5.pt"), 12, None, {}, Fate.STOPPED, False),
        (result("disk_full", "agent_5.pt"), 12, None, STUCK, Fate.DIED, False),
        (result("diverged", "loss is nan"), 10, None, {}, Fate.FAILED, False),
        (result("out_of_memory", "CUDA"), 11, None, {}, Fate.OUT_OF_MEMORY, False),
        (result("out_of_memory", "CUDA"), 11, "median", ASKED, Fate.PRUNED, False),
        (result("invalid", "no such term"), 2, None, {}, Fate.FAILED, True),
        (result("failed", "KeyError"), 1, None, {}, Fate.FAILED, True),
        # without a result: the exit code has the same meaning as in a result
        (None, 1, None, {}, Fate.FAILED, True),
        (None, 2, None, {}, Fate.FAILED, True),
        (None, 10, None, {}, Fate.FAILED, False),
        (None, 11, None, {}, Fate.OUT_OF_MEMORY, False),
        # the kernel's SIGKILL for want of memory; of an adopted worker nobody knows the code
        (None, -9, None, OOM, Fate.OUT_OF_MEMORY, False),
        (None, None, None, OOM, Fate.OUT_OF_MEMORY, False),
        # another attempt owns the folder
        (None, EXIT_FENCED, None, {}, Fate.STOPPED, False),
        # anything else is a death, to be tried again
        (None, 0, None, {}, Fate.DIED, False),
        (None, 3, None, {}, Fate.DIED, False),
        (None, -9, None, {}, Fate.DIED, False),
        (None, None, None, {}, Fate.DIED, False),
        # killed by the supervisor: the trial is none the worse for it
        (None, -9, None, ASKED, Fate.STOPPED, False),
        (None, -9, "median", ASKED, Fate.PRUNED, False),
        # ended by the watchdog, whichever of its signals did it
        (None, -9, None, HUNG, Fate.DIED, False),
        (None, 1, None, HUNG, Fate.DIED, False),
        (result("stopped", "SIGTERM"), 0, None, HUNG, Fate.DIED, False),
        (result("finished", score=0.5), 0, None, HUNG, Fate.COMPLETE, False),
        (None, -9, "median", HUNG, Fate.PRUNED, False),
    ],
)
def test_judge(written, code, prune_reason, end, fate, systematic):
    verdict = judge(written, Ending(code=code, words="in words", **end), prune_reason)
    assert (verdict.fate, verdict.is_systematic) == (fate, systematic)


@pytest.mark.parametrize(
    ("written", "end", "words"),
    [
        (result("diverged", "loss is nan"), {}, "diverged in iteration 7: loss is nan"),
        (result("failed", "no term x"), {}, "failed: no term x"),
        (result("out_of_memory", "CUDA"), {}, "out of memory: CUDA"),
        (result("stopped", "signal SIGTERM"), {}, "stopped from outside: signal SIGTERM"),
        (result("stopped", "signal SIGTERM"), HUNG, "no env step for 301 s"),
        (None, OOM, "out of memory: killed by SIGKILL"),
        (None, {}, "killed by SIGKILL"),
    ],
)
def test_the_reason_says_what_happened(written, end, words):
    assert judge(written, Ending(code=-9, words="killed by SIGKILL", **end)).reason == words


def test_failures_are_of_one_kind_by_the_line_that_names_the_exception():
    def kind(state, reason, error=None):
        return judge(result(state, reason, error=error), Ending()).kind

    trace = "Traceback (most recent call last):\n  File 'a.py', line {}\nKeyError: 'arrival'\n"
    assert kind("failed", "'arrival'", trace.format(3)) == kind("failed", "'arrival'", trace.format(88))
    assert kind("failed", "a") != kind("failed", "b")
    assert kind("failed", "a") != kind("invalid", "a")
    assert kind("invalid", "trials/0003: bad\nmore") == kind("invalid", "trials/0017: bad\nless")
    assert kind("failed", "<Env at 0x7f3a>") == kind("failed", "<Env at 0x9bc1d>")


@pytest.mark.parametrize(
    ("written", "code", "end", "fate"),
    [
        (result("stopped", "paused"), 0, ASKED, Fate.PAUSED),
        # it did not stop in time and was killed, or the study was stopped meanwhile
        (None, -9, ASKED, Fate.PAUSED),
        (result("stopped", "SIGTERM"), 0, ASKED, Fate.PAUSED),
        # it reached its end before it saw the request
        (result("finished", score=0.5), 0, ASKED, Fate.COMPLETE),
        (result("diverged", "loss is nan"), 10, ASKED, Fate.FAILED),
        (result("out_of_memory", "CUDA"), 11, ASKED, Fate.OUT_OF_MEMORY),
        (None, -9, HUNG, Fate.DIED),
    ],
)
def test_a_paused_trial_waits_and_has_not_died(written, code, end, fate):
    verdict = judge(written, Ending(code=code, words="in words", **end), is_paused=True)
    assert verdict.fate is fate
    assert Fate.PAUSED.goes_on
