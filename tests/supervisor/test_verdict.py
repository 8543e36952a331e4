"""What the end of an attempt means, as a table."""

from __future__ import annotations

import pytest

from vbot_campaign.events import Ended, Result
from vbot_campaign.supervisor.verdict import Fate, judge


def result(state, reason="", **more):
    return Result(state=Ended(state), reason=reason, attempt=1, env_steps=1000, iteration=1, **more)


@pytest.mark.parametrize(
    ("written", "code", "prune_reason", "asked", "fate", "systematic"),
    [
        (result("finished", score=0.5), 0, None, False, Fate.COMPLETE, False),
        (result("finished"), 0, None, False, Fate.FAILED, True),
        (result("finished", score=float("nan")), 0, None, False, Fate.FAILED, True),
        # it reached its end before it saw the pruner's request
        (result("finished", score=0.5), 0, "median", True, Fate.COMPLETE, False),
        (result("stopped", "pruned"), 0, "median", True, Fate.PRUNED, False),
        (result("stopped", "SIGTERM"), 0, None, True, Fate.STOPPED, False),
        # someone sent it a SIGTERM by hand
        (result("stopped", "SIGTERM"), 0, None, False, Fate.STOPPED, False),
        (result("diverged", "loss is nan"), 10, None, False, Fate.FAILED, False),
        (result("out_of_memory", "CUDA"), 11, None, False, Fate.FAILED, False),
        (result("invalid", "no such term"), 2, None, False, Fate.FAILED, True),
        (result("failed", "KeyError"), 1, None, False, Fate.FAILED, True),
        # without a result: the exit code has the same meaning as in a result
        (None, 1, None, False, Fate.FAILED, True),
        (None, 2, None, False, Fate.FAILED, True),
        (None, 10, None, False, Fate.FAILED, False),
        # anything else is a death, to be tried again
        (None, 0, None, False, Fate.DIED, False),
        (None, 3, None, False, Fate.DIED, False),
        (None, -9, None, False, Fate.DIED, False),
        (None, None, None, False, Fate.DIED, False),
        # killed by the supervisor: the trial is none the worse for it
        (None, -9, None, True, Fate.STOPPED, False),
        (None, -9, "median", True, Fate.PRUNED, False),
    ],
)
def test_judge(written, code, prune_reason, asked, fate, systematic):
    verdict = judge(written, code, "in words", prune_reason=prune_reason, asked_to_stop=asked)
    assert (verdict.fate, verdict.is_systematic) == (fate, systematic)
