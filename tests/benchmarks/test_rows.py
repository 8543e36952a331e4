"""The tables of the benchmarks."""

from __future__ import annotations

from tests.benchmarks.rows import Row, table, verdict


def test_a_broken_promise_is_said_plainly() -> None:
    rows = [
        Row("training", 19_999.4, "steps/s", floor=20_000),
        Row("environment", 45_000.0, "steps/s", floor=45_000),
        Row("task code", 25.0, "%", 1, ceiling=25),
        Row("memory", 500.0, "MB"),
    ]

    assert verdict(rows).splitlines() == [
        "1 of 3 floors hold.",
        "FAILS: training is 19,999 steps/s, promised at least 20,000.",
        "FAILS: task code is 25.0 %, promised below 25.",
    ]
    assert [line.rpartition(" ")[2] for line in table(rows).splitlines()] == ["FAILS", "holds", "FAILS", "MB"]


def test_kept_promises_are_one_line() -> None:
    assert verdict([Row("task code", 24.9, "%", 1, ceiling=25)]) == "1 of 1 floors hold."
