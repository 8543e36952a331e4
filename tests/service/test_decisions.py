"""What the service does next, without a process, a clock or a database."""

from __future__ import annotations

from typing import Any

import pytest

from vbot_campaign.service.decisions import (
    FIRST_PAUSE_S,
    LONG_LIFE_S,
    MAX_DEATHS,
    Adopt,
    AskToStop,
    End,
    Ending,
    Item,
    Kill,
    Launch,
    Leave,
    Requeue,
    Rest,
    Share,
    Situation,
    Stop,
    Word,
    plan,
)
from vbot_campaign.study.submissions import QueueState

WHOLE: Share = ()
LEFT, RIGHT = ("gpu:a", "cpu:0"), ("gpu:b", "cpu:1")


def queued(number: int, **more: Any) -> Item:
    return Item(number, QueueState.QUEUED, **more)


def running(number: int, **more: Any) -> Item:
    return Item(number, QueueState.RUNNING, was_begun=True, **more)


def ended(word: Word, code: int | None, reason: str = "", words: str = "", **more: Any) -> Item:
    return running(1, ending=Ending(word, reason, code, words), **more)


def decide(*items: Item, shares: tuple[Share, ...] = (WHOLE,), stop: Stop = Stop.NO) -> list[Any]:
    return plan(Situation(items, shares, stop))


# --- whose turn it is -----------------------------------------------------------------------------------------------


def test_the_first_in_the_queue_starts_and_the_others_wait() -> None:
    assert decide(queued(3), queued(1)) == [Launch(3, WHOLE, again=False)]
    assert decide(running(3), queued(1)) == []
    assert decide(queued(3, was_begun=True)) == [Launch(3, WHOLE, again=True)]


def test_each_place_has_a_part_of_the_machine_of_its_own() -> None:
    both = (LEFT, RIGHT)
    started = decide(queued(1), queued(2), queued(3), shares=both)
    assert started == [Launch(1, LEFT, again=False), Launch(2, RIGHT, again=False)]
    assert decide(running(1, share=LEFT), queued(2), shares=both) == [Launch(2, RIGHT, again=False)]
    assert decide(running(1, share=RIGHT), queued(2), shares=both) == [Launch(2, LEFT, again=False)]


def test_whoever_has_the_whole_machine_is_waited_for() -> None:
    # A service with one place was replaced by one with two, or the other way round.
    assert decide(running(1, share=WHOLE), queued(2), shares=(LEFT, RIGHT)) == []
    assert decide(running(1, share=LEFT), queued(2), shares=(WHOLE,)) == []
    assert decide(running(1, share=("gpu:a", "gpu:b")), queued(2), shares=(LEFT, RIGHT)) == []


def test_one_that_somebody_else_runs_is_waited_for_and_not_started_twice() -> None:
    assert decide(queued(1, is_foreign=True), queued(2), shares=(LEFT, RIGHT)) == [Adopt(1)]


# --- what came of it ------------------------------------------------------------------------------------------------


def test_ends_by_exit_code_and_by_what_the_database_says() -> None:
    assert decide(ended(Word.FINISHED, 0, "all done")) == [End(1, QueueState.FINISHED, "all done")]
    assert decide(ended(Word.USED_UP, 0, "2 hours")) == [End(1, QueueState.FINISHED, "2 hours")]
    assert decide(ended(Word.FAILED, 1, "two bugs")) == [End(1, QueueState.FAILED, "two bugs")]
    assert decide(ended(Word.FAILED, None, "two bugs")) == [End(1, QueueState.FAILED, "two bugs")]
    assert decide(ended(Word.STOPPED, 0, "on request")) == [End(1, QueueState.CANCELLED, "by another hand: on request")]


def test_one_that_ended_unseen_is_asked_once_more_because_a_confirmation_may_be_left() -> None:
    for word in (Word.FINISHED, Word.USED_UP):
        assert decide(ended(word, None, share=LEFT)) == [Launch(1, LEFT, again=True)]


