"""Studies with something to tell: provoked for real, and found in the log, the database, the mirror and the post."""

from __future__ import annotations

import threading

import pynvml
import pytest
import yaml

from tests.support.builders import cpu_slots
from tests.support.mailbox import mailbox
from tests.support.nvml import GB, FakeGpu, FakeLibrary
from tests.support.toy_study import alert_lines, resume, run, states, wait_until
from vbot_campaign.exporters.mirrors import MirrorExporter
from vbot_campaign.exporters.verify import verify
from vbot_campaign.spec.training import ThreadSettings
from vbot_campaign.study.snapshot import TrialState
from vbot_campaign.study.study import load_snapshot
from vbot_campaign.supervisor import request_study_stop
from vbot_campaign.supervisor.notify import VARIABLE
from vbot_campaign.supervisor.slots import Slot

COMPLETE, PRUNED, FAILED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED
ONE = {"trials": 1}


def causes(paths):
    return [line["cause"] for line in alert_lines(paths)]


@pytest.fixture(scope="module")
def eventful(tmp_path_factory):
    """Return the runs folder of a study where much went wrong, and its outcome."""
    from vbot_campaign.paths import CampaignPaths

    paths = CampaignPaths(tmp_path_factory.mktemp("eventful") / "runs")
    plan = '{"1": {"*": "diverged"}, "2": {"1": "out_of_memory"}, "3": {"*": "exit 7"}}'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_PLAN", plan)
        patch.setenv("TOY_ITERATION_S", "0.001")
        outcome = run(
            paths,
            {"observers": (MirrorExporter(paths, "toy"),), "slots": cpu_slots(1)},
            budget={"trials": 4, "env_steps": 95_000},
            workers={"num_envs": 100, "slots": 2, "max_attempts": 1},
            alerts={"no_improvement_trials": 1},
        )
    return paths, outcome


def test_every_trouble_of_a_trial_is_told_with_level_and_advice(eventful):
    paths, _ = eventful
    lines = {line["cause"]: line for line in alert_lines(paths)}
    found = {cause: (line["level"], line.get("trial")) for cause, line in lines.items()}
    assert found == {
        "diverged": ("warning", 1),
        "out_of_memory": ("warning", 2),
        "repeated_failures": ("error", 3),
        "budget": ("info", None),
        "no_improvement": ("info", 0),
        "finished": ("info", None),
    }
    assert lines["diverged"]["reason"] == "diverged in iteration 16: as planned"
    assert lines["repeated_failures"]["reason"] == "1 attempts died, the last: exit code 7 without a result"
    assert lines["budget"]["reason"] == "90% of the budget of env steps (95,000) is used"
    assert lines["finished"]["reason"].endswith("4 of 4 trials done, the best is trial 0 with score 1.0000")
    assert all(line["advice"] for cause, line in lines.items() if cause != "finished")
    assert len(alert_lines(paths)) == len(lines), "each of them once"


def test_the_database_and_the_mirror_show_the_same_alerts(eventful):
    paths, outcome = eventful
    stored = load_snapshot(paths, "toy").alerts
    assert [(a.cause, a.message, a.advice) for a in stored] == [
        (line["cause"], line["reason"], line.get("advice", "")) for line in alert_lines(paths)
    ]
    assert outcome.snapshot.alerts == stored
    mirrored = yaml.safe_load(paths.study("toy").automl_state.read_text())["alerts"]
    assert [alert["cause"] for alert in mirrored] == [alert.cause for alert in stored]
    assert mirrored[-1] == {**vars(stored[-1])}
    assert verify(paths, "toy") == []


# --- trials that are stopped ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("behaviour", "cause"), [("collapse", "collapse"), ("gamed", "reward_hacking")])
def test_a_trial_can_be_stopped_for_its_curve(paths, toy, monkeypatch, behaviour, cause):
    toy({"0": {"*": behaviour}})
    monkeypatch.setenv("TOY_PATIENT", "1")
    outcome = run(paths, budget=ONE, alerts={cause: {"stop": True}})
    (trial,) = outcome.snapshot.trials
    assert trial.state is PRUNED
    assert trial.reason.startswith(f"{cause}: the ")
    assert trial.env_steps < 30_000
    assert trial.score == trial.reports[max(trial.reports)], "the last score is kept"
    (line,) = [line for line in alert_lines(paths) if line["cause"] == cause]
    assert trial.reason == f"{cause}: {line['reason']}"


@pytest.mark.parametrize(("behaviour", "cause"), [("collapse", "collapse"), ("lazy", "lazy_policy")])
def test_without_that_it_is_told_and_trained_on(paths, toy, behaviour, cause):
    toy({"0": {"*": behaviour}})
    outcome = run(paths, budget=ONE)
    assert states(outcome) == [COMPLETE]
    assert causes(paths) == [cause, "finished"]


