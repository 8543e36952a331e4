"""Following a trial through the files of its worker."""

from __future__ import annotations

import json

import pytest

from tests.support.builders import study_spec
from vbot_campaign import fs
from vbot_campaign.paths import CampaignPaths, TrialPaths
from vbot_campaign.spec.outcomes import EpisodeTotals
from vbot_campaign.spec.resolve import resolve_training
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import CampaignStudy
from vbot_campaign.supervisor.alerts import Alert
from vbot_campaign.supervisor.monitor import TrialMonitor


@pytest.fixture
def study(tmp_path):
    storage = open_storage(CampaignPaths(tmp_path))
    study = CampaignStudy.create(storage, study_spec())
    study.ask()
    yield study
    storage.close()


@pytest.fixture
def folder(tmp_path):
    folder = TrialPaths(tmp_path / "toy" / "trials" / "0000")
    folder.checkpoints.mkdir(parents=True)
    return folder


def attempt(study, first_env_step=0):
    return study.ledger.open_attempt(0, slot="cpu:0", first_env_step=first_env_step)


def monitor(study, folder, following=None):
    follow = TrialMonitor(study, 0, folder, resolve_training(study.spec, {}))
    follow.follow(following or attempt(study))
    return follow


def progress(iteration, success=5, memory=50.0, attempt=1):
    return {
        "kind": "progress",
        "attempt": attempt,
        "iteration": iteration,
        "env_steps": 1000 * iteration,
        "episodes": EpisodeTotals(finished=10, success=success).as_dict(),
        "timing": {"env_steps_per_s": 100.0 * iteration},
        "memory": {"rss_mb": memory, "device_mb": None},
    }


def many_episodes(iteration, success):
    return {**progress(iteration), "episodes": EpisodeTotals(finished=100, success=success).as_dict()}


def log(folder, *lines):
    for line in lines:
        fs.append_line(folder.metrics, line)


def steps(news):
    return [report.env_step for report in news.reports]


def test_lines_become_reports_and_bookkeeping(study, folder):
    follow = monitor(study, folder)
    assert not follow.poll().changed, "no file yet"
    log(folder, *[progress(i, memory=60 - i) for i in range(1, 5)])
    assert steps(follow.poll()) == [3000]
    trial = study.trial(0)
    assert (trial.env_steps, trial.env_steps_per_s, trial.reports) == (4000, 400.0, {3000: 0.5})
    assert trial.parts["success_rate"] == 0.5
    assert (trial.attempts[0].last_env_step, trial.attempts[0].memory_peak_mb) == (4000, 59.0)
    assert not follow.poll().changed


def test_a_new_monitor_finds_its_place_and_repeats_nothing(study, folder):
    log(folder, *[progress(i) for i in range(1, 8)])
    first = attempt(study)
    assert steps(monitor(study, folder, first).poll()) == [3000, 6000]
    follow = monitor(study, folder, first)
    assert steps(follow.poll()) == []
    log(folder, progress(8), progress(9))
    assert steps(follow.poll()) == [9000]


def test_a_worker_that_takes_lines_back_and_writes_them_again_changes_no_report(study, folder):
    follow = monitor(study, folder)
    log(folder, *[progress(i) for i in range(1, 9)])
    assert steps(follow.poll()) == [3000, 6000]
    kept = fs.read_lines(folder.metrics)[:5]
    fs.write_text(folder.metrics, "".join(json.dumps(line) + "\n" for line in kept))
    follow.poll()
    assert study.trial(0).env_steps == 5000
    log(folder, *[progress(i, success=9) for i in range(6, 10)])
    assert steps(follow.poll()) == [9000]
    # Iterations 7 and 8 counted when they were first seen, 9 is new: (5 + 5 + 9) / 30.
    assert study.trial(0).reports == {3000: 0.5, 6000: 0.5, 9000: pytest.approx(19 / 30)}


def test_lines_of_another_worker_that_are_incomplete_or_torn_are_passed_over(study, folder):
    follow = monitor(study, folder)
    log(folder, {"kind": "progress"}, {"kind": "evaluation", "score": 1.0}, {"hello": 1}, progress(1))
    with folder.metrics.open("a") as file:
        file.write('{"kind": "progress", "iterat')
    assert follow.poll().changed
    assert study.trial(0).env_steps == 1000


def test_alerts_are_passed_on_with_the_time_that_tells_them_apart(study, folder):
    follow = monitor(study, folder)
    log(folder, {"kind": "alert", "level": "error", "cause": "kl", "message": "KL is large", "time": "t1"})
    log(folder, {"kind": "alert", "level": "loud", "time": "t2"})
    first, second = follow.poll().alerts
    assert first == Alert("error", "kl", "KL is large", trial=0, told_at="t1", once=True)
    assert (second.level, second.cause, second.message) == ("warning", "worker", "worker")
    assert first.key != second.key
    fs.write_text(folder.metrics, folder.metrics.read_text())
    assert [alert.key for alert in follow.poll().alerts] == [first.key, second.key], "whoever tells them knows them"


