"""A small confirmation with real workers: killed in the middle, it ends as one that never was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.campaign import Campaign, kill_everything, progress_lines, stable_lines, tiny_study
from vbot_campaign.campaign.confirm import Confirmed
from vbot_campaign.paths import TrialPaths
from vbot_campaign.spec.study import StudySpec
from vbot_campaign.study import CampaignStudy, load_snapshot, open_storage
from vbot_campaign.study.snapshot import TrialView
from vbot_campaign.study.study import close_readers

STEPS = 36 * 512


def searched(campaign: Campaign) -> None:
    """Store the tiny study as if its two trials had been trained."""
    storage = open_storage(campaign.runs)
    spec = StudySpec.model_validate(tiny_study(env_steps_per_trial=STEPS, budget={"trials": 2}))
    study = CampaignStudy.create(storage, spec)
    for number, score in enumerate((0.3, 0.2)):
        study.ask()
        study.ledger.update_trial(number, env_steps=STEPS)
        study.complete(number, score, {"goal_progress": score}, None)
    study.set_status("finished", "all trials have ended")
    storage.close()


def folder(campaign: Campaign, number: int) -> TrialPaths | None:
    """Return the folder of a trial of the confirmation, or None before it was made."""
    found = sorted(campaign.runs.study("tiny.confirm").trials.glob(f"{number:04d}_*"))
    return TrialPaths(found[0]) if found else None


def trials(campaign: Campaign) -> tuple[TrialView, ...]:
    return load_snapshot(campaign.runs, "tiny.confirm").trials


@pytest.mark.slow
def test_killed_in_the_middle_and_resumed_it_ends_as_one_that_never_was(tmp_path: Path) -> None:
    undisturbed, killed = Campaign(tmp_path / "undisturbed"), Campaign(tmp_path / "killed")
    searched(undisturbed)
    shutil.copytree(undisturbed.folder, killed.folder)
    confirm = ("confirm", "tiny", "--top", "2", "--seeds", "1")
    assert "wins: highest low end" in undisturbed.call(*confirm)

    process = killed.start(*confirm)

    def second_learns() -> bool:
        second = folder(killed, 1)
        return second is not None and len(progress_lines(second)) >= 9

    killed.wait_for(process, second_learns)
    kill_everything(process)
    before = trials(killed)
    assert (before[0].score, before[1].score) == (trials(undisturbed)[0].score, None)
    output = killed.call("resume", "tiny")
    assert "study tiny: goes on with its confirmation, study tiny.confirm; 1 training has ended" in output

    assert trials(killed)[0].attempts == before[0].attempts, "what has ended is not trained again"
    for ours, theirs in zip(trials(killed), trials(undisturbed), strict=True):
        assert (ours.parameters, ours.seed, ours.score, ours.reports) == (
            theirs.parameters,
            theirs.seed,
            theirs.score,
            theirs.reports,
        )
        ended = folder(killed, ours.number), folder(undisturbed, theirs.number)
        assert ended[0] is not None
        assert ended[1] is not None
        assert stable_lines(ended[0]) == stable_lines(ended[1])
    assert [len(trial.attempts) for trial in trials(killed)] == [1, 2]
    found, wanted = (load_snapshot(one.runs, "tiny").confirmed for one in (killed, undisturbed))
    assert found is not None
    assert wanted is not None
    assert Confirmed.from_record(found) == Confirmed.from_record(wanted)
    assert Confirmed.from_record(found).winner is not None
    close_readers()
