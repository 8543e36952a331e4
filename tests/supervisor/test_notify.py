"""Messages sent through the real apprise to real servers, which take them, refuse them or never answer."""

from __future__ import annotations

import socket
import sys
import threading

import pytest

from tests.support.mailbox import mailbox
from tests.support.toy_study import wait_until
from vbot_campaign.errors import NotificationError
from vbot_campaign.spec.study import NotifySettings
from vbot_campaign.study.snapshot import AlertView
from vbot_campaign.supervisor.notify import HOUR_S, VARIABLE, Notifier, Silence, Throttle, notifier_for, send_test

SECRET = "s3cret"


def alert(cause="collapse", level="warning", trial=None, message="the score fell", advice="look at it"):
    return AlertView("2026-01-31T12:00:00Z", level, cause, message, advice, trial)


def notifier(*urls, **settings):
    return Notifier(urls, "toy", NotifySettings.model_validate(settings))


def unused_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"json://user:{SECRET}@127.0.0.1:{free.getsockname()[1]}/"


# --- sending ----------------------------------------------------------------------------------------------------


def test_an_alert_arrives_with_what_to_do():
    with mailbox() as box:
        sender = notifier(box.url)
        sender.send(alert(trial=7))
        sender.close()
    (message,) = box.messages
    assert message["title"] == f"toy on {socket.gethostname()}: collapse"
    assert message["message"] == "trial 7: the score fell\n→ look at it"
    assert message["type"] == "warning"
    assert sender.problem() == ""


def test_the_level_chooses_what_is_sent_and_the_end_always_is():
    with mailbox() as box:
        sender = notifier(box.url, level="error")
        for view in (alert("a", "info"), alert("b", "warning"), alert("c", "error"), alert("finished", "info")):
            sender.send(view)
        sender.close()
    assert box.titles == ["c", "finished"]
    assert box.messages[0]["type"] == "failure"


def test_what_comes_too_often_is_summed_up_at_the_end():
    with mailbox() as box:
        sender = notifier(box.url, per_hour=3)
        for trial in (1, 1, 1, 2, 3, 4, 5):
            sender.send(alert(trial=trial))
        sender.send(alert("finished", "info"))
        sender.close()
    assert box.titles == ["collapse", "collapse", "collapse", "finished", "summary"]
    assert box.messages[-1]["message"] == "held back: 4 collapse", "two repeats of trial 1, and two beyond three"


# --- trouble ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [500, 404])
def test_a_server_that_refuses_is_named_once_by_its_place(answer, capfd):
    with mailbox() as good, mailbox(answer) as bad:
        sender = notifier(good.url, bad.url)
        sender.send(alert("a"))
        sender.send(alert("b"))
        sender.close()
    assert good.titles == bad.titles == ["a", "b"]
    assert sender.problem() == "address 2 (of 2) of VBOT_CAMPAIGN_NOTIFY did not take a message"
    assert sender.problem() == ""
    assert SECRET not in "".join(capfd.readouterr())


def test_nobody_listens():
    sender = notifier(unused_address())
    sender.send(alert())
    sender.close()
    assert sender.problem() == "address 1 (of 1) of VBOT_CAMPAIGN_NOTIFY did not take a message"


def test_a_server_that_never_answers_holds_nobody_up():
    held = threading.Event()
    with mailbox(held=held) as box:
        sender = notifier(box.url)
        for i in range(300):
            sender.send(alert(str(i)))
        wait_until(box.arrived.is_set)
        sender.close(timeout_s=0.2)
        assert sender.problem() == "the last messages were not sent within 0.2 s"
        sender.close()  # a second time waits for nothing
        assert not box.messages
        held.set()
        wait_until(lambda: not sender._thread.is_alive())


def test_addresses_that_apprise_cannot_read_are_named_by_their_place_and_the_others_are_used(capfd):
    with mailbox() as box:
        sender = notifier(f"nosuch://{SECRET}", box.url, f"{SECRET}")
        sender.send(alert())
        sender.close()
    assert box.titles == ["collapse"]
    problem = sender.problem()
    assert problem.startswith("addresses 1, 3 of VBOT_CAMPAIGN_NOTIFY cannot be read by apprise")
    assert SECRET not in problem + "".join(capfd.readouterr())


def test_without_apprise_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    sender = notifier("json://localhost")
    sender.send(alert())
    sender.close()
    assert "pip install 'vbot-campaign[notify]'" in sender.problem()


# --- the environment --------------------------------------------------------------------------------------------


def test_without_addresses_nothing_is_sent():
    assert type(notifier_for("toy", NotifySettings(), {})) is Silence
    assert type(notifier_for("toy", NotifySettings(), {VARIABLE: " \n"})) is Silence


def test_a_test_message_goes_to_every_address():
    with mailbox() as one, mailbox() as two:
        assert send_test({VARIABLE: f"{one.url}\n  {two.url}\n"}) == 2
    assert one.titles == two.titles == ["test"]


def test_a_test_message_that_does_not_arrive_is_an_error_without_the_address():
    with pytest.raises(NotificationError, match="VBOT_CAMPAIGN_NOTIFY is not set"):
        send_test({})
    with pytest.raises(NotificationError) as refused:
        send_test({VARIABLE: f"{unused_address()} nosuch://{SECRET}"})
    words = str(refused.value)
    assert words.startswith("address 1 (of 2) of VBOT_CAMPAIGN_NOTIFY did not take a message; address 2 (of 2) of")
    assert SECRET not in words
    assert len(words.splitlines()) == 1


# --- the throttle -----------------------------------------------------------------------------------------------


def test_the_same_thing_goes_once_in_an_hour():
    throttle = Throttle(per_hour=10)
    assert throttle.admits("gpu_memory", None, now=0.0)
    assert not throttle.admits("gpu_memory", None, now=HOUR_S - 1)
    assert throttle.admits("gpu_memory", 3, now=HOUR_S - 1), "another trial"
    assert throttle.admits("gpu_memory", None, now=HOUR_S)
    assert throttle.summary(HOUR_S) == "held back: 1 gpu_memory"
    assert throttle.summary(HOUR_S) == "", "said once"


def test_an_hour_has_room_for_so_many_and_the_end_comes_on_top():
    throttle = Throttle(per_hour=2)
    assert [throttle.admits("a", trial, now=100.0 * trial) for trial in range(4)] == [True, True, False, False]
    assert throttle.admits("finished", None, now=400.0)
    assert not throttle.admits("b", None, now=HOUR_S - 1)
    assert throttle.admits("b", 1, now=HOUR_S + 100.0)
    assert throttle.summary(HOUR_S + 100.0, at_least_s=HOUR_S) == "", "the first was held back at 200 s"
    assert throttle.summary(HOUR_S + 200.0, at_least_s=HOUR_S) == "held back: 2 a, 1 b"