def test_what_the_command_line_refuses_is_not_tried_again() -> None:
    assert decide(ended(Word.UNTOUCHED, 2, words="x.yaml:3: wrong")) == [End(1, QueueState.FAILED, "x.yaml:3: wrong")]
    # A disk that is full in the middle of a study is no refusal.
    (rest,) = decide(ended(Word.DIED, 2, words="disk is full"))
    assert rest == Rest(1, 1, FIRST_PAUSE_S, "its supervisor died: exit code 2: disk is full")


@pytest.mark.parametrize("word", [Word.UNTOUCHED, Word.DIED, Word.FINISHED])
def test_a_death_is_followed_by_a_pause_that_grows(word: Word) -> None:
    pauses = []
    for deaths in range(MAX_DEATHS - 1):
        (rest,) = decide(ended(word, -9, deaths=deaths))
        assert isinstance(rest, Rest)
        assert rest.deaths == deaths + 1
        assert "signal 9" in rest.reason
        pauses.append(rest.pause_s)
    assert pauses == [5.0, 15.0, 45.0, 135.0]
    (end,) = decide(ended(word, -9, deaths=MAX_DEATHS - 1))
    assert isinstance(end, End)
    assert end.state is QueueState.FAILED
    assert end.reason == "its supervisor died 5 times in a row, the last time: signal 9"


def test_a_death_after_a_long_life_begins_a_new_row() -> None:
    (rest,) = decide(ended(Word.DIED, -9, deaths=MAX_DEATHS - 1, lived_s=LONG_LIFE_S))
    assert isinstance(rest, Rest)
    assert rest.deaths == 1


def test_one_that_rests_keeps_its_place_until_its_pause_is_over() -> None:
    assert decide(running(1, pause_s=3.0), queued(2)) == []
    assert decide(running(1, pause_s=0.0), queued(2)) == [Launch(1, WHOLE, again=True)]
    assert decide(running(1, pause_s=3.0, wanted="cancel"), queued(2))[0] == End(
        1, QueueState.CANCELLED, "on request; its trials can be resumed"
    )


# --- stop and cancel ------------------------------------------------------------------------------------------------


def test_a_cancelled_one_is_asked_to_stop_and_the_next_starts_when_it_has() -> None:
    assert decide(running(1, wanted="cancel"), queued(2)) == [AskToStop(1, "cancel")]
    (end,) = decide(ended(Word.STOPPED, 0, wanted="cancel"))
    assert isinstance(end, End)
    assert end.state is QueueState.CANCELLED
    assert decide(ended(Word.FINISHED, 0, "done", wanted="cancel")) == [End(1, QueueState.FINISHED, "done")]


def test_a_drain_stops_what_runs_starts_nothing_and_leaves_when_nothing_runs() -> None:
    assert decide(running(1), queued(2), shares=(LEFT, RIGHT), stop=Stop.DRAIN) == [AskToStop(1, "requeue")]
    assert decide(ended(Word.STOPPED, 0), queued(2), stop=Stop.DRAIN) == [Requeue(1, "the service was stopped")]
    assert decide(ended(Word.DIED, -9), stop=Stop.DRAIN) == [Requeue(1, "the service was stopped")]
    assert decide(running(1, pause_s=3.0), stop=Stop.DRAIN) == [Requeue(1, "the service was stopped")]
    assert decide(ended(Word.FINISHED, 0), stop=Stop.DRAIN) == [End(1, QueueState.FINISHED, "")]
    assert decide(queued(2), stop=Stop.DRAIN) == [Leave()]
    assert decide(stop=Stop.DRAIN) == [Leave()]


def test_a_second_signal_has_workers_killed() -> None:
    assert decide(running(1), running(2, share=LEFT, wanted="cancel"), stop=Stop.KILL) == [
        AskToStop(1, "requeue"),
        Kill(1),
        AskToStop(2, "cancel"),
        Kill(2),
    ]


def test_what_an_earlier_service_was_draining_goes_back_to_the_queue() -> None:
    assert decide(running(1, wanted="requeue")) == [AskToStop(1, "requeue")]
    assert decide(ended(Word.STOPPED, None, wanted="requeue")) == [Requeue(1, "the service was stopped")]
