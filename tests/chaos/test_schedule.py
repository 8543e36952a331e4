"""The plan of a chaos run: the same for a seed, no fault left out."""

from __future__ import annotations

import pytest

from vbot_campaign.chaos.schedule import (
    MAX_GAP,
    MAX_SECONDS,
    MIN_GAP,
    MIN_SECONDS,
    Kind,
    Moment,
    available_kinds,
    plan_rounds,
)
from vbot_campaign.study.storage import BUSY_TIMEOUT_S


def test_a_seed_means_the_same_every_time() -> None:
    assert plan_rounds(40, 7, tuple(Kind)) == plan_rounds(40, 7, tuple(Kind))
    assert plan_rounds(40, 7, tuple(Kind)) != plan_rounds(40, 8, tuple(Kind))


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    assert plan_rounds(100, 3, tuple(Kind))[:14] == plan_rounds(14, 3, tuple(Kind))


@pytest.mark.parametrize("seed", range(20))
def test_no_fault_is_left_out(seed: int) -> None:
    kinds = tuple(Kind)
    planned = plan_rounds(3 * len(kinds), seed, kinds)
    assert [done.number for done in planned] == list(range(1, 3 * len(kinds) + 1))
    for block in range(3):
        part = planned[block * len(kinds) : (block + 1) * len(kinds)]
        assert {done.kind for done in part} == set(kinds)


def test_every_moment_comes_up() -> None:
    assert {done.moment for done in plan_rounds(200, 1, tuple(Kind))} == set(Moment)


def test_passing_faults_are_over_before_the_database_gives_up() -> None:
    planned = plan_rounds(300, 1, tuple(Kind))
    assert all(MIN_SECONDS <= done.seconds <= MAX_SECONDS < BUSY_TIMEOUT_S / 2 for done in planned)
    assert all(MIN_GAP <= done.gap <= MAX_GAP < 1 for done in planned)


def test_only_linux_can_limit_another_process() -> None:
    assert set(available_kinds("linux")) == set(Kind)
    assert set(Kind) - set(available_kinds("darwin")) == {Kind.WORKER_DISK_FULL, Kind.SUPERVISOR_DISK_FULL}
