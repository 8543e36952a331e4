"""Rules over GPUs, budget and search, and the telling of alerts: state in, alerts out."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from tests.support.builders import study_spec
from tests.support.snapshots import START, make_failed, make_pruned, make_trial
from vbot_campaign import fs
from vbot_campaign.spec.study import AlertSettings, Budget
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import CampaignStudy
from vbot_campaign.supervisor.alerts import ADVICE, Alert, GpuRules, budget_alerts, end_alert, no_improvement
from vbot_campaign.supervisor.budget import BudgetUse
from vbot_campaign.supervisor.decisions import DecisionLog
from vbot_campaign.supervisor.gpus import GpuReading
from vbot_campaign.supervisor.notify import Silence
from vbot_campaign.supervisor.teller import Teller

GPU = GpuReading(0, "GPU-a", "Test 80GB", 40_000.0, 80_000.0, 0.9, 60.0, None)
FULL = dataclasses.replace(GPU, memory_used_mb=74_400.0)
HOT = dataclasses.replace(GPU, temperature_c=91.0)
SLOW = dataclasses.replace(GPU, throttled="too hot: the driver lowers the clock")


def looks(*readings, **settings):
    """Return the messages that a row of readings brings, each with the number of its look."""
    rules = GpuRules(AlertSettings(**settings), ["GPU-a"])
    return [(i, a.cause, a.message) for i, reading in enumerate(readings) for a in rules.look([reading])]


# --- GPUs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "cause", "words"),
    [
        (FULL, "gpu_memory", "GPU 0 (Test 80GB): 74.4 of 80.0 GB (93%) of its memory are in use"),
        (HOT, "gpu_temperature", "GPU 0 (Test 80GB): 91 °C, more than 87"),
        (SLOW, "gpu_throttled", "GPU 0 (Test 80GB) runs slower than it could: too hot: the driver lowers the clock"),
    ],
)
def test_a_state_that_lasts_is_told_once_until_it_is_over(bad, cause, words):
    assert looks(*[bad] * 9) == [(2, cause, words)]
    assert looks(bad, bad, GPU, bad, bad) == [], "a peak of a moment is none"
    assert looks(*[bad] * 4, GPU, *[bad] * 3) == [(2, cause, words), (7, cause, words)]


def test_a_limit_that_is_crossed_all_the_time_is_told_once():
    warm = dataclasses.replace(GPU, temperature_c=86.0)
    fullish = dataclasses.replace(GPU, memory_used_mb=70_000.0)
    assert [i for i, *_ in looks(*[HOT] * 3, *[warm, HOT] * 5)] == [2]
    assert [i for i, *_ in looks(*[FULL] * 3, *[fullish, FULL] * 5)] == [2]


def test_the_limits_can_be_set():
    assert looks(*[FULL] * 5, gpu_memory_percent=95) == []
    assert looks(*[GPU] * 5, gpu_memory_percent=40)[0][1] == "gpu_memory"
    assert looks(*[HOT] * 5, gpu_temperature_c=95) == []


def test_what_a_gpu_does_not_tell_and_gpus_of_others_bring_no_alert():
    assert looks(*[dataclasses.replace(GPU, temperature_c=None)] * 5) == []
    rules = GpuRules(AlertSettings(), ["GPU-b"])
    assert [alert for _ in range(5) for alert in rules.look([FULL, HOT])] == []


# --- budget and search ------------------------------------------------------------------------------------------


def test_a_budget_that_is_nearly_used_is_told_in_the_same_words():
    budget = Budget(trials=20, hours=12, env_steps=1_000_000)
    assert list(budget_alerts(budget, BudgetUse(17, 10.7, 899_999))) == []
    words = [a.message for a in budget_alerts(budget, BudgetUse(18, 10.8, 900_000))]
    assert words == [
        "90% of the budget of trials (20) is used",
        "90% of the budget of hours (12 h) is used",
        "90% of the budget of env steps (1,000,000) is used",
    ]
    assert [a.message for a in budget_alerts(budget, BudgetUse(20, 11.9, 999_999))] == words


def test_a_short_budget_of_trials_is_not_nearly_used_with_its_last_trial():
    assert list(budget_alerts(Budget(trials=4), BudgetUse(4))) == []


def ended(trial, minute):
    return dataclasses.replace(trial, ended=START + timedelta(minutes=minute))


def test_no_improvement_counts_the_trials_that_ended_since_the_best():
    trials = [ended(make_trial(0, score=0.5), 1), ended(make_trial(1, score=0.8), 2)]
    trials += [ended(make_pruned(n), n + 1) for n in range(2, 4)] + [ended(make_failed(4), 9)]
    assert no_improvement(trials, 3) is None, "a failed trial says nothing about the space"
    trials.append(ended(make_trial(5, score=0.8), 10))
    alert = no_improvement(trials, 3)
    assert (alert.level, alert.trial, alert.once) == ("info", 1, True)
    assert alert.message == "3 trials ended since the best one, trial 1 with score 0.8000"
    assert no_improvement(trials, 0) is None
    assert no_improvement(trials[2:5], 1) is None, "nothing to compare with"
    trials.append(ended(make_trial(6, score=0.9), 11))
    assert no_improvement(trials, 3) is None


def test_the_end_is_told_with_the_result():
    trials = [make_trial(0, score=0.5), make_trial(1, score=0.8125), make_pruned(2)]
    alert = end_alert("finished", "all trials have ended", failed=False, trials=trials)
    assert (alert.level, alert.cause) == ("info", "finished")
    assert alert.message == "all trials have ended; 3 of 3 trials done, the best is trial 1 with score 0.8125"
    broken = end_alert("stopped", "2 trials in a row failed", failed=True, trials=[make_failed(0)])
    assert (broken.level, broken.message) == ("error", "2 trials in a row failed; 1 of 1 trials done, none complete")
    assert broken.advice == ADVICE["stopped"]


# --- telling ----------------------------------------------------------------------------------------------------


@pytest.fixture
def study(paths):
    storage = open_storage(paths)
    yield CampaignStudy.create(storage, study_spec())
    storage.close()


def teller(study, paths):
    return Teller(study, DecisionLog(paths.study("toy").decisions), Silence())


def test_an_alert_is_written_down_and_stored_with_everything_about_it(study, paths):
    alert = Alert("warning", "collapse", "the score fell", trial=3, once=True)
    assert teller(study, paths).tell(alert, attempt=2)
    (line,) = fs.read_lines(paths.study("toy").decisions)
    assert line.pop("time") == study.alerts[0].time
    advice = ADVICE["collapse"]
    assert line == {
        "v": 1, "action": "alert", "reason": "the score fell", "trial": 3, "attempt": 2,
        "level": "warning", "cause": "collapse", "advice": advice,
    }  # fmt: skip
    (view,) = study.alerts
    told = (view.level, view.cause, view.message, view.advice, view.trial)
    assert told == ("warning", "collapse", "the score fell", advice, 3)


def test_what_was_told_once_is_not_told_again_by_a_later_supervisor_either(study, paths):
    first = teller(study, paths)
    collapse = Alert("warning", "collapse", "from 0.9 to 0.1", trial=3, once=True)
    worker = Alert("warning", "kl", "KL is large", trial=3, told_at="2026-01-31T12:00:00Z", once=True)
    budget = Alert("info", "budget", "90% of the hours (12 h)", once=True)
    assert [first.tell(alert) for alert in (collapse, worker, budget, collapse, worker, budget)] == [True] * 3 + [
        False
    ] * 3
    later = teller(study, paths)
    reworded = dataclasses.replace(collapse, message="from 0.9 to 0.12")
    assert not any(later.tell(alert) for alert in (reworded, worker, budget))
    news = [
        dataclasses.replace(collapse, trial=4),
        dataclasses.replace(worker, told_at="2026-01-31T13:00:00Z"),
        dataclasses.replace(budget, message="90% of the hours (24 h)"),
    ]
    assert all(later.tell(alert) for alert in news)
    assert study.alerts[1].time == "2026-01-31T12:00:00Z", "when the worker told it"


def test_what_comes_again_is_told_again(study, paths):
    disk = Alert("warning", "low_disk", "0.50 GB are free")
    one = teller(study, paths)
    assert one.tell(disk)
    assert one.tell(disk)
    assert len(study.alerts) == 2


def test_a_log_with_other_and_torn_lines_is_no_hindrance(study, paths):
    log = paths.study("toy").decisions
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(
        '{"action":"alert","reason":"old, without a cause"}\n{"action":"asked","reason":"\\"alert\\""}\n{"act'
    )
    one = teller(study, paths)
    assert one.tell(Alert("error", "disk_full", "no space", trial=0))