def test_a_supervisor_that_reads_a_curve_again_tells_nothing_twice(paths, toy, hold):
    toy({"0": {"*": "collapse"}})
    hold.at(20)

    def stop():
        wait_until(lambda: "collapse" in causes(paths))
        request_study_stop(paths, "toy")

    helper = threading.Thread(target=stop)
    helper.start()
    assert run(paths, budget=ONE).state == "stopped"
    helper.join()
    hold.release()
    assert states(resume(paths)) == [COMPLETE]
    assert causes(paths) == ["collapse", "stopped", "finished"]


def test_failures_in_a_row_are_told_before_the_study_stops(paths, toy):
    toy({"*": {"*": "failed"}})
    run(paths, {"slots": cpu_slots(1)})
    first, second = alert_lines(paths)
    assert (first["cause"], first["level"]) == ("repeated_failures", "error")
    assert first["reason"] == "2 trials in a row failed in the same way, the last: trial 1: failed: as planned"
    assert (second["cause"], second["level"]) == ("stopped", "error")


# --- GPUs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def gpu_slot(monkeypatch):
    monkeypatch.setattr("vbot_campaign.supervisor.lookout.POLL_S", 0.02)
    return (Slot("gpu:0", "cuda:0", "GPU-aaaa-1111", ThreadSettings()),)


def test_a_gpu_in_trouble_is_told(paths, toy, monkeypatch, gpu_slot, hold):
    hold.at(1)
    hot = pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
    other = FakeGpu("GPU-bbbb-2222", used=80 * GB, celsius=99)
    FakeLibrary(FakeGpu(used=76 * GB, celsius=92, slowdown=hot), other).install(monkeypatch)
    outcome = run(paths, {"slots": gpu_slot, "progress": hold.until("alert", 3)}, budget=ONE)
    assert states(outcome) == [COMPLETE]
    assert [line["reason"] for line in alert_lines(paths)[:3]] == [
        "GPU 0 (NVIDIA Test 80GB): 76.0 of 80.0 GB (95%) of its memory are in use",
        "GPU 0 (NVIDIA Test 80GB): 92 °C, more than 87",
        "GPU 0 (NVIDIA Test 80GB) runs slower than it could: too hot: the hardware halves the clock",
    ]
    assert causes(paths)[3:] == ["finished"]


def test_a_driver_that_never_answers_holds_nothing_up(paths, toy, monkeypatch, gpu_slot):
    library = FakeLibrary(FakeGpu()).install(monkeypatch)
    asked, answer = threading.Event(), threading.Event()

    def hang(count):
        asked.set()
        answer.wait(240)
        return pynvml.NVML_ERROR_TIMEOUT

    monkeypatch.setattr(library, "nvmlDeviceGetCount_v2", hang)
    try:
        assert states(run(paths, {"slots": gpu_slot}, budget=ONE)) == [COMPLETE]
        assert asked.is_set()
    finally:
        answer.set()
        wait_until(lambda: "gpus" not in {thread.name for thread in threading.enumerate()})


# --- messages ---------------------------------------------------------------------------------------------------


def test_alerts_of_a_study_arrive_and_the_address_is_nowhere(paths, toy, monkeypatch):
    toy({"0": {"*": "diverged"}})
    with mailbox() as box:
        monkeypatch.setenv(VARIABLE, box.url)
        run(paths, budget=ONE, alerts={"notify": {"level": "warning"}})
    assert box.titles == ["diverged", "finished"]
    texts = [path.read_bytes() for path in paths.root.rglob("*") if path.is_file()]
    assert len(texts) > 5
    assert not [text for text in texts if b"s3cret" in text]


def test_messages_that_are_refused_disturb_nothing_and_are_told_once(paths, toy, monkeypatch):
    toy({"0": {"*": "diverged"}, "1": {"*": "diverged"}})
    with mailbox(500) as box:
        monkeypatch.setenv(VARIABLE, box.url)
        outcome = run(paths, {"observers": (MirrorExporter(paths, "toy"),)}, budget={"trials": 3})
    assert states(outcome) == [FAILED, FAILED, COMPLETE]
    assert causes(paths).count("notify") == 1
    assert verify(paths, "toy") == []


def test_a_supervisor_that_breaks_says_so_outside(paths, toy, monkeypatch):
    def break_down(self, use):
        raise MemoryError

    with mailbox() as box:
        monkeypatch.setenv(VARIABLE, box.url)
        monkeypatch.setattr("vbot_campaign.supervisor.supervisor.Supervisor._situation", break_down)
        with pytest.raises(MemoryError):
            run(paths)
    (message,) = box.messages
    assert message["message"].startswith("the supervisor ended with an error (MemoryError)")
