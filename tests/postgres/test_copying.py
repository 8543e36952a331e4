"""Studies copied between files and servers: whole, compared, and never over something that is there."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from tests.support.builders import study_spec
from tests.support.faults import command, refused
from tests.support.large_study import store_large_study
from tests.support.stored_study import store_study
from vbot_campaign.errors import SpecError, StorageError, StudyBusyError, StudyError, StudyNotFoundError
from vbot_campaign.paths import CampaignPaths
from vbot_campaign.study import copying, transfer
from vbot_campaign.study.annotations import change_tags, read_annotations, write_note
from vbot_campaign.study.copying import copy_studies
from vbot_campaign.study.owner import Owner
from vbot_campaign.study.plans import create_plan, load_plan_record, plan_names
from vbot_campaign.study.snapshot import AlertView
from vbot_campaign.study.storage import open_storage
from vbot_campaign.study.study import CampaignStudy, close_readers, load_snapshot, study_names

pytestmark = pytest.mark.postgres


@pytest.fixture
def walk(tmp_path):
    """A finished study in a file, with notes and tags, and a campaign."""
    paths = CampaignPaths(tmp_path / "runs")
    store_study(paths)
    write_note(paths, "walk", 1, "limps")
    change_tags(paths, "walk", 0, add=["good gait"])
    create_plan(paths, "curriculum", {"plan": "curriculum", "stages": [1, 2]}, {"stage": 1})
    return paths


@pytest.fixture
def server(tmp_path, database_url):
    # The same folder: what a copy leaves where it is are the files of the trials.
    return CampaignPaths(tmp_path / "runs", database_url)


def store_unfinished(paths):
    """Store the study ``toy`` with an attempt that nobody ended, an alert, and a value that is no number."""
    storage = open_storage(paths)
    study = CampaignStudy.create(storage, study_spec())
    study.ask()
    study.ledger.open_attempt(0, slot="cpu:0", first_env_step=0)
    study.ledger.update_trial(0, parts={"success_rate": float("nan")})
    study.report(0, 3000, float("nan"))
    study.add_alert(AlertView("2026-01-31T12:00:00Z", "error", "hang", "no env step for 9 s", trial=0))
    study.set_status("running", "")
    study.ledger.end_session(study.ledger.begin_session(Owner.here(), ["cpu:0"], 30.0), 12.5)
    storage.close()


def test_there_and_back_again_everything_is_the_same(walk, server, tmp_path):
    store_unfinished(walk)
    there = copy_studies(str(walk.root), server.storage)
    assert there.studies == {"toy": 1, "walk": 3}
    assert there.campaigns == ("curriculum",)
    back = CampaignPaths(tmp_path / "back")
    copy_studies(server.storage, str(back.root))
    for paths in (server, back):
        assert study_names(paths) == ["toy", "walk"]
        for name in ("toy", "walk"):
            assert repr(load_snapshot(paths, name)) == repr(load_snapshot(walk, name))
        assert read_annotations(paths, "walk") == read_annotations(walk, "walk")
        assert load_plan_record(paths, "curriculum") == load_plan_record(walk, "curriculum")
    close_readers()


def test_the_command_copies_one_study_and_says_so(walk, server, capfd):
    store_unfinished(walk)
    answer = command(capfd, "storage", "copy", walk.database, server.storage, "--study", "walk")
    assert answer.code == 0, answer
    assert answer.output.splitlines()[0] == "copied study walk: 3 trials, compared: the same"
    assert study_names(server) == ["walk"]
    assert plan_names(server) == []


def test_a_study_that_is_there_is_left_alone(walk, server):
    store_study(CampaignPaths(walk.root.parent / "other", server.storage))
    before = load_snapshot(server, "walk")
    with pytest.raises(StudyError, match=r"study 'walk': is in postgresql.* already; nothing was copied"):
        copy_studies(str(walk.root), server.storage)
    assert load_snapshot(server, "walk") == before
    assert plan_names(server) == []


def test_a_study_that_is_running_is_not_copied(walk, server):
    storage = open_storage(walk)
    study = CampaignStudy.open(storage, "walk")
    study.ledger.begin_session(Owner.here(), ["cpu:0"], 30.0)
    storage.close()
    with pytest.raises(StudyBusyError, match="study 'walk': is running; nothing was copied"):
        copy_studies(str(walk.root), server.storage)
    assert study_names(server) == []


def test_a_copy_that_differs_is_found_and_removed(walk, server, monkeypatch):
    whole = transfer.copy_study

    def careless(source, target, name, **options):
        whole(source, target, name, **options)
        CampaignStudy.open(target, name).ledger.update_trial(1, env_steps=7)

    monkeypatch.setattr(copying.transfer, "copy_study", careless)
    with pytest.raises(StorageError, match=r"differs: campaign_trials 1\. It was removed again"):
        copy_studies(str(walk.root), server.storage)
    assert study_names(server) == []


def test_places_that_are_none(walk, server, tmp_path, capfd):
    with pytest.raises(StudyNotFoundError, match="no database there yet"):
        copy_studies(str(tmp_path / "nothing"), server.storage)
    with pytest.raises(StudyNotFoundError, match=r"study 'wlak': not found in .* Did you mean 'walk'\? It has: walk"):
        copy_studies(str(walk.root), server.storage, ["wlak"])
    with pytest.raises(SpecError, match="TO: is where the studies are already"):
        copy_studies(str(walk.root), str(walk.database))
    error = refused(capfd, "storage", "copy", walk.root, "mysql://ada:hunter2@box/campaign")
    assert "TO: mysql is not supported" in error
    assert "hunter2" not in error


def test_a_password_among_the_arguments_is_not_in_the_process_list(tmp_path):
    code = (
        "import sys; from vbot_campaign.cli.secrecy import leave_process_list; leave_process_list(); "
        "print(sys.argv[1:], open('/proc/self/cmdline').read().split(chr(0))[-3:])"
    )
    url = "postgresql://ada:hunter2@box/campaign"
    done = subprocess.run([sys.executable, "-c", code, "copy", url], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"['copy', '{url}'] ['copy', '{url.replace('hunter2', '***')}', '']"


@pytest.mark.slow
def test_five_hundred_trials_are_the_same_there_and_back(server, tmp_path):
    paths = CampaignPaths(tmp_path / "large")
    study = store_large_study(paths, trials=500)
    name = study.spec.study
    study.close()
    began = datetime.now(UTC)
    copy_studies(str(paths.root), server.storage)
    back = CampaignPaths(tmp_path / "back")
    copy_studies(server.storage, str(back.root))
    print(f"there and back in {(datetime.now(UTC) - began).total_seconds():.1f} s")
    assert load_snapshot(back, name).trials == load_snapshot(paths, name).trials
    close_readers()