def test_the_curve_is_handed_on_to_the_rules(study, folder):
    follow = monitor(study, folder)
    curve = [*range(10, 100, 10), 90, 90, 60, 30, 20, 10]
    log(folder, *[progress(i, success=success / 10) for i, success in enumerate(curve, start=1)])
    assert [alert.cause for alert in follow.poll().alerts] == [], "10 episodes an iteration are too few"
    log(folder, *[many_episodes(i, share) for i, share in enumerate(curve, start=len(curve) + 1)])
    (alert,) = follow.poll().alerts
    assert (alert.cause, alert.trial, alert.stop) == ("collapse", 0, False)


def test_checkpoints_are_booked_with_their_path_in_the_study(study, folder):
    line = {"file": "agent_5000.pt", "env_steps": 5000, "kind": "resume", "sha256": "ab", "bytes": 3}
    fs.append_line(folder.checkpoint_log, {**line, "time": "2026-01-31T23:59:59Z", "score": None, "parts": None})
    monitor(study, folder).poll()
    (checkpoint,) = study.trial(0).checkpoints
    assert checkpoint.path == "trials/0000/checkpoints/agent_5000.pt"


def test_only_a_result_of_the_attempt_itself_counts(study, folder):
    follow = monitor(study, folder)
    assert follow.result("t2") is None
    fs.write_json(
        folder.result, {"state": "stopped", "reason": "", "attempt": 1, "env_steps": 1, "iteration": 1, "token": "t1"}
    )
    assert follow.result("t2") is None
    assert follow.result("t1").state == "stopped"
    folder.result.write_text("{}")
    assert follow.result("t1") is None


# --- stale lines ------------------------------------------------------------------------------------------------


def test_late_lines_of_an_earlier_attempt_are_never_reported(study, folder):
    follow = monitor(study, folder)
    log(folder, *[progress(i) for i in range(1, 6)])
    follow.poll()
    follow.follow(attempt(study, first_env_step=5000))
    log(folder, progress(6), progress(7, memory=9000.0))  # of the first attempt, which was fenced meanwhile
    assert not follow.poll().changed
    log(folder, *[progress(i, success=9, attempt=2) for i in range(6, 10)])
    assert steps(follow.poll()) == [6000, 9000]
    trial = study.trial(0)
    # Iterations 4 and 5 of the first attempt and 6 of the second: (5 + 5 + 9) / 30.
    assert trial.reports == {3000: 0.5, 6000: pytest.approx(19 / 30), 9000: 0.9}
    assert [a.last_env_step for a in trial.attempts] == [5000, 9000]
    assert [a.memory_peak_mb for a in trial.attempts] == [50.0, 50.0]


def test_a_late_checkpoint_of_an_earlier_attempt_is_not_booked(study, folder):
    attempt(study)
    follow = monitor(study, folder, attempt(study, first_env_step=5000))
    line = {"kind": "resume", "sha256": "ab", "bytes": 3, "time": "2026-01-31T23:59:59Z"}
    for number, env_steps in ((1, 5000), (1, 8000), (2, 7000)):
        name = f"agent_{env_steps}.pt"
        fs.append_line(folder.checkpoint_log, {**line, "file": name, "env_steps": env_steps, "attempt": number})
    follow.poll()
    assert [checkpoint.env_steps for checkpoint in study.trial(0).checkpoints] == [5000, 7000]


def test_signs_of_life_are_those_of_the_attempt_itself(study, folder):
    follow = monitor(study, folder)
    log(folder, progress(1), progress(2), {"kind": "evaluation", "attempt": 1}, {"kind": "alert", "attempt": 1})
    follow.poll()
    assert follow.signs == 3
    follow.follow(attempt(study, first_env_step=2000))
    fs.write_text(folder.metrics, folder.metrics.read_text())  # the next attempt writes the file anew
    follow.poll()
    assert follow.signs == 0
    log(folder, progress(3, attempt=2))
    follow.poll()
    assert follow.signs == 1


def test_fewer_environments_make_shorter_iterations_and_repeat_no_report(study, folder):
    follow = monitor(study, folder)
    log(folder, *[progress(i) for i in range(1, 8)])
    assert steps(follow.poll()) == [3000, 6000]
    follow.follow(attempt(study, first_env_step=5000))
    halves = [{**progress(5 + i, success=9, attempt=2), "env_steps": 5000 + 500 * i} for i in range(1, 9)]
    log(folder, *halves)
    assert steps(follow.poll()) == [9000]
    # Iteration 7 of the first attempt stands for the steps up to 7000; then 7500, 8000, 8500 and 9000 are new.
    assert study.trial(0).reports[9000] == pytest.approx((5 + 4 * 9) / 50)


def test_an_attempt_that_went_back_behind_a_torn_checkpoint_began_there(study, folder):
    attempt(study)
    follow = monitor(study, folder, attempt(study, first_env_step=10_000))
    log(folder, *[progress(i) for i in range(1, 6)], *[progress(i, attempt=2) for i in range(6, 12)])
    follow.poll()
    assert (study.trial(0).attempts[1].first_env_step, study.trial(0).attempts[1].last_env_step) == (5000, 11_000)
    log(folder, progress(9, attempt=1))
    assert not follow.poll().changed, "and what the first one wrote beyond that is stale"
