"""Campaigns that are killed, stopped and resumed, with toy workers."""

from __future__ import annotations

import random
import signal
import time

import pytest

from tests.support.sharing import kill_family
from tests.support.toy_campaign import NEAR, ToySettings, result, resume, run, start, state_of, trials_of
from tests.support.toy_study import wait_until
from vbot_campaign.campaign.plans import stop_campaign
from vbot_campaign.campaign.view import read_campaign
from vbot_campaign.errors import StudyBusyError, StudyError, StudyNotFoundError
from vbot_campaign.paths import CampaignPaths

GATES = {"near": [0.5, 0.95]}
CONFIRMED = {**NEAR, "confirm": {"top": 2, "seeds": 1}}


def begin(paths: CampaignPaths) -> None:
    """Wait for the first life of a campaign to be killed right after it was stored."""
    process = start(paths, {}, die_before_save=1)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, output


@pytest.mark.slow
@pytest.mark.timeout(1800)  # it starts a dozen processes one after the other
def test_killed_after_every_step_it_ends_with_the_same_result(paths: CampaignPaths, toy: ToySettings) -> None:
    toy(GATES)
    undisturbed = CampaignPaths(paths.root.with_name("undisturbed"))
    run(undisturbed)

    # Each life stores what the one before had done and not stored, does one step more, and dies before it stores that.
    begin(paths)
    lives = 1
    while state_of(paths).word != "finished":
        process = start(paths, None, die_before_save=3)
        output, _ = process.communicate(timeout=300)
        assert process.returncode in (0, -signal.SIGKILL), output
        assert lives < 15, output
        lives += 1

    assert result(paths) == result(undisturbed)
    assert lives == 13, "one for each step, and one that began it"


@pytest.mark.slow
def test_killed_at_random_with_its_workers_it_ends_with_the_same_result(paths: CampaignPaths, toy: ToySettings) -> None:
    toy(GATES, iteration_s=0.01)
    undisturbed = CampaignPaths(paths.root.with_name("undisturbed"))
    stages = {"stages": [CONFIRMED]}
    run(undisturbed, **stages)

    generator, killed = random.Random(7), 0
    begin_with = stages
    while killed < 6:
        process = start(paths, begin_with)
        time.sleep(generator.uniform(0.5, 5.0))
        if process.poll() is not None:
            process.communicate()
            break
        if generator.random() < 0.5:
            kill_family(process)
        else:
            process.kill()  # its workers live on
        process.communicate()
        killed += 1
    run(paths, **stages)

    assert killed > 0
    assert result(paths) == result(undisturbed)


@pytest.mark.parametrize("how", ["stop", "SIGINT"])
def test_stopped_it_leaves_checkpoints_and_can_be_resumed(paths: CampaignPaths, toy: ToySettings, how: str) -> None:
    toy(iteration_s=0.1)
    process = start(paths, {"stages": [{"stage": "near", "train": {"env_steps": 200_000}}]})
    wait_until(lambda: paths.study("toy.near.train").trials.is_dir())
    wait_until(lambda: any(trial.env_steps for trial in trials_of(paths, "near", "train")))
    assert read_campaign(paths, "toy").stages[0].status == "train"
    with pytest.raises(StudyBusyError, match=r"campaign 'toy' is run by another process"):
        resume(paths)

    if how == "stop":
        stop_campaign(paths, "toy")
    else:
        process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)

    assert process.returncode == 0, output
    state = state_of(paths)
    assert state.word == "stopped"
    assert state.reason == ("stopped on request" if how == "stop" else "stopped by SIGINT")
    (trial,) = trials_of(paths, "near", "train")
    assert 0 < trial.env_steps < 200_000
    assert trial.checkpoints
    with pytest.raises(StudyError, match=r"campaign 'toy' is not running .it is stopped: stopped"):
        stop_campaign(paths, "toy")
    toy(iteration_s=0.001)
    assert resume(paths).state == "finished"


def test_stopped_while_the_gate_is_asked_it_asks_again(paths: CampaignPaths, toy: ToySettings, monkeypatch) -> None:
    monkeypatch.setenv("TOY_GATE_S", "600")
    process = start(paths, {"stages": [{**NEAR, "search": None}]})
    wait_until(lambda: len(toy.evaluated()) == 1)

    stop_campaign(paths, "toy")
    output, _ = process.communicate(timeout=300)

    assert process.returncode == 0, output
    assert state_of(paths).stage("near").tries[0].gate is None
    monkeypatch.setenv("TOY_GATE_S", "0")
    assert resume(paths).state == "finished"
    assert len(toy.evaluated()) == 2


def test_one_whose_process_died_shows_as_stopped(paths: CampaignPaths, toy: ToySettings) -> None:
    process = start(paths, {}, die_before_save=2)
    process.communicate(timeout=300)
    view = read_campaign(paths, "toy")
    assert (view.state, view.reason, view.pid) == ("stopped", "whoever ran it has died", None)


def test_unknown_campaigns_are_refused(paths: CampaignPaths, toy: ToySettings) -> None:
    with pytest.raises(StudyNotFoundError, match=r"campaign 'toy': not found. Known campaigns: none yet"):
        resume(paths)
    run(paths, stages=[{"stage": "near", "train": {"env_steps": 10_000}}])
    with pytest.raises(StudyNotFoundError, match=r"campaign 'tyo': not found. Did you mean 'toy'"):
        stop_campaign(paths, "tyo")
